import { setMaxListeners } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { Admission, type ClientLimits } from './admission.ts';
import { ClientConnection } from './client-connection.ts';
import { Listeners } from './listeners.ts';
import { serveClient, type SessionServices } from './session.ts';

/** What a proxy is made of. */
export type ProxyServices = Omit<SessionServices, 'cancels' | 'admission' | 'cancelElsewhere'> &
  Pick<ClientLimits, 'maxClientConn' | 'maxLogins'> &
  Partial<Neighbours>;

/** What a proxy shares with those in other processes; without it there are none. */
export type Neighbours = Pick<SessionServices, 'admission' | 'cancelElsewhere'>;

/** Listens for clients and counts their sessions. */
export class ProxyServer {
  readonly #services: SessionServices;
  readonly #listeners = new Listeners((socket, isUnixSocket) => this.accept(socket, isUnixSocket));
  readonly #cancels = new Map<string, () => boolean>();
  readonly #sessions = new Set<Promise<void>>();
  readonly #shutdown = new AbortController();

  constructor(services: ProxyServices) {
    this.#services = {
      admission: new Admission(services),
      cancelElsewhere: () => Promise.resolve(false),
      ...services,
      cancels: this.#cancels,
    };
    setMaxListeners(0, this.#shutdown.signal); // one for each session
  }

  /** See Listeners.listen(). */
  listen(host: string, port: number): Promise<AddressInfo> {
    return this.#listeners.listen(host, port);
  }

  /** See Listeners.listenOnUnixSocket(). */
  listenOnUnixSocket(folder: string, port: number): Promise<void> {
    return this.#listeners.listenOnUnixSocket(folder, port);
  }

  /** See SessionServices.cancels: whether the key is known here, and that was taken care of. */
  cancel(key: string): boolean {
    return this.#cancels.get(key)?.() ?? false;
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** Accepts nobody any more and ends all sessions. */
  async stopListening(): Promise<void> {
    this.#listeners.close();
    this.#shutdown.abort();
    await Promise.all(this.#sessions);
  }

  /** Ends everything: the sessions, then the engine when its workers are done, or the matter is urgent. */
  async close(urgent?: AbortSignal): Promise<void> {
    await this.stopListening();
    await this.#services.engine.close(urgent);
  }

  /** Serves a client, whose connection is its own from now on. */
  accept(socket: Socket, isUnixSocket: boolean): void {
    // It may have been on its way from another process.
    if (this.#shutdown.signal.aborted) return void socket.destroy();
    const { logger } = this.#services;
    socket.on('error', (error) => logger.debug({ err: error }, 'client connection failed'));
    const client = new ClientConnection(socket, isUnixSocket);
    const session = serveClient(client, this.#services, this.#shutdown.signal).finally(() =>
      this.#sessions.delete(session),
    );
    this.#sessions.add(session);
  }
}
