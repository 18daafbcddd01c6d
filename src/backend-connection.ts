import type { Socket } from 'node:net';
import { serialize } from 'pg-protocol';
import { Authenticator } from './authenticator.ts';
import type { Credential } from './credential.ts';
import { drained } from './drained.ts';
import { BackgroundError, ProtocolError, ServerError, type ReportFields } from './errors.ts';
import { Exchange, type MessageHandler, type Preface, type TextRows } from './exchange.ts';
import { FrameReader } from './frames.ts';
import {
  cancelRequest,
  executeMessages,
  functionCallMessage,
  parseOnlyMessages,
  queryMessage,
  startupMessage,
  type FunctionCall,
} from './frontend-messages.ts';
import { decodeParameterStatus, decodeReport, MessageType } from './messages.ts';
import { connectToServer, sendCancelRequest, type ServerEndpoint } from './server-socket.ts';

/** Where and as whom to log in. */
export interface LoginTarget {
  readonly server: ServerEndpoint;
  readonly role: string;
  readonly database: string;
}

/** How long the server may take to take a CancelRequest. */
const CANCEL_TIMEOUT_MS = 10_000;

/**
 * One authenticated connection of the engine's own: raw messages in and out, one exchange after the
 * other. Text is the bytes of the database's encoding. Whoever opened it closes it.
 * @see https://www.postgresql.org/docs/current/protocol-flow.html
 */
export class BackendConnection {
  readonly target: LoginTarget;
  readonly parameters = new Map<string, string>();
  /** Settles when the connection is gone; the error says why, if it was not closed here. */
  readonly closed: Promise<Error | undefined>;
  onNotice: (notice: ReportFields) => void = () => {};
  /** Puts an ErrorResponse or NoticeResponse right, before anybody sees it. */
  cleanReport: (frame: Buffer) => Buffer = (frame) => frame;
  /** Called at each ReadyForQuery. */
  onReady: () => void = () => {};
  readonly #socket: Socket;
  readonly #authenticator: Authenticator;
  #pid = 0;
  #secret: Buffer = Buffer.alloc(0);
  #exchanges: Exchange[] = [];
  #end: Error | undefined;
  /** Not to be used any more: closed, or told by the server that it will be. */
  #isClosed = false;
  #wasClosedHere = false;
  #pauses = 0;
  #lastError: ServerError | undefined;

