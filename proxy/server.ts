import { setMaxListeners } from 'node:events';
import { chmod, lstat, rm, stat } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { Admission, type ClientLimits } from './admission.ts';
import { ClientConnection } from './client-connection.ts';
import { serveClient, type SessionServices } from './session.ts';

/** Of sun_path, see unix(7), on the systems that allow least. */
const MAX_SOCKET_PATH_BYTES = 103;

/** What a proxy is made of. */
export type ProxyServices = Omit<SessionServices, 'cancels' | 'admission'> &
  Pick<ClientLimits, 'maxClientConn' | 'maxLogins'>;

/** Listens for clients and counts their sessions. */
export class ProxyServer {
  readonly #services: SessionServices;
  readonly #listeners: Server[] = [];
  readonly #sessions = new Set<Promise<void>>();
  readonly #shutdown = new AbortController();

  constructor(services: ProxyServices) {
    this.#services = { ...services, cancels: new Map(), admission: new Admission(services) };
    setMaxListeners(0, this.#shutdown.signal); // one for each session
  }

  /** Settles when clients can connect. @throws the socket's error, EADDRINUSE for one */
  async listen(host: string, port: number): Promise<AddressInfo> {
    const server = await this.#listen({ host, port });
    return server.address() as AddressInfo;
  }

  /**
   * Listens on a Unix socket as well, `.s.PGSQL.<port>` in a folder, open to all who may enter that.
   * A socket that nobody listens on is left of an earlier run, and replaced.
   * @throws the socket's error
   */
  async listenOnUnixSocket(folder: string, port: number): Promise<void> {
    const path = join(folder, `.s.PGSQL.${port}`);
    // The system would cut it off, and listen somewhere else.
    if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES)
      throw new Error(`the path of a Unix socket may have ${MAX_SOCKET_PATH_BYTES} bytes: ${path}`);
    await stat(folder);
    try {
      await this.#listen({ path });
    } catch (error) {
      const isTaken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
      if (!isTaken || !(await lstat(path)).isSocket() || (await isInUse(path))) throw error;
      await rm(path);
      await this.#listen({ path });
    }
    await chmod(path, 0o777);
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** Accepts nobody any more and ends all sessions. */
  async stopListening(): Promise<void> {
    const closed = this.#listeners.map(
      (listener) => new Promise((resolve) => listener.close(resolve)),
    );
    this.#shutdown.abort();
    await Promise.all(this.#sessions);
    await Promise.all(closed);
  }

  /** Ends everything: the sessions, then the engine when its workers are done, or the matter is urgent. */
  async close(urgent?: AbortSignal): Promise<void> {
    await this.stopListening();
    await this.#services.engine.close(urgent);
  }

  async #listen(where: { host: string; port: number } | { path: string }): Promise<Server> {
    const options = { allowHalfOpen: true, pauseOnConnect: true, noDelay: true, keepAlive: true };
    const server = createServer(options, (socket) => this.#accept(socket, 'path' in where));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(where, resolve);
    });
    this.#listeners.push(server);
    return server;
  }

  #accept(socket: Socket, isUnixSocket: boolean): void {
    const { logger } = this.#services;
    socket.on('error', (error) => logger.debug({ err: error }, 'client connection failed'));
    const client = new ClientConnection(socket, isUnixSocket);
    const session = serveClient(client, this.#services, this.#shutdown.signal).finally(() =>
      this.#sessions.delete(session),
    );
    this.#sessions.add(session);
  }
}

function isInUse(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const finish = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.on('connect', () => finish(true));
    socket.on('error', (error: NodeJS.ErrnoException) => finish(error.code !== 'ECONNREFUSED'));
  });
}
