import { readFileSync } from 'node:fs';
import type pg from 'pg';
import type { TestDatabase } from './database.ts';
import { eventually } from './eventually.ts';
import { ProxyProcess } from './proxy-process.ts';
import { TEST_SECRET, TestClient } from './proxy.ts';

/** A session, and the pid of the process that serves it. */
export interface ServedClient {
  readonly client: TestClient;
  readonly servedBy: number;
}

/** A line of the log. */
interface LogLine {
  readonly pid: number;
  readonly msg: string;
}

/** The proxy as users run it, with several processes, in front of the tests' server, which trusts it. */
export class ProxyGroup {
  readonly process: ProxyProcess;
  readonly #database: TestDatabase;
  readonly #clients: TestClient[] = [];
  #sessions = 0;

  constructor(database: TestDatabase, options: readonly string[]) {
    this.#database = database;
    this.process = new ProxyProcess(
      [
        ...['--upstream', `postgres://${database.host}:${database.port}/${database.name}`],
        ...(options.includes('--auth-type') ? [] : ['--auth-type', 'trust']),
        ...['--listen', '127.0.0.1:0', '--log-level', 'info', ...options],
      ],
      { PGBG_SECRET: TEST_SECRET.toString() },
    );
  }

  async port(): Promise<number> {
    return Number(new URL(await this.process.ready()).port);
  }

  /** What was logged so far. */
  get log(): readonly LogLine[] {
    return this.process.stderr
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as LogLine);
  }

  /** The pids of the processes that serve. Linux only. */
  get servingPids(): readonly number[] {
    const { pid } = this.process.child;
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return children.trim().split(' ').filter(Boolean).map(Number);
  }

  async connect(options: pg.ClientConfig = {}): Promise<ServedClient> {
    const client = new TestClient({
      host: '127.0.0.1',
      port: await this.port(),
      user: 'postgres',
      database: this.#database.name,
      ...options,
    });
    await client.connect();
    this.#clients.push(client);
    const count = ++this.#sessions;
    let servedBy: number | undefined;
    await eventually(async () => {
      servedBy = this.log.filter(({ msg }) => msg === 'session began')[count - 1]?.pid;
      if (servedBy === undefined) throw new Error('the session is not in the log');
    });
    return { client, servedBy: servedBy as number };
  }

  /** Two sessions of different processes. */
  async connectTwo(): Promise<readonly [ServedClient, ServedClient]> {
    const first = await this.connect();
    for (;;) {
      const second = await this.connect();
      if (second.servedBy !== first.servedBy) return [first, second];
      await second.client.end();
    }
  }

  /** Ends the clients and then, in any case, the processes. */
  async stop(): Promise<void> {
    for (const client of this.#clients.splice(0)) client.cut();
    await this.process.stop('SIGKILL');
  }
}

/** Whether a process of this pid lives. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
