import type { Socket } from 'node:net';
import {
  frameOf,
  MessageType,
  MAY_BE_MISPLACED,
  MISPLACED_DEFAULTS,
  ProtocolError,
  type OpenedSession,
  type StartupParameter,
} from '../src/index.ts';
import { connectToServer, type ServerTarget } from './server-connection.ts';
import { addParameters } from './startup.ts';

/** A session that has logged in, and what is still to be passed on. Both sockets are paused. */
export interface SessionLogin {
  readonly server: Socket;
  /** What the server has said since it accepted the session, or refused it. */
  readonly fromServer: Buffer;
  /** What the client has said meanwhile. */
  readonly fromClient: readonly Buffer[];
}

/** A server that says more than this while a session starts is not understood: all of it passes. */
const MAX_LOGIN_BYTES = 256 * 1024;

/**
 * Starts a session with the defaults of the API's settings as startup parameters. Whether they are in
 * the way of others can be asked only in the session itself. If they are, which is rare and
 * remembered, the session is started once more without those; the client sees only the last start.
 *
 * Authentication passes both ways. Where it took more than a word of the server, the proxy cannot
 * repeat it, and does not ask.
 * @returns undefined when the client has gone
 */
export async function logIn(
  client: Socket,
  startup: { readonly packet: Buffer; readonly rest: Buffer },
  opened: OpenedSession,
  target: ServerTarget,
): Promise<SessionLogin | undefined> {
  const fromClient: Buffer[] = startup.rest.length > 0 ? [startup.rest] : [];
  const { defaults } = opened;
  for (let isFirst = true; ; isFirst = false) {
    const server = await connectToServer(target);
    const given = defaults.parameters();
    const attempt = new LoginAttempt(client, server, fromClient, isFirst && !defaults.isClear());
    const marked = addParameters(startup.packet, opened.parameters);
    const outcome = await attempt.run(addParameters(marked, given)).catch((error: unknown) => {
      server.destroy();
      throw error;
    });
    if (client.destroyed) {
      server.destroy();
      return undefined;
    }
    if (outcome === 'clear') defaults.clear();
    else if (outcome !== undefined) defaults.note(outcome);
    if (outcome !== undefined && !haveSameNames(given, defaults.parameters())) {
      await terminate(server);
      continue;
    }
    return { server, fromServer: attempt.kept, fromClient };
  }
}

function haveSameNames(some: readonly StartupParameter[], others: readonly StartupParameter[]) {
  return some.map(([name]) => name).join() === others.map(([name]) => name).join();
}

/** Ends a session in order, so that its place is free when this settles. */
async function terminate(server: Socket): Promise<void> {
  const closed = new Promise((resolve) => server.once('close', resolve));
  server.on('error', () => {});
  server.end(frameOf(TERMINATE, Buffer.alloc(0)));
  server.resume();
  const timer = setTimeout(() => server.destroy(), TERMINATE_TIMEOUT_MS);
  await closed;
  clearTimeout(timer);
}

/** How long a server may take to end a session that was started in vain. */
const TERMINATE_TIMEOUT_MS = 5_000;

const TERMINATE = 'X'.charCodeAt(0);
const PASSWORD = 'p'.charCodeAt(0);

/** What the session said of the defaults: they are in nobody's way, or these names are; undefined when it was not asked. */
type Outcome = 'clear' | readonly string[] | undefined;

type State = 'authenticating' | 'starting' | 'asking' | 'done';

/**
 * One start of a session at the server, up to the moment in which the client may be told of it.
 *
 * `authenticating`: what the server asks and the client answers passes.
 * `starting`: the server has accepted the session; what it says is kept from now on.
 * `asking`: it is ready, and is asked whether defaults may be misplaced, and if so, which.
 * `done`: all that comes is kept, and the sockets are paused.
 */
class LoginAttempt {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #fromClient: Buffer[];
  readonly #isAsking: boolean;
  #state: State = 'authenticating';
  #wasAsked = false;
  #pending: Buffer = Buffer.alloc(0);
  #kept: Buffer[] = [];
  #keptBytes = 0;
  #question = '';
  #answer: string[] | undefined;
  #outcome: Outcome;
  #finish: () => void = () => {};

  /** @param fromClient gets what the client says and the server is not to hear yet */
  constructor(client: Socket, server: Socket, fromClient: Buffer[], isAsking: boolean) {
    this.#client = client;
    this.#server = server;
    this.#fromClient = fromClient;
    this.#isAsking = isAsking;
  }

