import type { Socket } from 'node:net';
import { ProtocolError } from '../src/index.ts';

/** The server's own limit for password and SASL messages. */
const MAX_MESSAGE_BYTES = 65_535;

/** A message of the client: its type byte and its body. */
export interface ClientMessage {
  readonly type: number;
  readonly body: Buffer;
}

/**
 * Reads a client piece by piece, before its session is relayed. Between two reads the socket is
 * paused; what has arrived and was not taken belongs to whoever comes next.
 */
export class ClientReader {
  readonly #socket: Socket;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** What has arrived and was not taken. */
  get buffered(): Buffer {
    return this.#bytes;
  }

  /** Waits until so many bytes are there; false when the client goes away first. */
  async fill(count: number): Promise<boolean> {
    while (this.#bytes.length < count) {
      const more = await nextChunk(this.#socket);
      if (more === undefined) return false;
      this.#bytes = this.#bytes.length === 0 ? more : Buffer.concat([this.#bytes, more]);
    }
    return true;
  }

  /** Takes bytes that are there. */
  take(count: number): Buffer {
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  /**
   * Notices when the client goes away while nobody reads it, until `stop` is called. What it says
   * meanwhile is kept, up to the size of a message.
   */
  watch(): { readonly gone: AbortSignal; stop(): void } {
    const controller = new AbortController();
    const socket = this.#socket;
    const onData = (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      if (this.#bytes.length > MAX_MESSAGE_BYTES) socket.pause();
    };
    const onGone = () => controller.abort();
    socket.on('data', onData).on('end', onGone).on('close', onGone);
    if (socket.destroyed || socket.readableEnded) onGone();
    socket.resume();
    return {
      gone: controller.signal,
      stop: () => {
        socket.off('data', onData).off('end', onGone).off('close', onGone);
        socket.pause();
      },
    };
  }

  /**
   * Reads one message of the login; undefined when the client goes away first.
   * @throws ProtocolError when it is longer than the server would take
   */
  async message(): Promise<ClientMessage | undefined> {
    if (!(await this.fill(5))) return undefined;
    const length = this.#bytes.readInt32BE(1);
    if (length < 4 || length > MAX_MESSAGE_BYTES)
      throw new ProtocolError('invalid length of password message');
    if (!(await this.fill(1 + length))) return undefined;
    const frame = this.take(1 + length);
    return { type: frame[0] as number, body: frame.subarray(5) };
  }
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
