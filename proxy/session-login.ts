import type { Socket } from 'node:net';
import {
  Authenticator,
  BackgroundError,
  connectToServer,
  decodeReport,
  frameOf,
  MessageType,
  MAY_BE_MISPLACED,
  MISPLACED_DEFAULTS,
  ProtocolError,
  type OpenedSession,
  type ReportFields,
  type ServerEndpoint,
  type StartupParameter,
} from '../src/index.ts';
import type { ClientProof } from './authentication.ts';
import { addParameters } from './startup.ts';

/** Where the server is, and how long to wait for it. */
export interface ServerTarget {
  readonly server: ServerEndpoint;
  readonly serverConnectTimeoutMs: number;
}

/** Who wants a session, and what he has said. */
export interface ClientStart {
  readonly socket: Socket;
  /** Undefined on a Unix socket. */
  readonly address: string | undefined;
  readonly user: string;
  readonly proof: ClientProof;
  /** The StartupMessage. */
  readonly packet: Buffer;
  /** What came behind it. */
  readonly rest: Buffer;
}

/** A session that has logged in, and what is still to be passed on. Both sockets are paused. */
export interface SessionLogin {
  readonly server: Socket;
  /** Why the server has not accepted it; undefined when it has. */
  readonly refusal: ReportFields | undefined;
  /** What the server has said, but for what it asked and was answered: the client hears it now. */
  readonly fromServer: Buffer;
  /** What the client has said meanwhile. */
  readonly fromClient: readonly Buffer[];
}

/** A server that says more than this while a session starts is not understood: all of it passes. */
const MAX_LOGIN_BYTES = 256 * 1024;

/**
 * Starts a session at the server, with the defaults of the API's settings as startup parameters.
 * Whether they are in the way of others can be asked only in the session itself. If they are, which is
 * rare and remembered, the session is started once more without those; the client sees only the last
 * start.
 * @param opened undefined where the session is to be forwarded and no more
 * @returns undefined when the client has gone
 * @throws BackgroundError when the server is out of reach, or asks what cannot be answered
 */
