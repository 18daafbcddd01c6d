import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { startEmbeddedServer } from '../proxy/embedded.ts';

/**
 * Launch and result of SELECT 1 in a session of the proxy, against a fresh connection to the server
 * for the same query. Both by the same driver, in turns, so that a busy machine slows both. The
 * ratio is what counts; the times are those of this machine at this moment.
 */
const ROUNDS = 15;
const CALLS_PER_ROUND = 60;
const CALL = `SELECT * FROM pg_background_result(pg_background_launch('SELECT 1')) AS (n int)`;

const folder = await mkdtemp(join(tmpdir(), 'pgbg-bench-'));
await chmod(folder, 0o755); // as root, another user runs the server
const server = await startEmbeddedServer({ dataDirectory: join(folder, 'data') });
const main = fileURLToPath(new URL('../proxy/main.js', import.meta.url));
const upstream = `postgres://${server.host}:${server.port}`;
const proxy = spawn(
  process.execPath,
  [main, '--upstream', upstream, '--auth-type', 'trust', '--listen', '127.0.0.1:0'],
  {
    env: { ...process.env, XDG_STATE_HOME: folder },
    stdio: ['ignore', 'pipe', 'inherit'],
  },
);
try {
  const [line] = (await once(proxy.stdout, 'data')) as [Buffer];
  const url = /ready: (\S+)/.exec(line.toString())?.[1] ?? '';
  const session = new pg.Client(url);
  await session.connect();
  await session.query('CREATE EXTENSION IF NOT EXISTS pg_background');

  const launches: number[] = [];
  const connections: number[] = [];
  await measure(() => session.query(CALL), []); // warms up plans, pool and compiler
  await measure(() => freshConnection(), []);
  for (let round = 0; round < ROUNDS; round++) {
    await measure(() => session.query(CALL), launches);
    await measure(() => freshConnection(), connections);
  }
  await session.end();
  report(launches, connections);
} finally {
  proxy.kill('SIGTERM');
  await once(proxy, 'close');
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}

async function freshConnection(): Promise<void> {
  const client = new pg.Client({
    host: server.host,
    port: server.port,
    user: 'postgres',
    database: 'postgres',
  });
  await client.connect();
  await client.query('SELECT 1');
  await client.end();
}

/** Adds the milliseconds that each call of a round took. */
async function measure(action: () => Promise<unknown>, times: number[]): Promise<void> {
  for (let call = 0; call < CALLS_PER_ROUND; call++) {
    const began = process.hrtime.bigint();
    await action();
    times.push(Number(process.hrtime.bigint() - began) / 1e6);
  }
}

function report(launches: number[], connections: number[]): void {
  const row = (what: string, times: number[]) =>
    `${what.padEnd(34)}${[0.5, 0.95, 0.99].map((part) => quantile(times, part).toFixed(2).padStart(9)).join('')}`;
  console.log(`${'milliseconds'.padEnd(34)}   median      p95      p99`);
  console.log(row('launch + result of SELECT 1', launches));
  console.log(row('fresh connection, SELECT 1, close', connections));
  const ratio = quantile(launches, 0.5) / quantile(connections, 0.5);
  console.log(
    `\nratio of the medians: ${ratio.toFixed(2)} (${launches.length} calls each, in ${ROUNDS} turns)`,
  );
}

function quantile(times: number[], part: number): number {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? NaN;
}
