import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findRegressions, readBaseline, updateBaseline, writeBaseline } from './baseline.ts';
import type { Figure } from './figure.ts';
import { describeMachine, findCommit, readOwnVersion } from './machine.ts';
import type { Findings, Measurement } from './measurement.ts';
import { measurements } from './measurements.ts';
import { parseOptions, USAGE, type BenchOptions } from './options.ts';
import { regressionTable, summaryTable } from './report.ts';
import { Resources } from './resources.ts';
import { checkItself } from './self-check.ts';
import { Workbench } from './workbench.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const baselineFile = join(root, 'bench/baseline.json');

const resources = new Resources();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => void stop(128 + (signal === 'SIGINT' ? 2 : 15)));
}
try {
  process.exitCode = await run(readOptions());
} catch (error) {
  // What was stopped on the way fails as well, and is not the reason.
  if (!resources.isClosing) console.error(error);
  process.exitCode ||= 1;
} finally {
  await resources.close();
}

async function stop(code: number): Promise<void> {
  process.exitCode = code;
  await resources.close().catch((error: unknown) => console.error(error));
  process.exit(code);
}

function readOptions(): BenchOptions {
  const names = measurements.map(({ name }) => name);
  try {
    return parseOptions(process.argv.slice(2), names);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${USAGE}`);
    process.exit(2);
  }
}

async function run(options: BenchOptions): Promise<number> {
  if (options.asksForHelp) {
    console.log(
      `${USAGE}\n${measurements.map((m) => `${m.name.padEnd(20)}${m.title}`).join('\n')}`,
    );
    return 0;
  }
  const bench = await Workbench.open(resources, options.isQuick);
  if (options.checksItself) return (await checkItself(bench)) ? 0 : 1;
  sayWhatIsMissing(bench);
  const done = await runAll(bench, options);
  const figures = done.flatMap(({ findings }) => findings.figures);
  console.log(`\n${summaryTable(figures)}`);
  console.log(`\nwritten to ${await writeResults(bench, done)}`);
  await compare(figures, options.updatesBaseline);
  return done.some(({ failure }) => failure !== undefined) ? 1 : 0;
}

interface Done {
  readonly measurement: Measurement;
  readonly findings: Findings;
  readonly failure?: string;
}

/** A measurement that fails does not keep the others from being made. */
async function runAll(bench: Workbench, { only }: BenchOptions): Promise<Done[]> {
  const wanted = measurements.filter(({ name }) => only.length === 0 || only.includes(name));
  const done: Done[] = [];
  for (const measurement of wanted) {
    const missing = measurement.needs.filter((tool) => bench.tools[tool] === undefined);
    bench.print(`\n== ${measurement.name}: ${measurement.title}`);
    if (missing.length > 0) {
      bench.print(`left out: ${missing.join(' and ')} is not installed`);
      continue;
    }
    try {
      done.push({ measurement, findings: await bench.closingBehind(() => measurement.run(bench)) });
    } catch (error) {
      if (resources.isClosing) throw error;
      console.error(`${measurement.name} failed:`, error);
      const findings = { sides: [], figures: [] };
      done.push({ measurement, findings, failure: String(error) });
    }
  }
  return done;
}

function sayWhatIsMissing({ tools }: Workbench): void {
  for (const [tool, found] of Object.entries(tools)) {
    if (found === undefined) console.log(`${tool} is not installed: what needs it is left out`);
  }
  if (!tools.hasWorkersOption) console.log('the proxy has no --workers: measured as it is');
}

async function writeResults(bench: Workbench, done: readonly Done[]): Promise<string> {
  const date = new Date().toISOString();
  const file = join(root, `bench/results/${date.slice(0, 19).replaceAll(':', '-')}.json`);
  const { pgbench, psql, pgbouncer } = bench.tools;
  const results = {
    date,
    commit: await findCommit(resources, root),
    isQuick: bench.isQuick,
    machine: describeMachine(),
    versions: {
      proxy: await readOwnVersion(join(root, 'package.json')),
      server: await bench.serverVersion(),
      pgbench,
      psql,
      pgbouncer: pgbouncer?.version,
    },
    measurements: done.map(({ measurement, findings, failure }) => {
      return { name: measurement.name, failure, ...findings };
    }),
  };
  await mkdir(join(root, 'bench/results'), { recursive: true });
  await writeFile(file, `${JSON.stringify(results, null, 2)}\n`);
  return file;
}

async function compare(figures: readonly Figure[], updates: boolean): Promise<void> {
  const baseline = await readBaseline(baselineFile);
  const regressions = findRegressions(figures, baseline);
  const known = figures.filter(({ name }) => name in baseline).length;
  if (regressions.length > 0) {
    console.log(`\nworse than the baseline by more than the spread:`);
    console.log(regressionTable(regressions));
  } else {
    console.log(`\nnothing is worse than the baseline, which has ${known} of these figures`);
  }
  if (!updates) return;
  await writeBaseline(baselineFile, updateBaseline(baseline, figures));
  console.log(`written to ${baselineFile}`);
}
