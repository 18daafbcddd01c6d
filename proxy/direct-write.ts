import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import {
  hasStreamInternals,
  newWriteRequest,
  wasWrittenAtOnce,
  type WriteRequest,
} from './stream-internals.ts';

/** What lies below a plain socket. */
interface SocketHandle {
  /** Gives 0, or the code of an error; for a handle that is closed something else than 0, too. */
  writeBuffer(request: WriteRequest, bytes: Buffer): number | undefined;
}

/** What waits in the socket's stream; `writableLength` gives it, by a longer way. */
interface WritableState {
  readonly length: number;
}

/**
 * Writes to a socket without the machinery of streams, as long as the system takes at once what it is
 * given, as it does unless the other side reads slowly. What it has not taken, and what comes behind it,
 * goes the way of all writes, and so do errors. Others may write to the socket as ever: order is kept.
 */
export class DirectWriter {
  readonly #socket: Socket;
  readonly #handle: SocketHandle;
  readonly #stream: WritableState;
  /** Nothing is kept in it of a write that was done at once. */
  #request = newWriteRequest();
  #isRestPending = false;

  private constructor(socket: Socket, handle: SocketHandle, stream: WritableState) {
    this.#socket = socket;
    this.#handle = handle;
    this.#stream = stream;
  }

  /** One for a socket that is connected; undefined where that cannot be had, as with TLS. */
  static of(socket: Socket): DirectWriter | undefined {
    const { _handle: handle, _writableState: stream } = socket as unknown as {
      _handle?: Partial<SocketHandle> | null;
      _writableState?: Partial<WritableState>;
    };
    if (!hasStreamInternals || socket instanceof TLSSocket) return undefined;
    if (typeof handle?.writeBuffer !== 'function' || typeof stream?.length !== 'number')
      return undefined;
    return new DirectWriter(socket, handle as SocketHandle, stream as WritableState);
  }

  /** The bytes must stay as they are while the writer is behind. */
  write(bytes: Buffer): void {
    if (this.#isRestPending || this.#stream.length > 0) return void this.#socket.write(bytes);
    const error = this.#handle.writeBuffer(this.#request, bytes);
    // The stream meets the same error, and has those who handle it.
    if (error !== 0) return void this.#socket.write(bytes);
    if (!wasWrittenAtOnce()) this.#awaitRest(bytes);
  }

  /** Whether the system has not taken everything yet. */
  get isBehind(): boolean {
    return this.#isRestPending || this.#stream.length > 0;
  }

  /**
   * What comes behind the rest waits in the stream: below it, it would never be heard of again when the
   * rest fails.
   */
  #awaitRest(bytes: Buffer): void {
    const socket = this.#socket;
    this.#isRestPending = true;
    socket.cork();
    this.#request.oncomplete = (status) => {
      this.#isRestPending = false;
      if (status < 0) socket.write(bytes);
      socket.uncork();
    };
    this.#request = newWriteRequest();
  }
}