  private constructor(target: LoginTarget, credential: Credential | undefined, socket: Socket) {
    this.target = target;
    this.#socket = socket;
    this.#authenticator = new Authenticator(target.role, credential);
    const reader = new FrameReader((type, frame) => this.#receive(type, frame));
    socket.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk);
      } catch (error) {
        this.#giveUp(error as Error);
      }
    });
    socket.on('end', () => socket.end());
    socket.on('error', (cause) => {
      this.#end ??= new BackgroundError(
        '08006',
        `connection to the server was lost: ${cause.message}`,
        {
          cause,
        },
      );
    });
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        const lost = this.#lastError ?? this.#end;
        this.#isClosed = true;
        for (const exchange of this.#exchanges.splice(0)) exchange.lost(lost);
        resolve(
          this.#wasClosedHere
            ? undefined
            : (lost ?? new BackgroundError('08006', 'connection lost')),
        );
      });
    });
  }

  /**
   * Logs in and waits for the first ReadyForQuery.
   * @throws ServerError with the server's refusal, BackgroundError 08001 when it cannot be reached,
   * 28000 when it asks for what we do not have, ProtocolError when it cheats.
   */
  static async open(
    target: LoginTarget,
    credential: Credential | undefined,
    parameters: Readonly<Record<string, string>>,
    timeoutMs: number,
  ): Promise<BackendConnection> {
    const deadline = Date.now() + timeoutMs;
    const socket = await connectToServer(target.server, timeoutMs);
    const connection = new BackendConnection(target, credential, socket);
    const timer = setTimeout(() => {
      connection.#giveUp(
        new BackgroundError('08001', `the server did not answer the login within ${timeoutMs} ms`),
      );
    }, deadline - Date.now());
    try {
      const loggedIn = connection.#expect();
      socket.write(
        // Unless it is told otherwise: bytes pass in both directions as the database has them.
        startupMessage({
          user: target.role,
          database: target.database,
          client_encoding: 'SQL_ASCII',
          ...parameters,
        }),
      );
      await loggedIn;
      return connection;
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The process ID of the backend, from BackendKeyData. */
  get pid(): number {
    return this.#pid;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /**
   * Runs SQL by the simple protocol. The promise fails with the first error, after ReadyForQuery.
   * @param preface runs before, and is sent in the same write
   */
  query(sql: string | Buffer, handler?: MessageHandler, preface?: Preface): Promise<TextRows> {
    if (preface === undefined || this.#isClosed) return this.#send(queryMessage(sql), handler);
    this.#expect().then(preface.ended, (error: unknown) => {
      if (this.#isClosed) return;
      preface.ended();
      // It was meant for the SQL.
      if (error instanceof ServerError && error.fields.code === '57014') void this.cancel();
    });
    return this.#send(Buffer.concat([queryMessage(preface.sql), queryMessage(sql)]), handler);
  }

  /** Runs texts one after the other, each in a transaction of its own, and sends them in one go. Their rows are dropped. */
  async queryEach(texts: readonly string[]): Promise<void> {
    const [failed] = (await this.#sendEach(texts.map(queryMessage))).filter(
      (outcome): outcome is PromiseRejectedResult => outcome.status === 'rejected',
    );
    if (failed !== undefined) throw failed.reason;
  }

  /**
   * Runs a text, if there is one, and calls functions behind it: that leaves the text in pg_stat_activity.
   * @returns what each function gives, as text; undefined for one that fails
   */
  async queryAndCall(
    text: string | undefined,
    calls: readonly FunctionCall[],
  ): Promise<(string | null | undefined)[]> {
    const query = text === undefined ? [] : [queryMessage(text)];
    const outcomes = await this.#sendEach([...query, ...calls.map(functionCallMessage)]);
    const [queried] = outcomes.splice(0, query.length);
    if (queried?.status === 'rejected') throw queried.reason;
    if (this.#isClosed) throw this.#whyClosed;
    return outcomes.map((outcome) =>
      outcome.status === 'fulfilled' ? outcome.value[0]?.[0] : undefined,
    );
  }

  /** Sends messages that begin an exchange each, in one go. @returns how they have ended, when all have */
  async #sendEach(messages: readonly Buffer[]): Promise<PromiseSettledResult<TextRows>[]> {
    if (this.#isClosed) throw this.#whyClosed;
    const outcomes = messages.map(() => this.#expect());
    if (messages.length > 0) this.#socket.write(Buffer.concat(messages));
    return Promise.allSettled(outcomes);
  }

  /** Parses SQL and does not run it: the server's own word on its syntax. */
  async parseOnly(sql: Buffer): Promise<void> {
    await this.#send(parseOnlyMessages(sql), undefined);
  }

  /** Prepares a named statement; ASCII only. */
  async prepare(name: string, text: string): Promise<void> {
    await this.#send(
      Buffer.concat([serialize.parse({ name, text, types: [] }), serialize.sync()]),
      undefined,
    );
  }

  /** Executes a prepared statement. A Buffer is sent in binary format. */
  execute(name: string, values: (string | Buffer | null)[]): Promise<TextRows> {
    return this.#send(
      Buffer.concat([...executeMessages(name, values), serialize.sync()]),
      undefined,
    );
  }

  /**
   * Executes a prepared statement once for each list of values, in one transaction and few writes.
   * When the signal aborts, or the lists fail, nothing of it is committed and the connection is gone;
   * once everything is sent, the transaction takes its course.
   */
  async executeMany(
    name: string,
    lists: AsyncIterable<(string | Buffer | null)[]>,
    signal: AbortSignal,
  ): Promise<void> {
    const done = this.#expect();
    done.catch(() => {}); // seen by the await below, unless the loop itself fails first
    const cut = () => {
      void this.cancel();
      this.abort();
    };
    signal.addEventListener('abort', cut);
    try {
      for await (const values of lists) {
        if (this.#isClosed) break;
        for (const message of executeMessages(name, values)) {
          this.#socket.write(message);
          await drained(this.#socket);
        }
        signal.throwIfAborted();
      }
    } catch (error) {
      // A Sync would commit what was executed so far.
      this.abort();
      throw error;
    } finally {
      signal.removeEventListener('abort', cut);
    }
    signal.throwIfAborted();
    if (!this.#isClosed) this.#socket.write(serialize.sync());
    await done;
  }

  /** Stops reading until resume() was called as often: what the server sends then waits in the network. */
  pause(): void {
    if (this.#pauses++ === 0) this.#socket.pause();
  }

  resume(): void {
    if (--this.#pauses === 0) this.#socket.resume();
  }

  /** Sends a CancelRequest and waits until the server has taken it. */
  async cancel(): Promise<void> {
    const request = cancelRequest(this.#pid, this.#secret);
    await sendCancelRequest(this.target.server, request, CANCEL_TIMEOUT_MS).catch(() => {});
  }

  /** An answer of the server, which has so long for it: later the connection is given up. */
  async answersWithin<T>(timeoutMs: number, answer: Promise<T>): Promise<T> {
    const timer = setTimeout(() => this.abort(), timeoutMs);
    try {
      return await answer;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Gives the connection up without a word: the server does not answer. */
  abort(): void {
    this.#giveUp(new BackgroundError('08006', 'the server does not answer'));
  }

  /** Says Terminate and waits until the connection is gone. */
  async close(): Promise<void> {
    if (!this.#wasClosedHere) {
      this.#wasClosedHere = true;
      this.#isClosed = true;
      this.#socket.resume();
      if (this.#socket.writable) this.#socket.end(serialize.end());
    }
    const timer = setTimeout(() => this.#socket.destroy(), 5_000);
    await this.closed;
    clearTimeout(timer);
  }

  #send(bytes: Buffer, handler: MessageHandler | undefined): Promise<TextRows> {
    if (this.#isClosed) {
      return Promise.reject(this.#whyClosed);
    }
    const outcome = this.#expect(handler);
    this.#socket.write(bytes);
    return outcome;
  }

  get #whyClosed(): Error {
    return this.#lastError ?? this.#end ?? new BackgroundError('08006', 'connection is closed');
  }

  #expect(handler?: MessageHandler): Promise<TextRows> {
    const exchange = new Exchange(handler);
    this.#exchanges.push(exchange);
    return exchange.outcome;
  }

  #receive(type: number, frame: Buffer): void {
    const exchange = this.#exchanges[0];
    if (type === MessageType.errorResponse || type === MessageType.noticeResponse)
      frame = this.cleanReport(frame);
    exchange?.take(type, frame);
    switch (type) {
      case MessageType.errorResponse: {
        const error = new ServerError(decodeReport(frame));
        this.#lastError = error;
        if (error.fields.severity !== 'ERROR') this.#isClosed = true;
        exchange?.failed(error);
        break;
      }
      case MessageType.noticeResponse:
        this.onNotice(decodeReport(frame));
        break;
      case MessageType.parameterStatus: {
        const { name, value } = decodeParameterStatus(frame);
        this.parameters.set(name, value);
        break;
      }
      case MessageType.copyInResponse:
        // Nobody is there who could send data: the server must not wait for it.
        this.#socket.write(serialize.copyFail('COPY protocol not allowed in pg_background'));
        break;
      case MessageType.backendKeyData:
        this.#pid = frame.readInt32BE(5);
        this.#secret = Buffer.from(frame.subarray(9));
        break;
      case MessageType.authentication:
        Promise.resolve(this.#authenticator.take(frame)).then(
          (answer) => void (answer !== undefined && this.#socket.write(answer)),
          (error: Error) => this.#giveUp(error),
        );
        break;
      case MessageType.readyForQuery: {
        if (!this.#authenticator.isAccepted)
          throw new ProtocolError('ReadyForQuery from the server before AuthenticationOk');
        this.#exchanges.shift();
        this.onReady();
        this.#lastError = undefined;
        if (exchange === undefined)
          throw new ProtocolError('ReadyForQuery from the server without a query');
        exchange.ready();
        break;
      }
      default:
        break;
    }
  }

  /** Ends the connection for a reason of ours, or for what the server has done. */
  #giveUp(reason: Error): void {
    this.#end ??= reason;
    this.#socket.destroy();
  }
}
