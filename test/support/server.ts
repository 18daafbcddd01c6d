import type { EmbeddedServer } from '../../proxy/embedded.ts';
import { EmbeddedScratch } from './embedded-scratch.ts';

let started: Promise<{ scratch: EmbeddedScratch; server: EmbeddedServer }> | undefined;

/** The server that all integration tests share: started by the first that asks. */
export async function sharedServer(): Promise<EmbeddedServer> {
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
