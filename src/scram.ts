import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import saslprep from '@mongodb-js/saslprep';
import { ProtocolError } from './errors.ts';

/** The one mechanism that we speak, on both sides; without channel binding. */
export const SCRAM_MECHANISM = 'SCRAM-SHA-256';

/** PostgreSQL's own default, for verifiers that we make ourselves. */
export const DEFAULT_ITERATIONS = 4096;

/** A server that wants more would keep us busy for seconds. */
const MAX_ITERATIONS = 1_000_000;
const MAX_SALT_BYTES = 1_024;
const MAX_NONCE_CHARACTERS = 1_024;

const derive = promisify(pbkdf2);

/** What a password comes to with a salt: enough to log in, wherever salt and iterations are the same. */
export interface ScramKeys {
  readonly salt: Buffer;
  readonly iterations: number;
  readonly clientKey: Buffer;
  readonly serverKey: Buffer;
}

/** What a server stores of a password: it can check it, and cannot log in with it. */
export interface ScramVerifier {
  readonly salt: Buffer;
  readonly iterations: number;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

/** Derives the keys of a password: two HMACs behind PBKDF2, outside the main thread. */
export async function scramKeys(
  password: Buffer,
  salt: Buffer,
  iterations: number,
): Promise<ScramKeys> {
  const salted = await derive(prepared(password), salt, iterations, 32, 'sha256');
  return {
    salt,
    iterations,
    clientKey: hmac(salted, 'Client Key'),
    serverKey: hmac(salted, 'Server Key'),
  };
}

/** What a server would store for these keys. */
export function verifierOf({ salt, iterations, clientKey, serverKey }: ScramKeys): ScramVerifier {
  return { salt, iterations, storedKey: sha256(clientKey), serverKey };
}

/**
 * Reads a verifier as pg_authid.rolpassword has it; undefined when it is none.
 * `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, all but the number in base64.
 */
export function parseVerifier(text: string): ScramVerifier | undefined {
  const [, iterations, salt = '', storedKey = '', serverKey = ''] =
    /^SCRAM-SHA-256\$(\d{1,10}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$/.exec(
      text,
    ) ?? [];
  const verifier = {
    salt: Buffer.from(salt, 'base64'),
    iterations: Number(iterations),
    storedKey: Buffer.from(storedKey, 'base64'),
    serverKey: Buffer.from(serverKey, 'base64'),
  };
  const isWhole =
    verifier.iterations > 0 &&
    verifier.salt.length > 0 &&
    verifier.storedKey.length === 32 &&
    verifier.serverKey.length === 32;
  return isWhole ? verifier : undefined;
}

/** Writes a verifier as pg_authid.rolpassword has it. */
export function formatVerifier(verifier: ScramVerifier): string {
  const { salt, iterations, storedKey, serverKey } = verifier;
  const [salt64, stored64, server64] = [salt, storedKey, serverKey].map((bytes) =>
    bytes.toString('base64'),
  );
  return `SCRAM-SHA-256$${iterations}:${salt64}$${stored64}:${server64}`;
}

/**
 * Our side of an exchange in which the server checks us, and we check the server.
 * @see https://www.postgresql.org/docs/current/sasl-authentication.html
 * @see https://www.rfc-editor.org/rfc/rfc5802
 */
export class ScramClientExchange {
  readonly #keysFor: (salt: Buffer, iterations: number) => Promise<ScramKeys>;
  readonly #nonce = newNonce();
  #expected: Buffer | undefined;

  /** @param keysFor gives the keys for what the server names, or throws */
  constructor(keysFor: (salt: Buffer, iterations: number) => Promise<ScramKeys>) {
    this.#keysFor = keysFor;
  }

  /** The first message. The server takes the user's name from the startup packet. */
  begin(): Buffer {
    return Buffer.from(`n,,${this.#firstBare()}`);
  }

  /** Answers the challenge. @throws ProtocolError when that is none, or goes too far */
  async answer(challenge: Buffer): Promise<Buffer> {
    const text = challenge.toString('latin1');
    const [, nonce = '', salt64 = '', count = ''] =
      /^r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=(\d{1,10})$/.exec(text) ?? [];
    if (!nonce.startsWith(this.#nonce) || nonce.length > MAX_NONCE_CHARACTERS)
      throw new ProtocolError('the server sent a SCRAM challenge with a nonce that is not ours');
    if (nonce.length === this.#nonce.length)
      throw new ProtocolError('the server added nothing to the SCRAM nonce');
    const salt = Buffer.from(salt64, 'base64');
    const iterations = Number(count);
    if (salt.length === 0 || salt.length > MAX_SALT_BYTES || iterations < 1)
      throw new ProtocolError('the server sent a malformed SCRAM challenge');
    if (iterations > MAX_ITERATIONS) {
      throw new ProtocolError(
        `the server asks for ${iterations} SCRAM iterations, and ${MAX_ITERATIONS} is the limit`,
      );
    }
    const keys = await this.#keysFor(salt, iterations);
    const withoutProof = `c=biws,r=${nonce}`;
    const authMessage = `${this.#firstBare()},${text},${withoutProof}`;
    const proof = xor(keys.clientKey, hmac(sha256(keys.clientKey), authMessage));
    this.#expected = hmac(keys.serverKey, authMessage);
    return Buffer.from(`${withoutProof},p=${proof.toString('base64')}`);
  }

  /** Whether the server's last message proves that it knows the password's verifier. */
  isGenuine(final: Buffer): boolean {
    const [, signature] = /^v=([A-Za-z0-9+/=]+)$/.exec(final.toString('latin1')) ?? [];
    if (signature === undefined || this.#expected === undefined) return false;
    return isSame(Buffer.from(signature, 'base64'), this.#expected);
  }

  #firstBare(): string {
    return `n=,r=${this.#nonce}`;
  }
}

/** What a client has proved: the keys of its password, and the last message for it. */
export interface ScramProof {
  readonly keys: ScramKeys;
  readonly final: Buffer;
}

/** Our side of an exchange in which we check a client. */
export class ScramServerExchange {
  readonly #verifier: ScramVerifier;
  /** The client's nonce and ours. */
  #nonce = '';
  #header = '';
  #firstBare = '';
  #challenge = '';

  constructor(verifier: ScramVerifier) {
    this.#verifier = verifier;
  }

  /** Takes the client's first message and gives the challenge. @throws ProtocolError */
  challenge(first: Buffer): Buffer {
    const { header, bare, nonce } =
      /^(?<header>[ny],[^,]*,)(?<bare>n=[^,]*,r=(?<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,.*)?)$/s.exec(
        first.toString('latin1'),
      )?.groups ?? {};
    if (header === undefined || bare === undefined || nonce === undefined) throw malformed(first);
    if (header.length > 3)
      throw new ProtocolError('client uses authorization identity, but it is not supported');
    if (nonce.length > MAX_NONCE_CHARACTERS) throw new ProtocolError('SCRAM nonce is too long');
    const { salt, iterations } = this.#verifier;
    this.#header = header;
    this.#firstBare = bare;
    this.#nonce = `${nonce}${newNonce()}`;
    this.#challenge = `r=${this.#nonce},s=${salt.toString('base64')},i=${iterations}`;
    return Buffer.from(this.#challenge, 'latin1');
  }

  /**
   * Takes the client's proof. Its ClientKey comes out of it: sha256 of that is what we store.
   * @returns undefined when the password is wrong @throws ProtocolError
   */
  verify(last: Buffer): ScramProof | undefined {
    const text = last.toString('latin1');
    const at = text.lastIndexOf(',p=');
    const withoutProof = text.slice(0, at);
    const [, binding, nonce] =
      /^c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?$/s.exec(withoutProof) ?? [];
    if (at < 0 || binding === undefined) throw malformed(last);
    if (binding !== Buffer.from(this.#header).toString('base64'))
      throw new ProtocolError('unexpected SCRAM channel-binding attribute in client-final-message');
    if (nonce !== this.#nonce) throw new ProtocolError('SCRAM nonce does not match');
    const proof = Buffer.from(text.slice(at + 3), 'base64');
    if (proof.length !== 32) throw malformed(last);
    const { salt, iterations, storedKey, serverKey } = this.#verifier;
    const authMessage = `${this.#firstBare},${this.#challenge},${withoutProof}`;
    const clientKey = xor(proof, hmac(storedKey, authMessage));
    if (!isSame(sha256(clientKey), storedKey)) return undefined;
    return {
      keys: { salt, iterations, clientKey, serverKey },
      final: Buffer.from(`v=${hmac(serverKey, authMessage).toString('base64')}`),
    };
  }
}

function malformed(message: Buffer): ProtocolError {
  if (message[0] === 'p'.charCodeAt(0)) {
    return new ProtocolError(
      'the client asks for SCRAM with channel binding, which was not offered',
    );
  }
  return new ProtocolError('malformed SCRAM message');
}

function newNonce(): string {
  return randomBytes(18).toString('base64');
}

/** As the server: SASLprep where the password is UTF-8 that it allows, and the bytes as they are elsewhere. */
function prepared(password: Buffer): Buffer {
  if (password.every((byte) => byte < 0x80)) return password;
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(password);
    return Buffer.from(saslprep(text));
  } catch {
    return password;
  }
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text, 'latin1').digest();
}

function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}

function xor(some: Buffer, others: Buffer): Buffer {
  return Buffer.from(some.map((byte, index) => byte ^ (others[index] as number)));
}

function isSame(some: Buffer, others: Buffer): boolean {
  return some.length === others.length && timingSafeEqual(some, others);
}
