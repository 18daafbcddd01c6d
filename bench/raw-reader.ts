import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { serialize } from 'pg-protocol';

const HEADER_BYTES = 5;
const DATA_ROW = 'D'.charCodeAt(0);
const ERROR_RESPONSE = 'E'.charCodeAt(0);
const COMMAND_COMPLETE = 'C'.charCodeAt(0);
const READY_FOR_QUERY = 'Z'.charCodeAt(0);

/** How an answer came. */
export interface Reading {
  readonly bytes: number;
  readonly rows: number;
  readonly seconds: number;
}

/**
 * A session that reads answers as fast as they come and keeps nothing of them: a driver would be
 * measured along with the way of the bytes. It only follows the headers of the messages.
 */
export class RawReader {
  readonly #socket: Socket;
  #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  #bodyLeft = 0;
  #text: Buffer[] = [];
  #onMessage: (type: number, body: string) => void = () => {};
  #fail: (error: Error) => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the connection has ended')));
  }

  /** Logs in as superuser by trust. */
  static async connect(port: number): Promise<RawReader> {
    const socket = connect({ host: '127.0.0.1', port });
    await once(socket, 'connect');
    const reader = new RawReader(socket);
    await reader.#ask(serialize.startup({ user: 'postgres', database: 'postgres' }));
    return reader;
  }

  /** Runs a text and reads its answer to the end. @throws Error with the first error in it */
  query(sql: string): Promise<Reading> {
    return this.#ask(serialize.query(sql));
  }

  /** The same with parameters, in one go of the extended protocol. */
  queryPrepared(sql: string, values: string[]): Promise<Reading> {
    const steps = [
      serialize.parse({ text: sql }),
      serialize.bind({ values }),
      serialize.describe({ type: 'P' }),
      serialize.execute(),
      serialize.sync(),
    ];
    return this.#ask(Buffer.concat(steps));
  }

  /** Ends the session in order. */
  async end(): Promise<void> {
    if (this.#socket.destroyed) return;
    const closed = once(this.#socket, 'close');
    this.#socket.end(serialize.end());
    await closed;
  }

  /** Ends it in the midst of an answer. */
  destroy(): void {
    this.#socket.destroy();
  }

  #ask(packet: Uint8Array): Promise<Reading> {
    const began = process.hrtime.bigint();
    const elapsedMs = () => Number(process.hrtime.bigint() - began) / 1e6;
    const bytesBefore = this.#socket.bytesRead;
    let rows = 0;
    let error: string | undefined;
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      this.#onMessage = (type, body) => {
        if (type === DATA_ROW) rows++;
        if (type === ERROR_RESPONSE) error ??= body.replaceAll('\0', ' ');
        if (type !== READY_FOR_QUERY) return;
        if (error !== undefined) return reject(new Error(error));
        const bytes = this.#socket.bytesRead - bytesBefore;
        resolve({ bytes, rows, seconds: elapsedMs() / 1000 });
      };
      this.#socket.write(packet);
    });
  }

  #take(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#headerBytes < HEADER_BYTES) {
        const copied = chunk.copy(this.#header, this.#headerBytes, at);
        this.#headerBytes += copied;
        at += copied;
        if (this.#headerBytes < HEADER_BYTES) return;
        this.#bodyLeft = this.#header.readInt32BE(1) - 4;
      }
      const end = Math.min(chunk.length, at + this.#bodyLeft);
      if (isText(this.#header[0])) this.#text.push(Buffer.from(chunk.subarray(at, end)));
      this.#bodyLeft -= end - at;
      at = end;
      if (this.#bodyLeft > 0) return;
      this.#headerBytes = 0;
      const body = Buffer.concat(this.#text).toString('utf8');
      this.#text = [];
      this.#onMessage(this.#header[0] ?? 0, body);
    }
  }
}

function isText(type: number | undefined): boolean {
  return type === ERROR_RESPONSE || type === COMMAND_COMPLETE;
}
