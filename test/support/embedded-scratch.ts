import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbeddedServer } from '../../proxy/embedded.ts';
import type { EmbeddedServer, EmbeddedServerOptions } from '../../proxy/embedded.ts';

/** A temporary folder and the embedded servers that a test starts in it. */
export class EmbeddedScratch {
  readonly folder: string;
  readonly #servers: EmbeddedServer[] = [];

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async create(): Promise<EmbeddedScratch> {
    const folder = await mkdtemp(join(tmpdir(), 'pgbg-embedded-'));
    // mkdtemp makes it private, but as root another user runs the server.
    await chmod(folder, 0o755);
    return new EmbeddedScratch(folder);
  }

  /** Starts a server, by default in `data`, that need not survive a power failure. */
  async start(
    options: Partial<EmbeddedServerOptions> = {},
    startServer = startEmbeddedServer,
  ): Promise<EmbeddedServer> {
    const server = await startServer({
      dataDirectory: join(this.folder, 'data'),
      ...options,
      settings: { fsync: 'off', ...options.settings },
    });
    this.#servers.push(server);
    return server;
  }

  async remove(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.stop()));
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** A connection as superuser; the caller ends it. */
export async function connectTo({ host, port }: EmbeddedServer): Promise<pg.Client> {
  const client = new pg.Client({ host, port, user: 'postgres', database: 'postgres' });
  client.on('error', () => {}); // the server's "terminating connection" when it stops
  await client.connect();
  return client;
}

/** The rows of one statement. */
export async function queryServer(server: EmbeddedServer, sql: string): Promise<unknown[]> {
  const client = await connectTo(server);
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

/** The error that the promise must reject with. */
export async function failureOf(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('nothing failed');
}