export async function logIn(
  start: ClientStart,
  opened: OpenedSession | undefined,
  target: ServerTarget,
): Promise<SessionLogin | undefined> {
  const fromClient: Buffer[] = start.rest.length > 0 ? [start.rest] : [];
  const defaults = opened?.defaults;
  for (let isFirst = true; ; isFirst = false) {
    const server = await connectToServer(target.server, target.serverConnectTimeoutMs);
    const given = defaults?.parameters() ?? [];
    const isAsking = defaults !== undefined && isFirst && !defaults.isClear();
    const attempt = new LoginAttempt(start, server, fromClient, isAsking);
    const marked = addParameters(start.packet, opened?.parameters ?? []);
    const outcome = await attempt.run(addParameters(marked, given)).catch((error: unknown) => {
      server.destroy();
      throw error;
    });
    if (start.socket.destroyed) {
      server.destroy();
      return undefined;
    }
    const { isAccepted, refusal } = attempt;
    if (!isAccepted && refusal === undefined) {
      server.destroy();
      throw new BackgroundError('08006', 'the server closed the connection during the login');
    }
    if (outcome === 'clear') defaults?.clear();
    else if (outcome !== undefined) defaults?.note(outcome);
    if (outcome !== undefined && !haveSameNames(given, defaults?.parameters() ?? [])) {
      await terminate(server);
      continue;
    }
    return { server, refusal, fromServer: attempt.kept, fromClient };
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

/** What a server may say before it has accepted a session, but for what it asks. */
const BEFORE_ACCEPTANCE: ReadonlySet<number> = new Set([
  MessageType.errorResponse,
  MessageType.noticeResponse,
  MessageType.negotiateProtocolVersion,
]);

/** What the session said of the defaults: they are in nobody's way, or these names are; undefined when it was not asked. */
type Outcome = 'clear' | readonly string[] | undefined;

type State = 'authenticating' | 'starting' | 'asking' | 'done';

/**
 * One start of a session at the server, up to the moment in which the client may be told of it. All
 * that the server says is kept, but for what it asks and is answered here.
 *
 * `authenticating`: it asks who the session is.
 * `starting`: it has accepted the session.
 * `asking`: it is ready, and is asked whether defaults may be misplaced, and if so, which.
 * `done`: the sockets are paused.
 */
class LoginAttempt {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #fromClient: Buffer[];
  readonly #isAsking: boolean;
  readonly #isUnchecked: boolean;
  readonly #authenticator: Authenticator;
  #state: State = 'authenticating';
  #refusal: ReportFields | undefined;
  #pending: Buffer = Buffer.alloc(0);
  #kept: Buffer[] = [];
  #keptBytes = 0;
  #question = '';
  #answer: string[] | undefined;
  #outcome: Outcome;
  #finish: (failure?: unknown) => void = () => {};

  /** @param fromClient gets what the client says meanwhile */
  constructor(
    { socket, user, proof }: ClientStart,
    server: Socket,
    fromClient: Buffer[],
    isAsking: boolean,
  ) {
    this.#client = socket;
    this.#server = server;
    this.#fromClient = fromClient;
    this.#isAsking = isAsking;
    this.#isUnchecked = proof.isUnchecked;
    this.#authenticator = new Authenticator(user, proof.credential);
  }

  get isAccepted(): boolean {
    return this.#authenticator.isAccepted;
  }

  /** Why it has not accepted the session, if it has said so. */
  get refusal(): ReportFields | undefined {
    return this.#refusal;
  }

  /** What the client is to be told: the beginning of the session, or why there is none. */
  get kept(): Buffer {
    return Buffer.concat([...this.#kept, this.#pending]);
  }

  /** Settles when the login is decided, or a socket is gone. */
  async run(packet: Buffer): Promise<Outcome> {
    const [client, server] = [this.#client, this.#server];
    let failure: unknown;
    const decided = new Promise<void>((resolve) => {
      this.#finish = (error) => {
        failure ??= error;
        this.#state = 'done';
        resolve();
      };
    });
    const onServerData = (chunk: Buffer) => {
      try {
        this.#takeFromServer(chunk);
      } catch (error) {
        this.#finish(error);
      }
    };
    const onClientData = (chunk: Buffer) => {
      // It must not come before our question.
      this.#fromClient.push(Buffer.from(chunk));
      client.pause();
    };
    const onEnd = () => server.end();
    const onClose = () => this.#finish();
    server.on('error', () => {}); // 'close' follows
    server.on('data', onServerData).on('end', onEnd).on('close', onClose);
    // A client that says no more may still wait for what it has asked: only one that is gone ends this.
    client.on('data', onClientData).on('close', onClose);
    if (client.destroyed || server.destroyed) this.#finish();
    server.write(packet);
    server.resume();
    client.resume();
    await decided;
    client.pause();
    server.pause();
    server.off('data', onServerData).off('end', onEnd).off('close', onClose);
    client.off('data', onClientData).off('close', onClose);
    if (failure !== undefined) throw failure;
    return this.#outcome;
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
    if (this.#pending.length + this.#keptBytes > MAX_LOGIN_BYTES) this.#overflow();
  }

  #take(frame: Buffer): void {
    const type = frame[0] as number;
    switch (this.#state) {
      case 'authenticating':
        if (type === MessageType.authentication) return this.#authenticate(frame);
        if (type === MessageType.readyForQuery)
          throw new ProtocolError('ReadyForQuery from the server before AuthenticationOk');
        if (!BEFORE_ACCEPTANCE.has(type))
          throw new ProtocolError('the server spoke out of turn before AuthenticationOk');
        if (type === MessageType.errorResponse) this.#refusal = decodeReport(frame);
        return this.#keep(frame);
      case 'starting':
        this.#keep(frame);
        if (type !== MessageType.readyForQuery) return;
        if (!this.#isAsking) return this.#finish();
        this.#state = 'asking';
        return this.#ask(MAY_BE_MISPLACED);
      case 'asking':
        return this.#takeAnswer(type, frame);
      case 'done':
        return;
    }
  }

  #authenticate(frame: Buffer): void {
    Promise.resolve(this.#authenticator.take(frame)).then(
      (answer) => void (answer !== undefined && this.#server.write(answer)),
      (error: unknown) => this.#finish(error),
    );
    if (!this.#authenticator.isAccepted) return;
    if (this.#isUnchecked && !this.#authenticator.wasAsked) {
      throw new BackgroundError(
        '28000',
        'the server did not ask for the password, so nobody has checked it',
        {
          hint: 'The server trusts the address or the certificate of the proxy (pg_hba.conf). Start the proxy with --auth-type scram, or with --auth-type trust where its clients may be anybody.',
        },
      );
    }
    this.#state = 'starting';
    this.#keep(frame);
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

  /** Whoever has not accepted the session must not speak to the client as if. */
  #overflow(): void {
    if (!this.#authenticator.isAccepted)
      throw new ProtocolError('the server says too much before AuthenticationOk');
    this.#finish();
  }
}
