import type { Socket } from 'node:net';
import { ProtocolError } from '../src/index.ts';

/** The server's own limit for a startup packet. */
const MAX_STARTUP_BYTES = 10_000;
const MAX_CANCEL_BYTES = 268;
const SSL_REQUEST = 80877103;
const GSSENC_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;

/** What a client begins with. `packet` is as it came; `rest` arrived behind it. */
export type FirstPacket =
  | {
      readonly kind: 'startup';
      readonly packet: Buffer;
      readonly parameters: ReadonlyMap<string, string>;
      readonly rest: Buffer;
    }
  | { readonly kind: 'cancel'; readonly packet: Buffer };

/**
 * Reads what comes before the first typed message: any number of encryption requests, which are
 * answered with N, then a StartupMessage or a CancelRequest.
 * @returns undefined when the client goes away first
 * @throws ProtocolError for anything else
 * @see https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
 */
export async function readFirstPacket(client: Socket): Promise<FirstPacket | undefined> {
  let bytes: Buffer = Buffer.alloc(0);
  for (;;) {
    while (bytes.length < 4 || bytes.length < startupLength(bytes)) {
      const more = await nextChunk(client);
      if (more === undefined) return undefined;
      bytes = bytes.length === 0 ? more : Buffer.concat([bytes, more]);
    }
    const length = startupLength(bytes);
    const packet = bytes.subarray(0, length);
    const code = packet.readInt32BE(4);
    bytes = bytes.subarray(length);
    if (code === CANCEL_REQUEST) {
      if (length < 16 || length > MAX_CANCEL_BYTES)
        throw new ProtocolError('invalid length of cancel request');
      return { kind: 'cancel', packet };
    }
    if (code === SSL_REQUEST || code === GSSENC_REQUEST) {
      if (length !== 8) throw new ProtocolError('invalid length of encryption request');
      client.write('N');
      continue;
    }
    if (code >> 16 !== 3) {
      throw new ProtocolError(
        `unsupported frontend protocol ${code >> 16}.${code & 0xffff}: this proxy speaks 3.x`,
      );
    }
    return { kind: 'startup', packet, parameters: readParameters(packet), rest: bytes };
  }
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

function startupLength(bytes: Buffer): number {
  const length = bytes.readInt32BE(0);
  if (length < 8 || length > MAX_STARTUP_BYTES)
    throw new ProtocolError('invalid length of startup packet');
  return length;
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

/** The next bytes of a socket, which stays paused between calls; undefined at its end. */
function nextChunk(socket: Socket): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const finish = (chunk: Buffer | undefined) => {
      socket.off('data', finish);
      socket.off('end', atEnd);
      socket.off('close', atEnd);
      socket.pause();
      resolve(chunk);
    };
    const atEnd = () => finish(undefined);
    if (socket.destroyed || socket.readableEnded) return resolve(undefined);
    socket.on('data', finish);
    socket.on('end', atEnd);
    socket.on('close', atEnd);
    socket.resume();
  });
}
