import {
  BackgroundError,
  sendCancelRequest,
  type BackgroundEngine,
  type Logger,
} from '../src/index.ts';
import type { Admittance } from './admission.ts';
import type { Authenticate } from './authentication.ts';
import type { ClientConnection } from './client-connection.ts';
import type { ClientTls } from './client-tls.ts';
import { logEnd } from './replies.ts';
import type { ServerTarget } from './session-login.ts';
import { relaySession, type Stream } from './session-relay.ts';
import { readFirstPacket, type FirstPacket } from './startup.ts';

const SHUTDOWN = new BackgroundError(
  '57P01',
  'terminating connection due to administrator command',
);

const TOO_MANY_SILENT = new BackgroundError(
  '53300',
  'too many connections have not said what they want',
);

/** What a session needs of the proxy. */
export interface SessionServices extends ServerTarget {
  readonly engine: BackgroundEngine;
  readonly logger: Logger;
  readonly clientLoginTimeoutMs: number;
  readonly admission: Admittance;
  readonly authenticate: Authenticate;
  /** Undefined: clients connect in the clear. */
  readonly clientTls: ClientTls | undefined;
  /**
   * What a CancelRequest is for that the server could do nothing about: by its pid and key in hex.
   * Says whether it was taken care of.
   */
  readonly cancels: Map<string, () => boolean>;
  /** The same for sessions of other processes. */
  readonly cancelElsewhere: (key: string) => Promise<boolean>;
}

/** The end of a client's time to log in: aborted with what it is to be told. */
class LoginClock {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  /** What it waits for, when that is not the client. */
  reason = new BackgroundError('08P01', 'client_login_timeout: the login took too long');

  constructor(timeoutMs: number) {
    this.#timer = setTimeout(() => this.#controller.abort(this.reason), timeoutMs);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

/**
 * One client connection and its one server connection, from the first packet to the last byte. When
 * it settles, both are closed and the engine has forgotten the session.
 */
export async function serveClient(
  client: ClientConnection,
  services: SessionServices,
  shutdown: AbortSignal,
): Promise<void> {
  const stream: Stream = { isBetweenMessages: () => true };
  const stop = () => {
    // As the server's own words: between two messages, or not at all.
    if (stream.isBetweenMessages()) client.refuse(SHUTDOWN);
    else void client.close();
  };
  shutdown.addEventListener('abort', stop);
  const clock = new LoginClock(services.clientLoginTimeoutMs);
  clock.signal.addEventListener('abort', () => {
    logEnd(clock.signal.reason, services.logger, client.address);
    client.refuse(clock.signal.reason);
  });
  const forget = services.admission.knock(() => client.refuse(TOO_MANY_SILENT));
  let user: string | undefined;
  try {
    const first = await readFirstPacket(client, services.clientTls).finally(forget);
    if (first?.kind === 'cancel') {
      clock.stop();
      await forwardCancel(first.packet, services);
    } else if (first !== undefined) {
      user = first.parameters.get('user');
      await serveSession(client, first, services, stream, clock);
    }
  } catch (error) {
    if (!clock.signal.aborted) logEnd(error, services.logger, client.address, user);
    client.refuse(error);
  } finally {
    clock.stop();
    shutdown.removeEventListener('abort', stop);
    await client.close();
  }
}

/** The client's socket stays open until the server has closed its own: then the signal was sent. */
async function forwardCancel(packet: Buffer, services: SessionServices): Promise<void> {
  const key = packet.toString('hex', 8);
  const cancel = services.cancels.get(key);
  const isDone = cancel === undefined ? await services.cancelElsewhere(key) : cancel();
  if (isDone) return;
  await sendCancelRequest(services.server, packet, services.serverConnectTimeoutMs);
}

/** Lets a client log in, and relays its session. */
async function serveSession(
  client: ClientConnection,
  first: FirstPacket & { kind: 'startup' },
  services: SessionServices,
  stream: Stream,
  clock: LoginClock,
): Promise<void> {
  const user = first.parameters.get('user') ?? '';
  const leave = await services.admission.enter();
  let endLogin = () => {};
  try {
    const turn = await waitForTurn(client, services.admission, clock);
    if (turn === undefined) return;
    endLogin = turn;
    const proof = await services.authenticate(client, user);
    if (proof === undefined || client.socket.destroyed) return;
    const start = {
      socket: client.socket,
      address: client.address,
      user,
      proof,
      packet: first.packet,
      rest: client.reader.buffered,
    };
    await relaySession(start, first.parameters, services, stream, () => {
      clock.stop();
      endLogin();
    });
  } finally {
    endLogin();
    leave();
  }
}

/** Waits until the login may begin; undefined when the client goes away first. What it gives ends the login. */
async function waitForTurn(
  client: ClientConnection,
  admission: Admittance,
  clock: LoginClock,
): Promise<(() => void) | undefined> {
  const patience = clock.reason;
  clock.reason = new BackgroundError('53300', 'too many clients log in at this moment', {
    hint: 'See --max-logins and --client-login-timeout of the proxy.',
  });
  const watch = client.reader.watch();
  try {
    return await admission.beginLogin(AbortSignal.any([clock.signal, watch.gone]));
  } catch (error) {
    if (watch.gone.aborted) return undefined;
    throw error;
  } finally {
    watch.stop();
    clock.reason = patience;
  }
}
