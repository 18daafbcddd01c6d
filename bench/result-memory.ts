import { figure, side } from './figure.ts';
import type { Measurement } from './measurement.ts';
import { peakMemory } from './process-usage.ts';
import { takeTurns } from './turns.ts';
import type { Workbench } from './workbench.ts';

const MIB = 2 ** 20;

/** The most memory of the proxy while a worker's result is read, by the number of rows. */
export const resultMemory: Measurement = {
  name: 'result-memory',
  title: 'memory of the proxy with ten million rows against one million',
  needs: [],
  async run(bench) {
    const samples = await takeTurns(
      bench,
      { '1 M rows': () => peakWith(bench, 1e6), '10 M rows': () => peakWith(bench, 1e7) },
      {
        title: 'a new proxy each time: the most memory that it had',
        rounds: bench.isQuick ? 1 : 2,
        show: (bytes) => `${(bytes / MIB).toFixed(0)} MiB`,
      },
    );
    const peaks = Object.entries(samples).map(([name, bytes]) =>
      side(
        `peak memory of the proxy, ${name} of a worker`,
        'MiB',
        bytes.map((b) => b / MIB),
      ),
    );
    const [few, many] = [samples['1 M rows'], samples['10 M rows']];
    return {
      sides: peaks,
      figures: [
        figure(
          'peak memory of the proxy, 10 M rows of a worker / 1 M rows',
          many.map((bytes, round) => bytes / (few[round] ?? NaN)),
          { better: 'lower', target: 1.2 },
        ),
      ],
    };
  },
};

async function peakWith(bench: Workbench, rows: number): Promise<number> {
  const proxy = await bench.startProxyWithExtension();
  const session = await bench.openReader(proxy.port);
  const query = `SELECT g, g::text || ' and some more text' FROM generate_series(1, ${rows}) AS g`;
  const reading = await session.query(
    `SELECT * FROM pg_background_result(pg_background_launch($$${query}$$)) AS (g int, t text)`,
  );
  if (reading.rows !== rows) throw new Error(`${reading.rows} rows instead of ${rows}`);
  const peak = await peakMemory(proxy.pid);
  await session.end();
  await proxy.stop();
  return peak;
}
