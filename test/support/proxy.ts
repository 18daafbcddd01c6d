import { expect } from 'chai';
import type { Socket } from 'node:net';
import pg from 'pg';
import { defaultClientLimits } from '../../proxy/admission.ts';
import { trust } from '../../proxy/authentication.ts';
import { ProxyServer, type ProxyServices } from '../../proxy/server.ts';
import {
  BackgroundEngine,
  defaultEngineSettings,
  type EngineSettings,
  type Logger,
} from '../../src/index.ts';
import { createDatabase, existingDatabase, type TestDatabase } from './database.ts';
import { eventually } from './eventually.ts';

export const TEST_SECRET = Buffer.from('a secret that only the tests know');

/** What a notice says, as a test compares it. */
export interface SeenNotice {
  readonly severity: string;
  readonly code: string;
  readonly message: string;
}

/** A proxy in this process, in front of a fresh database; it counts what it opens. */
export class TestProxy {
  readonly database: TestDatabase;
  readonly port: number;
  readonly engine: BackgroundEngine;
  /** What was logged, newest last. */
  readonly log: string[];
  readonly #server: ProxyServer;
  readonly #clients = new Set<pg.Client>();

  private constructor(
    database: TestDatabase,
    port: number,
    engine: BackgroundEngine,
    server: ProxyServer,
    log: string[],
  ) {
    this.database = database;
    this.port = port;
    this.engine = engine;
    this.#server = server;
    this.log = log;
  }

  static async start(
    settings: Partial<EngineSettings> = {},
    databaseOptions = '',
  ): Promise<TestProxy> {
    return TestProxy.#start(await createDatabase(databaseOptions), settings);
  }

  /** Another proxy in front of a database that is not its own: stop() leaves that alone. */
  static async inFrontOf(
    place: Pick<TestDatabase, 'host' | 'port' | 'name'>,
    settings: Partial<EngineSettings> = {},
    services: Partial<ProxyServices> = {},
  ): Promise<TestProxy> {
    return TestProxy.#start(existingDatabase(place), settings, services);
  }

  static async #start(
    database: TestDatabase,
    settings: Partial<EngineSettings>,
    services: Partial<ProxyServices> = {},
  ): Promise<TestProxy> {
    const { host, port } = database;
    const log: string[] = [];
    const write = (_details: object, message: string) => void log.push(message);
    const logger: Logger = { debug: write, info: write, warn: write, error: write };
    const engine = new BackgroundEngine({
      ...defaultEngineSettings,
      server: { host, port },
      secret: TEST_SECRET,
      logger,
      ...settings,
    });
    const server = new ProxyServer({
      engine,
      logger,
      server: { host, port },
      serverConnectTimeoutMs: 10_000,
      authenticate: trust,
      clientTls: undefined,
      ...defaultClientLimits,
      clientLoginTimeoutMs: 10_000,
      ...services,
    });
    const address = await server.listen('127.0.0.1', 0);
    return new TestProxy(database, address.port, engine, server, log);
  }

  /** A proxy whose database has the extension. */
  static async startInstalled(
    settings: Partial<EngineSettings> = {},
    databaseOptions = '',
  ): Promise<TestProxy> {
    const proxy = await TestProxy.start(settings, databaseOptions);
    await (await proxy.connect()).query('CREATE EXTENSION pg_background');
    await proxy.disconnectAll();
    return proxy;
  }

  /** A connection string for psql and the like. */
  url(user = 'postgres'): string {
    return `postgres://${user}@127.0.0.1:${this.port}/${this.database.name}`;
  }

  /** A connected client; ended by disconnectAll() at the latest. */
  async connect(options: pg.ClientConfig = {}): Promise<TestClient> {
    const client = new TestClient({
      host: '127.0.0.1',
      port: this.port,
      user: 'postgres',
      database: this.database.name,
      ...options,
    });
    await client.connect();
    this.#clients.add(client);
    return client;
  }

  async disconnectAll(): Promise<void> {
    await Promise.all([...this.#clients].map((client) => client.end()));
    this.#clients.clear();
  }

  /** Fails when anything of a session is left at the server after its clients are gone. */
  async expectNothingLeft(): Promise<void> {
    await this.disconnectAll();
    const admin = await this.database.direct();
    await eventually(async () => {
      const { rows } = await admin.query<{ application_name: string; query: string }>(
        `SELECT application_name, query FROM pg_stat_activity
          WHERE datname = current_database() AND application_name <> 'direct' AND backend_type = 'client backend'`,
      );
      expect(rows, 'connections that are left').to.deep.equal([]);
      expect(this.engine.runningWorkers, 'workers that are left').to.equal(0);
    });
    const { rows } = await admin.query<{ left: string | null }>(
      // On a standby nobody can read, or write, an unlogged table.
      `SELECT CASE WHEN NOT pg_is_in_recovery() THEN to_regclass('pgbackground.transfer')::text END AS left`,
    );
    if (rows[0]?.left !== null) {
      const transfers = await admin.query(
        'SELECT count(*)::int AS count FROM pgbackground.transfer',
      );
      expect(transfers.rows, 'rows of results that are left').to.deep.equal([{ count: 0 }]);
    }
    await this.database.disconnect();
  }

  async stop(): Promise<void> {
    await this.disconnectAll();
    await this.#server.close();
    await this.database.drop();
  }
}

/** A client that keeps the notices it was sent. */
export class TestClient extends pg.Client {
  readonly notices: SeenNotice[] = [];

  constructor(config: pg.ClientConfig) {
    super(config);
    this.on('notice', ({ severity, code, message }) => {
      this.notices.push({ severity: severity ?? '', code: code ?? '', message: message ?? '' });
    });
    this.on('error', () => {});
  }

  /** Cuts the connection without a word. */
  cut(): void {
    (this as unknown as { connection: { stream: Socket } }).connection.stream.destroy();
  }

  /** The rows of one statement, as arrays. */
  async rows(sql: string, values: unknown[] = []): Promise<unknown[][]> {
    return (await this.query<unknown[]>({ text: sql, values, rowMode: 'array' })).rows;
  }

  /** The first column of the first row. */
  async value(sql: string, values: unknown[] = []): Promise<unknown> {
    return (await this.rows(sql, values))[0]?.[0];
  }

  /** The error of a statement that must fail. */
  async error(sql: string, values: unknown[] = []): Promise<pg.DatabaseError> {
    try {
      await this.query(sql, values);
    } catch (error) {
      if (error instanceof pg.DatabaseError) return error;
      throw error;
    }
    throw new Error(`no error from: ${sql}`);
  }
}
