import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { AuthServer } from './auth-server.ts';
import type { Login } from './drivers.ts';
import { ProxyProcess } from './proxy-process.ts';

/** A proxy that listens. */
export interface RunningProxy {
  readonly process: ProxyProcess;
  readonly host: string;
  readonly port: number;
  /** Where and how a client logs in through it. */
  login(user: string, password: string, more?: Partial<Login>): Login;
}

/** How a test's proxy is to run. */
export interface ProxyChoices {
  /** Parameters of the upstream's connection string. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** Instead of the server's own address. */
  readonly upstreamHost?: string;
  readonly upstreamPort?: number;
  /** Instead of all of that; null: none on the command line. */
  readonly upstream?: string | null;
  readonly options?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** What the proxies sign with. */
export const SIGNING_SECRET = 'hush: the signing secret of the tests';

/** Proxy processes in front of one server, with one secret; and a folder for their files. */
export class AuthProxies {
  readonly folder: string;
  readonly #server: Pick<AuthServer, 'host' | 'port' | 'database'>;
  readonly #started: ProxyProcess[] = [];

  private constructor(server: Pick<AuthServer, 'host' | 'port' | 'database'>, folder: string) {
    this.#server = server;
    this.folder = folder;
  }

  static async create(
    server: Pick<AuthServer, 'host' | 'port' | 'database'>,
  ): Promise<AuthProxies> {
    return new AuthProxies(server, await mkdtemp(join(tmpdir(), 'pgbg-auth-')));
  }

  /** Installs the extension in the server's database, through a proxy that trusts. */
  async install(...executors: readonly string[]): Promise<void> {
    const { process, port } = await this.start({ options: ['--auth-type', 'trust'] });
    const client = new pg.Client({ ...this.#address(port), user: 'postgres' });
    await client.connect();
    await client.query('CREATE EXTENSION pg_background');
    for (const role of executors) {
      await client.query(`GRANT pgbackground_executor TO ${pg.escapeIdentifier(role)}`);
    }
    await client.end();
    await process.stop();
  }

  /** Starts a proxy and waits until it is ready. */
  async start(choices: ProxyChoices = {}): Promise<RunningProxy> {
    const process = this.launch(choices);
    const { port: text } = new URL(await process.ready());
    const port = Number(text);
    return {
      process,
      host: '127.0.0.1',
      port,
      login: (user, password, more = {}) => ({ ...this.#address(port), user, password, ...more }),
    };
  }

  /** Starts a proxy that may end at once. */
  launch(choices: ProxyChoices = {}): ProxyProcess {
    const { options = [], environment = {} } = choices;
    const process = new ProxyProcess(
      [
        ...(choices.upstream === null
          ? []
          : ['--upstream', choices.upstream ?? this.#upstream(choices)]),
        ...['--log-level', 'debug'],
        ...(options.includes('--listen') ? [] : ['--listen', '127.0.0.1:0']),
        ...options,
      ],
      { PGBG_SECRET: SIGNING_SECRET, XDG_STATE_HOME: this.folder, ...environment },
    );
    this.#started.push(process);
    return process;
  }

  /** Writes a file that only we can read, and gives its path. */
  async file(name: string, ...lines: readonly string[]): Promise<string> {
    const path = join(this.folder, name);
    await writeFile(path, lines.map((line) => `${line}\n`).join(''), { mode: 0o600 });
    return path;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#started.map((process) => process.stop('SIGKILL')));
    await rm(this.folder, { recursive: true, force: true });
  }

  #address(port: number) {
    return { host: '127.0.0.1', port, database: this.#server.database };
  }

  #upstream({ parameters = {}, upstreamHost, upstreamPort }: ProxyChoices): string {
    const { host, port, database } = this.#server;
    const url = new URL(`postgres://${upstreamHost ?? host}:${upstreamPort ?? port}/${database}`);
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    return url.href;
  }
}