  /** What the client is to be told: the beginning of the session, or why there is none. */
  get kept(): Buffer {
    return Buffer.concat([...this.#kept, this.#pending]);
  }

  /** Settles when the login is decided, or a socket is gone. */
  async run(packet: Buffer): Promise<Outcome> {
    const [client, server] = [this.#client, this.#server];
    let failure: unknown;
    let finish: (error?: unknown) => void = () => {};
    const decided = new Promise<void>((resolve) => {
      finish = (error) => {
        failure ??= error;
        this.#state = 'done';
        resolve();
      };
    });
    this.#finish = () => finish();
    const onServerData = (chunk: Buffer) => {
      try {
        this.#takeFromServer(chunk);
      } catch (error) {
        finish(error);
      }
    };
    const onClientData = (chunk: Buffer) => this.#takeFromClient(chunk);
    const onEnd = () => server.end();
    const onClose = () => finish();
    server.on('error', () => {}); // 'close' follows
    server.on('data', onServerData).on('end', onEnd).on('close', onClose);
    client.on('data', onClientData).on('end', onEnd).on('close', onClose);
    if (client.destroyed) finish();
    if (client.readableEnded) onEnd();
    server.write(packet);
    client.resume();
    await decided;
    client.pause();
    server.pause();
    server.off('data', onServerData).off('end', onEnd).off('close', onClose);
    client.off('data', onClientData).off('end', onEnd).off('close', onClose);
    if (failure !== undefined) throw failure;
    return this.#outcome;
  }

  #takeFromClient(chunk: Buffer): void {
    // Nothing but the answers to what the server has asked: the rest must not come before our question.
    if (this.#state === 'authenticating' && this.#wasAsked && chunk[0] === PASSWORD) {
      this.#server.write(chunk);
      return;
    }
    this.#fromClient.push(Buffer.from(chunk));
    this.#client.pause();
  }

  #takeFromServer(chunk: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    let at = 0;
    while (this.#pending.length - at >= 5 && this.#state !== 'done') {
      const length = this.#pending.readInt32BE(at + 1);
      if (length < 4) throw new ProtocolError('invalid message length');
      const end = at + 1 + length;
      if (end > this.#pending.length) break;
      this.#take(this.#pending.subarray(at, end));
      at = end;
    }
    this.#pending = this.#pending.subarray(at);
    if (this.#pending.length + this.#keptBytes > MAX_LOGIN_BYTES) this.#finish();
  }

  #take(frame: Buffer): void {
    const type = frame[0] as number;
    switch (this.#state) {
      case 'authenticating': {
        const isAccepted = type === MessageType.authentication && frame.readInt32BE(5) === 0;
        if (isAccepted) {
          this.#state = 'starting';
          return this.#keep(frame);
        }
        if (type === MessageType.authentication) this.#wasAsked = true;
        this.#client.write(Buffer.from(frame));
        return;
      }
      case 'starting':
        this.#keep(frame);
        if (type !== MessageType.readyForQuery) return;
        if (!this.#isAsking || this.#wasAsked) return this.#finish();
        this.#state = 'asking';
        return this.#ask(MAY_BE_MISPLACED);
      case 'asking':
        return this.#takeAnswer(type, frame);
      case 'done':
        return;
    }
  }

  /** Rows of one value each, or an error, after which nothing is known. What belongs to neither is kept. */
  #takeAnswer(type: number, frame: Buffer): void {
    switch (type) {
      case MessageType.rowDescription:
        this.#answer = [];
        return;
      case MessageType.dataRow:
        this.#answer?.push(frame.toString('latin1', 11));
        return;
      case MessageType.commandComplete:
        return;
      case MessageType.errorResponse:
        this.#answer = undefined;
        return;
      case MessageType.readyForQuery:
        if (frame[5] !== 'I'.charCodeAt(0)) return this.#ask('ROLLBACK');
        return this.#decide();
      default:
        return this.#keep(frame);
    }
  }

  #decide(): void {
    if (this.#question === MAY_BE_MISPLACED) {
      if (this.#answer !== undefined && this.#answer.length > 0)
        return this.#ask(MISPLACED_DEFAULTS);
      if (this.#answer !== undefined) this.#outcome = 'clear';
    } else if (this.#question === MISPLACED_DEFAULTS) {
      this.#outcome = this.#answer;
    }
    this.#finish();
  }

  #ask(sql: string): void {
    this.#question = sql;
    this.#server.write(frameOf(MessageType.query, Buffer.from(`${sql}\0`)));
  }

  #keep(frame: Buffer): void {
    this.#kept.push(Buffer.from(frame));
    this.#keptBytes += frame.length;
  }
}
