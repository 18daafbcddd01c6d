import { setMaxListeners } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { serveClient, type SessionServices } from './session.ts';

/** Listens for clients and counts their sessions. */
export class ProxyServer {
  readonly #services: SessionServices;
  readonly #server: Server;
  readonly #sessions = new Set<Promise<void>>();
  readonly #shutdown = new AbortController();

  constructor(services: Omit<SessionServices, 'cancels'>) {
    this.#services = { ...services, cancels: new Map() };
    setMaxListeners(0, this.#shutdown.signal); // one for each session
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) =>
      this.#accept(client),
    );
  }

  /** Settles when clients can connect. @throws the socket's error, EADDRINUSE for one */
  async listen(host: string, port: number): Promise<AddressInfo> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ host, port }, resolve);
    });
    return this.#server.address() as AddressInfo;
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** Accepts nobody any more and ends all sessions. */
  async stopListening(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#shutdown.abort();
    await Promise.all(this.#sessions);
    await closed;
  }

  /** Ends everything: the sessions, then the engine when its workers are done, or the matter is urgent. */
  async close(urgent?: AbortSignal): Promise<void> {
    await this.stopListening();
    await this.#services.engine.close(urgent);
  }

  #accept(client: Socket): void {
    const session = serveClient(client, this.#services, this.#shutdown.signal).finally(() =>
      this.#sessions.delete(session),
    );
    this.#sessions.add(session);
  }
}
