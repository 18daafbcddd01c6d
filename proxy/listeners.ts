import { chmod, lstat, rm, stat } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { join } from 'node:path';

/** Of sun_path, see unix(7), on the systems that allow least. */
const MAX_SOCKET_PATH_BYTES = 103;

/** Where clients connect. Owns the listening sockets, not the connections. */
export class Listeners {
  readonly #onClient: (socket: Socket, isUnixSocket: boolean) => void;
  readonly #servers: Server[] = [];

  /** @param onClient owns the connection, which is paused */
  constructor(onClient: (socket: Socket, isUnixSocket: boolean) => void) {
    this.#onClient = onClient;
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

  /** Accepts nobody any more. */
  close(): void {
    // Nobody waits for 'close': Node may not say it when connections went to a process that has died.
    for (const server of this.#servers) server.close();
  }

  async #listen(where: { host: string; port: number } | { path: string }): Promise<Server> {
    const options = { allowHalfOpen: true, pauseOnConnect: true, noDelay: true, keepAlive: true };
    const server = createServer(options, (socket) => this.#onClient(socket, 'path' in where));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(where, resolve);
    });
    this.#servers.push(server);
    return server;
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
