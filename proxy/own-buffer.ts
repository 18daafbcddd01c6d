import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { hasStreamInternals, lastReadLength } from './stream-internals.ts';

/** So much is read at a time where there is much to read, as Node.js does it itself. */
const BUFFER_BYTES = 64 * 1024;

/** Enough for small queries. Larger ones for all clients that come at once would bring the garbage collector. */
const FIRST_BUFFER_BYTES = 8 * 1024;

/** What `onread` of net.connect() sets, and what no option sets for a socket that was accepted. */
interface SocketInternals {
  readonly _handle?: {
    useUserBuffer?: (buffer: Uint8Array) => void;
    onread?: (this: unknown, bytesOfNode: unknown) => unknown;
  } | null;
  [field: symbol]: unknown;
}

/**
 * Makes a socket read into one buffer of its own, again and again, and give each chunk to a function in
 * place of `data` events: nothing is allocated for a chunk, and nothing of a stream's machinery runs for
 * it. A chunk is a view that lives until the function returns; pause(), resume() and `end` are as ever.
 * What `onread` of net.connect() does, for any plain socket at any time, by fields of Node.js that are
 * private.
 * @returns false where that cannot be had, as with TLS: nothing was changed then
 * @see https://nodejs.org/api/net.html#socketconnectoptions-connectlistener
 */
export function readIntoOwnBuffer(socket: Socket, take: (chunk: Buffer) => void): boolean {
  const internals = socket as unknown as SocketInternals;
  const handle = internals._handle;
  const fields = Object.getOwnPropertySymbols(socket);
  const [buffer, callback] = ['kBuffer', 'kBufferCb'].map((name) =>
    fields.find(({ description }) => description === name),
  );
  if (socket instanceof TLSSocket || typeof handle?.useUserBuffer !== 'function') return false;
  if (buffer === undefined || callback === undefined) return false;
  // What the socket has read already comes first.
  for (;;) {
    const early = socket.read() as Buffer | null;
    if (early === null) break;
    take(early);
  }
  const canGrow = hasStreamInternals && typeof handle.onread === 'function';
  let bytes = Buffer.allocUnsafeSlow(canGrow ? FIRST_BUFFER_BYTES : BUFFER_BYTES);
  let view = bytes;
  const takeFirst = (length: number) => {
    // Small messages are often as long as the one before: a view costs more than the call.
    if (view.length !== length) view = bytes.subarray(0, length);
    take(view);
  };
  internals[buffer] = bytes;
  internals[callback] = (length: number) => {
    takeFirst(length);
    return true;
  };
  handle.useUserBuffer(bytes);
  if (!canGrow) return true;
  const tellOthers = handle.onread;
  handle.onread = function (this: unknown, bytesOfNode: unknown) {
    const length = lastReadLength();
    if (length <= 0) return tellOthers?.call(this, bytesOfNode);
    takeFirst(length);
    if (length < FIRST_BUFFER_BYTES || bytes.length === BUFFER_BYTES) return undefined;
    bytes = Buffer.allocUnsafeSlow(BUFFER_BYTES);
    internals[buffer] = bytes;
    view = bytes;
    // What is returned is read into from now on.
    return bytes;
  };
  return true;
}
