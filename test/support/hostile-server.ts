import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** What a server that means no good does with a connection. */
export type HostileScript = (socket: Socket, received: () => Buffer) => void;

/** A port behind which a script poses as a PostgreSQL server. */
export class HostileServer {
  readonly port: number;
  /** All that was ever sent to it. */
  received: Buffer = Buffer.alloc(0);
  /** What it does with the next connections. */
  script: HostileScript = (socket) => socket.destroy();
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (socket) => this.#accept(socket));
  }

  static async start(): Promise<HostileServer> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new HostileServer(server);
  }

  get connectionCount(): number {
    return this.#sockets.size;
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #accept(socket: Socket): void {
    let received: Buffer = Buffer.alloc(0);
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      this.received = Buffer.concat([this.received, chunk]);
    });
    socket.once('data', () => this.script(socket, () => received));
  }
}

/** Answers what it is sent, step by step: each step when something more has arrived. */
export function stepByStep(
  ...steps: readonly ((received: Buffer) => Buffer | string)[]
): HostileScript {
  return (socket, received) => {
    const left = [...steps];
    const next = () => {
      const step = left.shift();
      if (step !== undefined) socket.write(step(received()));
    };
    next();
    socket.on('data', next);
  };
}
