import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { figure, side } from './figure.ts';
import type { Findings, Measurement } from './measurement.ts';
import { runPgbench, type PgbenchResult } from './pgbench.ts';
import { median, ratios } from './statistics.ts';
import { takeTurns, type Turn } from './turns.ts';
import type { Workbench } from './workbench.ts';

const SCRIPTS = {
  select: 'SELECT 1;\n',
  launch: `SELECT * FROM pg_background_result(pg_background_launch('SELECT 1')) AS (n int);\n`,
  submit: `DO $$ BEGIN PERFORM pg_background_submit_v2('SELECT 1'); END $$;\n`,
};

const MANY_CLIENTS = 8;

/** A launch with its result, and a submit, against a fresh connection for the same query. */
export const launch: Measurement = {
  name: 'launch',
  title: 'launch against a fresh connection',
  needs: ['pgbench'],
  async run(bench) {
    for (const [name, script] of Object.entries(SCRIPTS)) {
      await writeFile(fileOf(bench, name), script);
    }
    const { port } = await bench.server();
    const { hasWorkersOption } = bench.tools;
    const start = (...options: string[]) =>
      bench.startProxyWithExtension('ordinary', hasWorkersOption ? options : []);
    const proxy = await start('--workers', '1');
    const two = hasWorkersOption ? await start('--workers', '2') : undefined;
    const one = await measureOne(bench, port, proxy.port);
    const many = await measureMany(bench, port, proxy.port, two?.port);
    return { sides: [...one.sides, ...many.sides], figures: [...one.figures, ...many.figures] };
  },
};

async function measureOne(bench: Workbench, direct: number, proxy: number): Promise<Findings> {
  const turns = turnsOf(bench, 1, (run) => bench.pgbench(run));
  const samples = await takeTurns(
    bench,
    {
      connection: turns(direct, 'select', '-C'),
      launch: turns(proxy, 'launch'),
      submit: turns(proxy, 'submit'),
    },
    {
      title: '1 client: fresh connection with SELECT 1, launch and result of it, submit of it',
      rounds: bench.rounds,
      warmsUp: true,
      show: ({ latencyMs }) => `${latencyMs.toFixed(3)} ms`,
    },
  );
  const latencies = (results: readonly PgbenchResult[]) => results.map((r) => r.latencyMs);
  const connection = latencies(samples.connection);
  return {
    sides: Object.entries(samples).map(([name, results]) =>
      side(`launch, 1 client: ${name}`, 'ms', latencies(results)),
    ),
    figures: [
      figure(
        'launch and result, 1 client: latency / fresh connection',
        ratios(latencies(samples.launch), connection),
        { better: 'lower', target: 0.2 },
      ),
      figure(
        'submit, 1 client: latency / fresh connection',
        ratios(latencies(samples.submit), connection),
        { better: 'lower', target: 0.15 },
      ),
    ],
  };
}

async function measureMany(
  bench: Workbench,
  direct: number,
  proxy: number,
  proxyOfTwo: number | undefined,
): Promise<Findings> {
  const turns = turnsOf(bench, MANY_CLIENTS, (run) =>
    runPgbench(bench.resources, bench.folder, run),
  );
  const ways: Record<string, Turn<PgbenchResult>> = {
    connection: turns(direct, 'select', '-C'),
    launch: turns(proxy, 'launch'),
    ...(proxyOfTwo !== undefined && { 'launch, 2 processes': turns(proxyOfTwo, 'launch') }),
  };
  const samples = await takeTurns(bench, ways, {
    title: `${MANY_CLIENTS} clients: fresh connections with SELECT 1, launches and their results`,
    rounds: bench.rounds,
    warmsUp: true,
    show: ({ perSecond, complaint }) =>
      `${perSecond.toFixed(0)} /s${complaint === undefined ? '' : ' FAILED'}`,
  });
  const { connection = [], ...launches } = samples;
  const complaints = Object.values(launches)
    .flat()
    .flatMap(({ complaint }) => complaint ?? []);
  for (const complaint of new Set(complaints)) bench.print(`  ${complaint}`);
  const perSecond = (results: readonly PgbenchResult[]) => results.map((r) => r.perSecond);
  const best = Object.values(launches)
    .map(perSecond)
    .reduce((some, others) => (median(others) > median(some) ? others : some));
  return {
    sides: Object.entries(samples).map(([name, results]) =>
      side(`launch, ${MANY_CLIENTS} clients: ${name}`, '/s', perSecond(results)),
    ),
    figures: [
      figure(
        `launch and result, ${MANY_CLIENTS} clients: throughput / fresh connections`,
        ratios(best, perSecond(connection)),
        { better: 'higher', target: 4 },
      ),
      figure(
        `launch and result, ${MANY_CLIENTS} clients: rounds with a failure`,
        [complaints.length],
        { better: 'lower', target: 0, unit: 'rounds' },
      ),
    ],
  };
}

function turnsOf(
  bench: Workbench,
  clients: number,
  run: (run: Parameters<Workbench['pgbench']>[0]) => Promise<PgbenchResult>,
) {
  return (port: number, script: keyof typeof SCRIPTS, ...options: string[]) =>
    () =>
      run({
        port,
        clients,
        seconds: bench.seconds,
        options: ['-f', fileOf(bench, script), ...options],
      });
}

function fileOf(bench: Workbench, script: string): string {
  return join(bench.folder, `${script}.sql`);
}
