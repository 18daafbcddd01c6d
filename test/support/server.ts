import type { EmbeddedServer } from '../../proxy/embedded.ts';
import { EmbeddedScratch } from './embedded-scratch.ts';

let started: Promise<{ scratch: EmbeddedScratch; server: EmbeddedServer }> | undefined;

/** Where a server listens. */
export interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

/**
 * The server that all integration tests share: started by the first that asks, or, to try another
 * version, the one that PGBG_TEST_SERVER names as host:port (superuser postgres, trust).
 */
export async function sharedServer(): Promise<ServerAddress> {
  const [host = '', port] = (process.env['PGBG_TEST_SERVER'] ?? '').split(':');
  if (port !== undefined) return { host, port: Number(port) };
  started ??= (async () => {
    const scratch = await EmbeddedScratch.create();
    const server = await scratch.start({
      settings: { full_page_writes: 'off', autovacuum: 'off', max_connections: '200' },
    });
    return { scratch, server };
  })();
  return (await started).server;
}

export async function stopSharedServer(): Promise<void> {
  const { scratch } = (await started) ?? {};
  await scratch?.remove();
}
