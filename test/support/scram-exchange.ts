import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { serialize } from 'pg-protocol';
import { bytes, int32, message, zeroTerminated } from './messages.ts';
import type { RawClient, RawMessage } from './wire.ts';

const AUTHENTICATION_SASL = 10;
const AUTHENTICATION_SASL_CONTINUE = 11;

const NOTHING_SHOWN = { salt: '', iterations: 0, serverNonce: '' };

/** How a client goes about SCRAM-SHA-256. */
export interface ScramChoices {
  readonly user: string;
  readonly database: string;
  readonly password: string;
  /** The GS2 header, `n,,` by default. */
  readonly gs2?: string;
  readonly mechanism?: string;
  /** What the proof says that the GS2 header was; the same by default. */
  readonly boundTo?: string;
  /** What the proof says that the nonce was. */
  readonly alterNonce?: (nonce: string) => string;
}

/** All that a client is told in an exchange. */
export interface ScramExchange {
  /** The mechanisms that were offered. */
  readonly mechanisms: readonly string[];
  readonly salt: string;
  readonly iterations: number;
  /** The server's part of the nonce. */
  readonly serverNonce: string;
  /** What follows the proof, or ended the exchange before it. */
  readonly end: readonly RawMessage[];
}

/**
 * Logs in by SCRAM-SHA-256 as RFC 5802 has it, up to ReadyForQuery or the refusal.
 * @see https://www.postgresql.org/docs/current/sasl-authentication.html
 */
export async function exchangeScram(
  client: RawClient,
  {
    user,
    database,
    password,
    gs2 = 'n,,',
    mechanism = 'SCRAM-SHA-256',
    boundTo = gs2,
    alterNonce = (nonce) => nonce,
  }: ScramChoices,
): Promise<ScramExchange> {
  client.listen();
  client.socket.write(serialize.startup({ user, database }));
  const offer = (await client.untilOneOf('RE')).at(-1) as RawMessage;
  if (offer.type !== 'R' || offer.body.readInt32BE(0) !== AUTHENTICATION_SASL) {
    return { mechanisms: [], ...NOTHING_SHOWN, end: [offer] };
  }
  const mechanisms = offer.body
    .toString('latin1', 4)
    .split('\0')
    .filter((name) => name !== '');
  const nonce = randomBytes(18).toString('base64');
  const bare = `n=,r=${nonce}`;
  const first = bytes(`${gs2}${bare}`);
  client.socket.write(message('p', zeroTerminated(mechanism), int32(first.length), first));
  const challenge = (await client.untilOneOf('RE')).at(-1) as RawMessage;
  if (challenge.type !== 'R' || challenge.body.readInt32BE(0) !== AUTHENTICATION_SASL_CONTINUE) {
    return { mechanisms, ...NOTHING_SHOWN, end: [challenge] };
  }
  const serverFirst = challenge.body.toString('latin1', 4);
  const { r = '', s: salt = '', i = '' } = attributesOf(serverFirst);
  if (!r.startsWith(nonce)) throw new Error('the nonce is not ours');
  const iterations = Number(i);
  const withoutProof = `c=${Buffer.from(boundTo).toString('base64')},r=${alterNonce(r)}`;
  const authMessage = `${bare},${serverFirst},${withoutProof}`;
  const salted = pbkdf2Sync(password, Buffer.from(salt, 'base64'), iterations, 32, 'sha256');
  const clientKey = hmac(salted, 'Client Key');
  const signature = hmac(createHash('sha256').update(clientKey).digest(), authMessage);
  const proof = Buffer.from(clientKey.map((byte, at) => byte ^ (signature[at] as number)));
  client.socket.write(message('p', bytes(`${withoutProof},p=${proof.toString('base64')}`)));
  const end = await client.untilOneOf('ZE');
  const final = end.find(({ type }) => type === 'R');
  if (final !== undefined) {
    const { v } = attributesOf(final.body.toString('latin1', 4));
    if (v !== hmac(hmac(salted, 'Server Key'), authMessage).toString('base64')) {
      throw new Error('the server has not proved that it knows the verifier');
    }
  }
  return { mechanisms, salt, iterations, serverNonce: r.slice(nonce.length), end };
}

/** A verifier as PostgreSQL keeps it, of a password of ASCII. */
export function scramVerifier(password: string, iterations = 4096): string {
  const salt = randomBytes(16);
  const salted = pbkdf2Sync(password, salt, iterations, 32, 'sha256');
  const storedKey = createHash('sha256').update(hmac(salted, 'Client Key')).digest('base64');
  const serverKey = hmac(salted, 'Server Key').toString('base64');
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${storedKey}:${serverKey}`;
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

function attributesOf(text: string): Record<string, string> {
  return Object.fromEntries(
    text.split(',').map((attribute) => [attribute[0], attribute.slice(2)]),
  ) as Record<string, string>;
}
