import diagnostics from 'node:diagnostics_channel';
import type { Socket } from 'node:net';

/** How long the proxy may take to read a piece before the test fails. */
const PATIENCE_MS = 10_000;

/**
 * The sockets of a proxy that runs in this process, found by their ports: so that whoever writes to one
 * of them can wait until a piece was read before the next is written. What was cut then surely comes as
 * chunks of its own.
 */
export class ProxySockets {
  readonly #sockets = new Set<Socket>();
  readonly #add = (message: unknown) => {
    const { socket } = message as { socket: Socket };
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  };

  constructor() {
    diagnostics.subscribe('net.server.socket', this.#add);
    diagnostics.subscribe('net.client.socket', this.#add);
  }

  close(): void {
    diagnostics.unsubscribe('net.server.socket', this.#add);
    diagnostics.unsubscribe('net.client.socket', this.#add);
  }

  /** The proxy's end of a connection that it has opened. */
  withLocalPort(port: number): Socket {
    const found = [...this.#sockets].find(({ localPort }) => localPort === port);
    if (found === undefined) throw new Error(`no socket has the port ${port}`);
    return found;
  }

  /** The other end of a connection; undefined where it is not in this process, or gone. */
  peerOf({ localPort, remotePort }: Socket): Socket | undefined {
    return [...this.#sockets].find(
      (socket) => socket.localPort === remotePort && socket.remotePort === localPort,
    );
  }
}

/** Writes pieces, each when the peer has read those before it; a peer that does not read is not waited for. */
export async function writePieces(
  socket: Socket,
  pieces: readonly Buffer[],
  peer: Socket | undefined,
): Promise<void> {
  for (const piece of pieces) {
    if (piece.length === 0) continue;
    const wanted = (peer?.bytesRead ?? 0) + piece.length;
    if (socket.writable) socket.write(piece);
    if (peer === undefined || pieces.length === 1) continue;
    const deadline = Date.now() + PATIENCE_MS;
    while (peer.bytesRead < wanted && !peer.destroyed && !peer.isPaused() && socket.writable) {
      if (Date.now() > deadline) throw new Error('the proxy does not read');
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
