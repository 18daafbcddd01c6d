import { figure, side } from './figure.ts';
import type { Measurement } from './measurement.ts';
import type { Reading } from './raw-reader.ts';
import { ratios } from './statistics.ts';
import { takeTurns } from './turns.ts';

const ROWS = 1_000_000;
const QUERY = `SELECT g, g::text || ' and some more text' FROM generate_series(1, ${ROWS}) AS g`;
const OF_WORKER = `SELECT * FROM pg_background_result(pg_background_launch($$${QUERY}$$)) AS (g int, t text)`;

/** Many rows of a worker against the same rows of the session itself, both through the proxy. */
export const results: Measurement = {
  name: 'results',
  title: 'a million rows of a worker against those of the session itself',
  needs: [],
  async run(bench) {
    const proxy = await bench.startProxyWithExtension();
    const session = await bench.openReader(proxy.port);
    const read = (sql: string) => async () => {
      const reading = await session.query(sql);
      if (reading.rows !== ROWS) throw new Error(`${reading.rows} rows instead of ${ROWS}`);
      return reading;
    };
    const samples = await takeTurns(
      bench,
      { session: read(QUERY), worker: read(OF_WORKER) },
      {
        title: `${ROWS} rows: all of them, and the first`,
        rounds: bench.rounds,
        warmsUp: true,
        show: ({ seconds, firstRowMs }) => `${seconds.toFixed(2)} s, ${firstRowMs.toFixed(1)} ms`,
      },
    );
    const seconds = (of: readonly Reading[]) => of.map((reading) => reading.seconds);
    const firstRow = (of: readonly Reading[]) => of.map((reading) => reading.firstRowMs);
    return {
      sides: Object.entries(samples).flatMap(([name, of]) => [
        side(`a million rows of a ${name}`, 's', seconds(of)),
        side(`first row of a ${name}`, 'ms', firstRow(of)),
      ]),
      figures: [
        figure(
          'a million rows of a worker: speed / of the session',
          ratios(seconds(samples.session), seconds(samples.worker)),
          { better: 'higher', target: 0.9 },
        ),
        figure(
          'first of a million rows of a worker: time / of the session',
          ratios(firstRow(samples.worker), firstRow(samples.session)),
          { better: 'lower' },
        ),
      ],
    };
  },
};
