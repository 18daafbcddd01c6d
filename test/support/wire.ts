import { connect, type Socket } from 'node:net';
import { serialize } from 'pg-protocol';

/** A message as it came: its type letter and its body. */
export interface RawMessage {
  readonly type: string;
  readonly body: Buffer;
}

/** A client that speaks raw messages, and keeps all that it was sent. */
export class RawClient {
  readonly socket: Socket;
  readonly messages: RawMessage[] = [];
  #bytes: Buffer = Buffer.alloc(0);
  #taken = 0;
  #isEnded = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#isEnded = true;
      this.#wake();
    });
  }

  /** Speaks on a connection that somebody else has made, inside TLS for one. */
  static over(socket: Socket): RawClient {
    return new RawClient(socket);
  }

  /** Connects, and says nothing yet. */
  static async connect(port: number, host = '127.0.0.1'): Promise<RawClient> {
    const socket = connect({ host, port });
    await new Promise<void>((resolve, reject) =>
      socket.once('connect', resolve).once('error', reject),
    );
    return new RawClient(socket);
  }

  /** Connects and logs in by trust; settles at the first ReadyForQuery. */
  static async login(port: number, parameters: Record<string, string>): Promise<RawClient> {
    const client = await RawClient.connect(port);
    client.listen();
    client.socket.write(serialize.startup(parameters));
    await client.until('Z');
    return client;
  }

  /** Starts to cut what comes into messages. */
  listen(): void {
    this.socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      while (this.#bytes.length >= 5 && this.#bytes.length > this.#bytes.readInt32BE(1)) {
        const end = this.#bytes.readInt32BE(1) + 1;
        this.messages.push({
          type: String.fromCharCode(this.#bytes[0] as number),
          body: this.#bytes.subarray(5, end),
        });
        this.#bytes = this.#bytes.subarray(end);
      }
      this.#wake();
    });
  }

  /** The messages since the last call, up to and with the first of a type. */
  until(type: string): Promise<RawMessage[]> {
    return this.untilOneOf(type);
  }

  /** The messages since the last call, up to and with the first of one of the types. */
  async untilOneOf(types: string): Promise<RawMessage[]> {
    for (;;) {
      const at = this.messages.findIndex(
        (message, index) => index >= this.#taken && types.includes(message.type),
      );
      if (at >= 0) {
        const found = this.messages.slice(this.#taken, at + 1);
        this.#taken = at + 1;
        return found;
      }
      if (this.#isEnded) throw new Error(`connection ended before a message ${types}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** The process ID of the backend, as BackendKeyData told it. */
  get pid(): number {
    return this.messages.find(({ type }) => type === 'K')?.body.readInt32BE(0) ?? 0;
  }

  /** Runs a simple query and gives all messages of its answer. */
  async query(sql: string): Promise<RawMessage[]> {
    this.socket.write(serialize.query(sql));
    return this.until('Z');
  }

  /** Settles when the other side has closed the connection. */
  async closed(): Promise<void> {
    while (!this.#isEnded) await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  async end(): Promise<void> {
    this.socket.end(serialize.end());
    this.socket.resume();
    await this.closed();
  }
}

/** The fields of an ErrorResponse or NoticeResponse by their letters. */
export function fieldsOf({ body }: RawMessage): Record<string, string> {
  return Object.fromEntries(
    body
      .toString('utf8')
      .split('\0')
      .filter((field) => field !== '')
      .map((field) => [field[0], field.slice(1)]),
  ) as Record<string, string>;
}
