import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** Both ends of a TCP connection on this machine; whoever opens it closes it. */
export interface SocketPair {
  /** The accepted end, paused: it stays open when the other one has ended. */
  readonly near: Socket;
  readonly far: Socket;
  close(): void;
}

export async function openSocketPair(): Promise<SocketPair> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const far = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const [near] = (await once(server, 'connection')) as [Socket];
  server.close();
  // Tests that expect an error listen themselves.
  for (const socket of [near, far]) socket.on('error', () => {});
  return {
    near,
    far,
    close() {
      near.destroy();
      far.destroy();
    },
  };
}

/** Different bytes at every place, so that none can be lost or exchanged unseen. */
export function countingBytes(length: number, start = 0): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = ((start + at) * 2_654_435_761) >>> 24;
  return bytes;
}
