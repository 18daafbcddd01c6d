import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbeddedServer, type EmbeddedServer } from '../proxy/embedded.ts';
import { mustSucceed, runPgbench, type PgbenchResult, type PgbenchRun } from './pgbench.ts';
import { findPgBouncer, startPgBouncer, type RunningPgBouncer } from './pgbouncer.ts';
import { versionOf } from './program.ts';
import { hasOption, startProxy, type RunningProxy } from './proxy.ts';
import { RawReader } from './raw-reader.ts';
import { Resources } from './resources.ts';

/** What is installed here, with its version; undefined when it is not. */
export interface Tools {
  readonly pgbench: string | undefined;
  readonly psql: string | undefined;
  readonly pgbouncer: { readonly program: string; readonly version: string } | undefined;
  /** Whether the proxy's command line has `--workers`. */
  readonly hasWorkersOption: boolean;
}

/** What is measured is not the disk: nothing of a server need survive a power failure. */
const SERVER_SETTINGS = {
  fsync: 'off',
  full_page_writes: 'off',
  autovacuum: 'off',
  max_wal_size: '8GB',
};

/** Room for many sessions makes a server slower, also when it is not used: not all have it. */
const MAX_CONNECTIONS = { ordinary: '300', large: '1300' } as const;

/** By the number of sessions that a server has room for. */
export type ServerSize = keyof typeof MAX_CONNECTIONS;

/** What measurements run on: servers, proxies and programs, all owned by the run's resources. */
export class Workbench {
  readonly folder: string;
  readonly tools: Tools;
  readonly isQuick: boolean;
  /** Owns the servers and the folder. */
  readonly #run: Resources;
  /** Owns what a measurement has started. */
  #resources: Resources;
  readonly #servers = new Map<ServerSize, Promise<EmbeddedServer>>();

  private constructor(resources: Resources, folder: string, tools: Tools, isQuick: boolean) {
    this.#run = resources;
    this.#resources = resources;
    this.folder = folder;
    this.tools = tools;
    this.isQuick = isQuick;
  }

  static async open(resources: Resources, isQuick: boolean): Promise<Workbench> {
    const folder = await mkdtemp(join(tmpdir(), 'pgbg-bench-'));
    resources.own(() => rm(folder, { recursive: true, force: true }));
    await chmod(folder, 0o755); // as root, another user runs the server
    const tools = {
      pgbench: await versionOf(resources, 'pgbench'),
      psql: await versionOf(resources, 'psql'),
      pgbouncer: await findPgBouncer(resources),
      hasWorkersOption: await hasOption(resources, '--workers'),
    };
    return new Workbench(resources, folder, tools, isQuick);
  }

  /** The owner of what is started now. */
  get resources(): Resources {
    return this.#resources;
  }

  /** Closes behind a measurement all that it has started, but for the servers. */
  async closingBehind<T>(measure: () => Promise<T>): Promise<T> {
    const resources = new Resources();
    const release = this.#run.own(() => resources.close());
    this.#resources = resources;
    try {
      return await measure();
    } finally {
      this.#resources = this.#run;
      await release();
    }
  }

  /** How often each side has its turn. */
  get rounds(): number {
    return this.isQuick ? 3 : 7;
  }

  /** How long one turn of pgbench takes. */
  get seconds(): number {
    return this.isQuick ? 1 : 3;
  }

  print(line: string): void {
    if (!this.#run.isClosing) console.log(line);
  }

  /** The server of all measurements, started by the first that asks. */
  server(size: ServerSize = 'ordinary'): Promise<EmbeddedServer> {
    const server = this.#servers.get(size) ?? this.#startServer(size);
    this.#servers.set(size, server);
    return server;
  }

  /** As it says itself; undefined when none was started. */
  async serverVersion(): Promise<string | undefined> {
    const [server] = this.#servers.values();
    if (server === undefined) return undefined;
    const { port } = await server;
    const { rows } = await this.withClient(port, (client) =>
      client.query<{ server_version: string }>('SHOW server_version'),
    );
    return rows[0]?.server_version;
  }

  /** A new proxy in front of the server, or of another one. */
  async startProxy(options: readonly string[] = [], upstreamPort?: number): Promise<RunningProxy> {
    const port = upstreamPort ?? (await this.server()).port;
    // All proxies of a server need the same secret.
    const folder = join(this.folder, 'state');
    return startProxy(this.resources, { folder, upstreamPort: port, options });
  }

  /** A new proxy with the extension in its database. */
  async startProxyWithExtension(
    size: ServerSize = 'ordinary',
    options: readonly string[] = [],
  ): Promise<RunningProxy> {
    const proxy = await this.startProxy(options, (await this.server(size)).port);
    await this.withClient(proxy.port, (client) =>
      client.query('CREATE EXTENSION IF NOT EXISTS pg_background'),
    );
    return proxy;
  }

  /** PgBouncer in front of the server; undefined where it is not installed. */
  async startPgBouncer(): Promise<RunningPgBouncer | undefined> {
    const program = this.tools.pgbouncer?.program;
    if (program === undefined) return undefined;
    const { port } = await this.server();
    const folder = await mkdtemp(join(this.folder, 'pool-'));
    await chmod(folder, 0o755);
    return startPgBouncer(this.resources, program, { folder, upstreamPort: port });
  }

  /** One run in which nothing may fail. */
  async pgbench(run: PgbenchRun): Promise<PgbenchResult> {
    return mustSucceed(await runPgbench(this.resources, this.folder, run));
  }

  /** A connection as superuser; the caller ends it. */
  async connect(port: number): Promise<pg.Client> {
    const client = new pg.Client({
      host: '127.0.0.1',
      port,
      user: 'postgres',
      database: 'postgres',
    });
    client.on('error', () => {}); // its proxy may be stopped first
    await client.connect();
    return client;
  }

  /** A session that only reads; the caller ends it. */
  async openReader(port: number): Promise<RawReader> {
    const reader = await RawReader.connect(port);
    this.resources.own(() => reader.destroy());
    return reader;
  }

  async withClient<T>(port: number, action: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = await this.connect(port);
    try {
      return await action(client);
    } finally {
      await client.end();
    }
  }

  #startServer(size: ServerSize): Promise<EmbeddedServer> {
    const starting = new AbortController();
    const start = startEmbeddedServer({
      dataDirectory: join(this.folder, `data-${size}`),
      settings: { ...SERVER_SETTINGS, max_connections: MAX_CONNECTIONS[size] },
      signal: starting.signal,
    });
    this.#run.own(async () => {
      starting.abort();
      // It writes into our folder until it has given up.
      const server = await start.catch(() => undefined);
      await server?.stop();
    });
    return start;
  }
}
