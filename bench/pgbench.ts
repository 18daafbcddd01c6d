import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runProgram } from './program.ts';
import type { Resources } from './resources.ts';
import { quantile } from './statistics.ts';

/** One run of pgbench. */
export interface PgbenchRun {
  readonly port: number;
  readonly clients: number;
  readonly seconds: number;
  /** How many transactions each client does, in place of a time. */
  readonly transactionsEach?: number;
  readonly options: readonly string[];
  /** Keeps the time of each transaction, for the 99th percentile. */
  readonly isLogged?: boolean;
}

/** What pgbench says of a run. */
export interface PgbenchResult {
  readonly transactions: number;
  readonly perSecond: number;
  /** Of one transaction with all that belongs to it, for `-C` its connection as well. */
  readonly latencyMs: number;
  /** NaN unless logged. */
  readonly p99Ms: number;
  /** Why a client gave up, or that transactions failed. */
  readonly complaint: string | undefined;
}

/** Runs pgbench as superuser `postgres`. @throws Error when it has done no transaction at all */
export async function runPgbench(
  resources: Resources,
  folder: string,
  { port, clients, seconds, transactionsEach, options, isLogged = false }: PgbenchRun,
): Promise<PgbenchResult> {
  const logs = await mkdtemp(join(folder, 'pgbench-'));
  const parameters = ['-n', '-h', '127.0.0.1', '-p', String(port), '-U', 'postgres'];
  parameters.push('-c', String(clients), '-j', String(Math.min(clients, 2)));
  const until = transactionsEach === undefined ? ['-T', seconds] : ['-t', transactionsEach];
  parameters.push(...until.map(String), ...(isLogged ? ['-l'] : []), ...options, 'postgres');
  const release = resources.own(() => rm(logs, { recursive: true, force: true }));
  try {
    const output = await runProgram(resources, 'pgbench', parameters, { folder: logs });
    const result = parsePgbench(output.stdout);
    if (result === undefined) throw new Error(`pgbench failed: ${output.stderr.trim()}`);
    const complaint =
      output.code === 0 && result.failed === 0
        ? undefined
        : `${result.failed} transactions failed. ${output.stderr.trim()}`;
    return {
      ...result,
      latencyMs: (clients / result.perSecond) * 1000,
      p99Ms: isLogged ? quantile(await readLatencies(logs), 0.99) : NaN,
      complaint,
    };
  } finally {
    await release();
  }
}

/** Throws what pgbench complained of, where nothing may fail. */
export function mustSucceed(result: PgbenchResult): PgbenchResult {
  if (result.complaint !== undefined) throw new Error(`pgbench: ${result.complaint}`);
  return result;
}

/** The numbers in the report of pgbench; undefined when it has none. */
export function parsePgbench(
  report: string,
): { transactions: number; failed: number; perSecond: number } | undefined {
  const numberAfter = (label: string) =>
    Number(new RegExp(`^${label}\\s*([\\d.]+)`, 'm').exec(report)?.[1] ?? NaN);
  const transactions = numberAfter('number of transactions actually processed:');
  const failed = numberAfter('number of failed transactions:');
  const perSecond = numberAfter('tps =');
  if (!(transactions > 0 && perSecond > 0)) return undefined;
  return { transactions, failed: Number.isNaN(failed) ? 0 : failed, perSecond };
}

/** The third column of its logs: microseconds, given in milliseconds. */
async function readLatencies(folder: string): Promise<number[]> {
  const files = (await readdir(folder)).filter((name) => name.startsWith('pgbench_log.'));
  const texts = await Promise.all(files.map((name) => readFile(join(folder, name), 'latin1')));
  return texts.flatMap((text) =>
    text
      .trimEnd()
      .split('\n')
      .map((line) => Number(line.split(' ')[2]) / 1000),
  );
}
