import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { keepLastWords } from '../../src/last-words.ts';
import type { ServerAddress } from '../support/server.ts';
import { whole, type Chunking } from './chunking.ts';
import { writePieces, type ProxySockets } from '../support/proxy-sockets.ts';

/** Stands between the proxy and the server, and cuts what the server says into chunks. */
export class CuttingForwarder {
  /** How that is done from the next chunk on. */
  chunking: Chunking = whole;
  readonly #listener: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(target: ServerAddress, sockets: ProxySockets) {
    this.#listener = createServer({ allowHalfOpen: true, noDelay: true }, (proxy) => {
      const server = connect({ ...target, allowHalfOpen: true, noDelay: true });
      keepLastWords(server);
      for (const socket of [proxy, server]) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => this.#sockets.delete(socket));
      }
      proxy.pipe(server);
      this.#forward(server, proxy, sockets);
      proxy.on('close', () => server.destroySoon());
    });
  }

  static async start(target: ServerAddress, sockets: ProxySockets): Promise<CuttingForwarder> {
    const forwarder = new CuttingForwarder(target, sockets);
    forwarder.#listener.listen(0, '127.0.0.1');
    await once(forwarder.#listener, 'listening');
    return forwarder;
  }

  get address(): ServerAddress {
    return { host: '127.0.0.1', port: (this.#listener.address() as AddressInfo).port };
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#listener.close(resolve));
  }

  #forward(server: Socket, proxy: Socket, sockets: ProxySockets): void {
    let forwarded = Promise.resolve();
    server.on('data', (chunk: Buffer) => {
      const pieces = this.chunking(chunk);
      server.pause();
      forwarded = forwarded
        .then(() =>
          writePieces(proxy, pieces, pieces.length > 1 ? sockets.peerOf(proxy) : undefined),
        )
        .then(
          () => void server.resume(),
          () => void proxy.destroy(),
        );
    });
    for (const event of ['end', 'close'])
      server.on(event, () => void forwarded.then(() => proxy.end()));
  }
}
