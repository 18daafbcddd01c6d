import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import type { Resources } from './resources.ts';

/** Passes connections on to a port, each chunk from the client a time later than it came. */
export async function startDelayingForwarder(
  resources: Resources,
  targetPort: number,
  delayMs: number,
): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const target = connect({ host: '127.0.0.1', port: targetPort, allowHalfOpen: true });
    for (const socket of [client, target]) {
      socket.setNoDelay(true);
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket)).on('error', () => socket.destroy());
    }
    forward(client, target, delayMs);
    forward(target, client, 0);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  resources.own(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

/** Timers of one length fire in order, so that what comes first is passed on first. */
function forward(from: Socket, to: Socket, delayMs: number): void {
  const later = (action: () => void) => {
    if (delayMs === 0) action();
    else setTimeout(action, delayMs);
  };
  from.on('data', (chunk: Buffer) => later(() => to.write(chunk)));
  from.on('end', () => later(() => to.end()));
  from.on('close', () => later(() => to.destroySoon()));
}
