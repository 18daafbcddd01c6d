import { figure, side } from './figure.ts';
import type { Findings, Measurement } from './measurement.ts';
import { runProgram } from './program.ts';
import { startRelays, type RelaySide, type Relays } from './relays.ts';
import { ratios } from './statistics.ts';
import { takeTurns } from './turns.ts';
import type { Workbench } from './workbench.ts';

const ROW_BYTES = 1000;
const ROWS = 1_000_000;
const QUERY = `SELECT repeat('x', ${ROW_BYTES}) FROM generate_series(1, ${ROWS})`;

/** A gigabyte of rows through the proxy against PgBouncer in session mode, and the server itself. */
export const bulk: Measurement = {
  name: 'bulk',
  title: '1 GB of rows against PgBouncer in session mode',
  needs: [],
  async run(bench) {
    const relays = await startRelays(bench);
    const all = [await measure(bench, relays, 'SELECT', select)];
    if (bench.tools.psql !== undefined) all.push(await measure(bench, relays, 'COPY', copy));
    return {
      sides: all.flatMap(({ sides }) => sides),
      figures: all.flatMap(({ figures }) => figures),
    };
  },
};

type Transfer = (bench: Workbench, port: number) => Promise<number>;

async function measure(
  bench: Workbench,
  { sides, reference }: Relays,
  what: string,
  transfer: Transfer,
): Promise<Findings> {
  const turns = sides.map(({ name, port }: RelaySide) => {
    return [name, () => transfer(bench, port)] as const;
  });
  const samples = await takeTurns<number, string>(bench, Object.fromEntries(turns), {
    title: `${what} of 1 GB`,
    rounds: bench.isQuick ? 2 : 5,
    show: (seconds) => `${seconds.toFixed(2)} s`,
  });
  return {
    sides: Object.entries(samples).map(([name, of]) => side(`${what} of 1 GB: ${name}`, 's', of)),
    figures: [
      figure(
        `${what} of 1 GB: speed / ${reference}`,
        ratios(samples[reference] ?? [], samples['proxy'] ?? []),
        // Targets are stated against PgBouncer.
        { better: 'higher', ...(reference === 'PgBouncer' && { target: 0.95 }) },
      ),
    ],
  };
}

/** By a client that keeps nothing: psql would keep all rows of a SELECT. */
async function select(bench: Workbench, port: number): Promise<number> {
  const session = await bench.openReader(port);
  const { seconds, rows } = await session.query(QUERY);
  await session.end();
  if (rows !== ROWS) throw new Error(`${rows} rows instead of ${ROWS}`);
  return seconds;
}

async function copy(bench: Workbench, port: number): Promise<number> {
  const began = process.hrtime.bigint();
  const { code, stderr } = await runProgram(
    bench.resources,
    'psql',
    [
      ...['-X', '-q', '-h', '127.0.0.1', '-p', String(port), '-U', 'postgres'],
      ...['-c', `COPY (${QUERY}) TO STDOUT`, 'postgres'],
    ],
    { ignoresOutput: true },
  );
  if (code !== 0) throw new Error(`psql failed: ${stderr.trim()}`);
  return Number(process.hrtime.bigint() - began) / 1e9;
}
