import { BackgroundError, ProtocolError } from '../src/index.ts';
import type { ClientConnection } from './client-connection.ts';
import type { ClientTls } from './client-tls.ts';

/** The server's own limit for a startup packet: 10,000 bytes behind the length word. */
const MAX_STARTUP_BYTES = 10_004;
const MIN_CANCEL_BYTES = 16;
const MAX_CANCEL_BYTES = 268;
const SSL_REQUEST = 80877103;
const GSSENC_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;

/** The first byte of a TLS handshake; no packet begins with it, for it would be 350 MB long. */
const TLS_HANDSHAKE = 0x16;

/** What a client begins with. `packet` is as it came. */
export type FirstPacket =
  | {
      readonly kind: 'startup';
      readonly packet: Buffer;
      readonly parameters: ReadonlyMap<string, string>;
    }
  | { readonly kind: 'cancel'; readonly packet: Buffer };

/**
 * Reads what comes before the first typed message: one request each for TLS and for GSSAPI, in which
 * the connection may become encrypted, then a StartupMessage or a CancelRequest.
 * @param tls undefined: TLS is answered with no, and so is GSSAPI always
 * @returns undefined when the client goes away first
 * @throws ProtocolError for anything else
 * @see https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
 */
export async function readFirstPacket(
  client: ClientConnection,
  tls?: ClientTls,
): Promise<FirstPacket | undefined> {
  const asked = new Set<number>();
  for (;;) {
    if (!(await client.reader.fill(1))) return undefined;
    if (client.reader.buffered[0] === TLS_HANDSHAKE && !client.isEncrypted && asked.size === 0) {
      if (tls === undefined) throw new ProtocolError('this proxy does not offer TLS');
      await client.secure(tls, true);
      asked.add(SSL_REQUEST).add(GSSENC_REQUEST);
      continue;
    }
    const packet = await readPacket(client);
    if (packet === undefined) return undefined;
    const code = packet.readInt32BE(4);
    if (code === CANCEL_REQUEST) {
      if (packet.length < MIN_CANCEL_BYTES || packet.length > MAX_CANCEL_BYTES)
        throw new ProtocolError('invalid length of cancel request');
      return { kind: 'cancel', packet };
    }
    if (code === SSL_REQUEST || code === GSSENC_REQUEST) {
      if (packet.length !== 8) throw new ProtocolError('invalid length of encryption request');
      if (asked.has(code)) throw new ProtocolError('encryption was requested twice');
      asked.add(code);
      if (code === SSL_REQUEST && tls !== undefined && !client.isUnixSocket) {
        await answerWithTls(client, tls);
        // As the server: in TLS nothing is negotiated any more.
        asked.add(GSSENC_REQUEST);
      } else {
        client.socket.write('N');
      }
      continue;
    }
    if (code >> 16 !== 3) {
      const asked = `${code >>> 16}.${code & 0xffff}`;
      throw new BackgroundError(
        '0A000',
        `unsupported frontend protocol ${asked}: this proxy speaks 3.x`,
      );
    }
    if (tls?.sslmode === 'require' && !client.isEncrypted && !client.isUnixSocket) {
      throw new BackgroundError('28000', 'this proxy accepts encrypted connections only', {
        hint: 'Connect with sslmode=require, or better with sslmode=verify-full.',
      });
    }
    return { kind: 'startup', packet, parameters: readParameters(packet) };
  }
}

/** Whether a client wants to speak with a walsender: what the server takes for yes, and `database`. */
export function asksForReplication(parameters: ReadonlyMap<string, string>): boolean {
  const value = parameters.get('replication') ?? '';
  return value === 'database' || /^(t|tr|tru|true|y|ye|yes|on|1)$/i.test(value);
}

/** Adds parameters behind the client's own, which stay as they are; none where the server's limit is in the way. */
export function addParameters(
  packet: Buffer,
  parameters: readonly (readonly [string, string])[],
): Buffer {
  const added = Buffer.from(
    `${parameters.map(([name, value]) => `${name}\0${value}\0`).join('')}\0`,
  );
  const longer = Buffer.concat([packet.subarray(0, -1), added]);
  if (longer.length > MAX_STARTUP_BYTES) return packet;
  longer.writeInt32BE(longer.length, 0);
  return longer;
}

async function answerWithTls(client: ClientConnection, tls: ClientTls): Promise<void> {
  // Whoever can write into the connection could have said it before the handshake, to be taken for
  // the client's word behind it.
  if (client.reader.buffered.length > 0)
    throw new ProtocolError('received unencrypted data after SSL request');
  client.socket.write('S');
  await client.secure(tls, false);
}

async function readPacket(client: ClientConnection): Promise<Buffer | undefined> {
  if (!(await client.reader.fill(4))) return undefined;
  const length = client.reader.buffered.readInt32BE(0);
  if (length < 8 || length > MAX_STARTUP_BYTES)
    throw new ProtocolError('invalid length of startup packet');
  return (await client.reader.fill(length)) ? client.reader.take(length) : undefined;
}

/** StartupMessage: int32 length, int32 version, then name and value, zero-terminated, and a last zero. */
function readParameters(packet: Buffer): Map<string, string> {
  const parameters = new Map<string, string>();
  const texts = packet.toString('utf8', 8).split('\0');
  // The last name is empty, and nothing follows it.
  if (texts.length % 2 !== 0 || texts.at(-1) !== '' || texts.at(-2) !== '') {
    throw new ProtocolError('invalid startup packet layout: expected terminator as last byte');
  }
  for (let i = 0; i + 2 < texts.length; i += 2) {
    const name = texts[i] as string;
    // The server stops at an empty name: it must not see other parameters than we do.
    if (name === '') throw new ProtocolError('invalid startup packet layout: empty parameter name');
    parameters.set(name, texts[i + 1] as string);
  }
  return parameters;
}
