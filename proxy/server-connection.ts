import { connect, type Socket } from 'node:net';
import { BackgroundError } from '../src/index.ts';

/** Where the server is, and how long to wait for it. */
export interface ServerTarget {
  readonly upstream: { readonly host: string; readonly port: number };
  readonly serverConnectTimeoutMs: number;
}

/** A connection to the server, before anything was said. @throws BackgroundError 08006 */
export function connectToServer({
  upstream,
  serverConnectTimeoutMs,
}: ServerTarget): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const server = connect({ ...upstream, noDelay: true, keepAlive: true, allowHalfOpen: true });
    const timer = setTimeout(() => server.destroy(new Error('timed out')), serverConnectTimeoutMs);
    server.once('error', (cause) => {
      clearTimeout(timer);
      reject(
        new BackgroundError('08006', 'the proxy could not connect to the server', {
          detail: cause.message,
          hint: 'Is the server that --upstream names running?',
          cause,
        }),
      );
    });
    server.once('connect', () => {
      clearTimeout(timer);
      resolve(server);
    });
  });
}
