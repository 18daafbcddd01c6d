import { setTimeout as delay } from 'node:timers/promises';
import { figure, side, type Figure, type Side } from './figure.ts';
import type { Findings, Measurement } from './measurement.ts';
import type { PgbenchResult } from './pgbench.ts';
import { prepareTables } from './pgbench-tables.ts';
import { processorTime } from './process-usage.ts';
import { startRelays, type Relays } from './relays.ts';
import { ratios } from './statistics.ts';
import { takeTurns } from './turns.ts';
import type { Workbench } from './workbench.ts';

const MODES = ['simple', 'prepared'] as const;
const CLIENTS = [1, 8, 64] as const;

/** Sessions that pgbench leaves are closed by then: to close them is no part of the next run. */
const SETTLE_MS = 200;

/** One turn of pgbench through one side. */
interface Sample {
  readonly perSecond: number;
  readonly p99Ms: number;
  /** Processor time for each transaction, logins left out; NaN for the server itself. */
  readonly processorUs: number;
}

/** Small statements through the proxy against PgBouncer in session mode, and the server itself. */
export const relay: Measurement = {
  name: 'relay',
  title: 'small statements (pgbench -S) against PgBouncer in session mode',
  needs: ['pgbench'],
  async run(bench) {
    await prepareTables(bench);
    const relays = await startRelays(bench);
    const all: Findings[] = [];
    for (const mode of MODES) {
      for (const clients of CLIENTS) all.push(await measure(bench, relays, mode, clients));
    }
    return {
      sides: all.flatMap(({ sides }) => sides),
      figures: all.flatMap(({ figures }) => figures),
    };
  },
};

async function measure(
  bench: Workbench,
  { sides, reference }: Relays,
  mode: (typeof MODES)[number],
  clients: number,
): Promise<Findings> {
  const what = `-M ${mode}, ${clients} ${clients === 1 ? 'client' : 'clients'}`;
  const turns = sides.map(({ name, port, pid }) => {
    const turn = () => runTurn(bench, { port, pid, mode, clients });
    return [name, turn] as const;
  });
  const samples = await takeTurns<Sample, string>(bench, Object.fromEntries(turns), {
    title: `pgbench -S ${what}: transactions, 99th percentile, processor time of one`,
    rounds: bench.rounds,
    warmsUp: true,
    show: ({ perSecond, p99Ms, processorUs }) => {
      const processor = Number.isNaN(processorUs) ? '' : ` ${processorUs.toFixed(0)} µs`;
      return `${perSecond.toFixed(0)} /s ${p99Ms.toFixed(2)} ms${processor}`;
    },
  });
  return {
    sides: Object.entries(samples).flatMap(([name, of]) => sidesOf(`${what}: ${name}`, of)),
    figures: figuresOf(what, samples, reference),
  };
}

async function runTurn(
  bench: Workbench,
  turn: { port: number; pid: number | undefined; mode: string; clients: number },
): Promise<Sample> {
  const { port, pid, mode, clients } = turn;
  const run = { port, clients, seconds: bench.seconds, options: ['-S', '-M', mode] };
  // In a second, with 64 clients, their logins would be a third of it.
  const logins = await timed(pid, () => bench.pgbench({ ...run, transactionsEach: 1 }));
  const all = await timed(pid, () => bench.pgbench({ ...run, isLogged: true }));
  const transactions = all.result.transactions - logins.result.transactions;
  const processorUs = ((all.seconds - logins.seconds) / transactions) * 1e6;
  return { perSecond: all.result.perSecond, p99Ms: all.result.p99Ms, processorUs };
}

/** A run of pgbench, and the processor time that another program took meanwhile. */
async function timed(
  pid: number | undefined,
  run: () => Promise<PgbenchResult>,
): Promise<{ result: PgbenchResult; seconds: number }> {
  const before = pid === undefined ? NaN : await processorTime(pid);
  const result = await run();
  await delay(SETTLE_MS);
  return { result, seconds: pid === undefined ? NaN : (await processorTime(pid)) - before };
}

function sidesOf(name: string, samples: readonly Sample[]): Side[] {
  const given = [
    side(
      `${name}: throughput`,
      '/s',
      samples.map((s) => s.perSecond),
    ),
    side(
      `${name}: 99th percentile`,
      'ms',
      samples.map((s) => s.p99Ms),
    ),
  ];
  const processor = samples.map((s) => s.processorUs);
  return processor.some(Number.isNaN)
    ? given
    : [...given, side(`${name}: processor time`, 'µs', processor)];
}

/** Targets are stated against PgBouncer: against the server itself there are none. */
function figuresOf(
  what: string,
  samples: Readonly<Record<string, readonly Sample[]>>,
  reference: string,
): Figure[] {
  const theirs = samples[reference] ?? [];
  const ours = samples['proxy'] ?? [];
  const two = samples['proxy, 2 processes'] ?? [];
  const isPgBouncer = reference === 'PgBouncer';
  const target = (value: number) => (isPgBouncer ? { target: value } : {});
  const against = (of: readonly Sample[], field: keyof Sample) =>
    ratios(
      of.map((sample) => sample[field]),
      theirs.map((sample) => sample[field]),
    );
  const tail = (of: readonly Sample[], which = '') =>
    figure(`${what}: 99th percentile${which} / ${reference}`, against(of, 'p99Ms'), {
      better: 'lower',
      ...target(1.2),
    });
  const figures = [
    figure(`${what}: throughput / ${reference}`, against(bestOf(ours, two), 'perSecond'), {
      better: 'higher',
      ...target(0.85),
    }),
    tail(ours),
    ...(two.length > 0 ? [tail(two, ', 2 processes')] : []),
  ];
  if (!isPgBouncer) return figures;
  const processor = figure(`${what}: processor time / ${reference}`, against(ours, 'processorUs'), {
    better: 'lower',
    ...target(1.4),
  });
  return [...figures, processor];
}

/** Of the proxy with one process and with two: the one that does more. */
function bestOf(one: readonly Sample[], two: readonly Sample[]): readonly Sample[] {
  const total = (of: readonly Sample[]) => of.reduce((sum, { perSecond }) => sum + perSecond, 0);
  return total(two) > total(one) ? two : one;
}
