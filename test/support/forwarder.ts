import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** Passes connections on to a server, for one that does not listen where a test needs it. */
export class Forwarder {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** The first eight bytes of each connection, in hex: what it began with. */
  readonly beginnings: string[] = [];

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#server = createServer((client) => {
      const server = connect(target);
      for (const socket of [client, server]) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => this.#sockets.delete(socket));
      }
      client.once('data', (chunk: Buffer) => this.beginnings.push(chunk.toString('hex', 0, 8)));
      client.pipe(server).pipe(client);
      client.on('close', () => server.destroy());
      server.on('close', () => client.destroy());
    });
  }

  /** Listens at an address, on a free port, or on a Unix socket. */
  static async start(
    target: { readonly host: string; readonly port: number },
    at: { readonly host: string } | { readonly path: string },
  ): Promise<Forwarder> {
    const forwarder = new Forwarder(target);
    forwarder.#server.listen('path' in at ? at : { ...at, port: 0 });
    await once(forwarder.#server, 'listening');
    return forwarder;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** A server that reads the first packet of each connection, answers with the given bytes and says no more. */
export class MuteServer {
  /** All that each connection has sent. */
  readonly received: Buffer[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(answer: Buffer | undefined) {
    this.#server = createServer((socket) => {
      const index = this.received.push(Buffer.alloc(0)) - 1;
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => {
        const before = this.received[index] as Buffer;
        this.received[index] = Buffer.concat([before, chunk]);
        if (before.length === 0 && answer !== undefined) socket.write(answer);
      });
    });
  }

  static async start(answer?: Buffer): Promise<MuteServer> {
    const server = new MuteServer(answer);
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
