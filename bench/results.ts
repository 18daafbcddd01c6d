import { figure, side } from './figure.ts';
import type { Measurement } from './measurement.ts';
import type { Reading } from './raw-reader.ts';
import { ratios } from './statistics.ts';
import { takeTurns } from './turns.ts';

const ROWS = 1_000_000;
const QUERY = `SELECT g, g::text || ' and some more text' FROM generate_series(1, ${ROWS}) AS g`;
const ofWorker = (sql: string) =>
  `SELECT * FROM pg_background_result(pg_background_launch(${sql})) AS (g int, t text)`;

/** Many rows of a worker against the same rows of the session itself, both through the proxy. */
export const results: Measurement = {
  name: 'results',
  title: 'a million rows of a worker against those of the session itself',
  needs: [],
  async run(bench) {
    const proxy = await bench.startProxyWithExtension();
    const session = await bench.openReader(proxy.port);
    const read = (ask: () => Promise<Reading>) => async () => {
      const reading = await ask();
      if (reading.rows !== ROWS) throw new Error(`${reading.rows} rows instead of ${ROWS}`);
      return reading;
    };
    const samples = await takeTurns(
      bench,
      {
        session: read(() => session.query(QUERY)),
        worker: read(() => session.query(ofWorker(`$$${QUERY}$$`))),
        'worker, prepared': read(() => session.queryPrepared(ofWorker('$1'), [QUERY])),
      },
      {
        title: `${ROWS} rows`,
        rounds: bench.rounds,
        warmsUp: true,
        show: ({ seconds }) => `${seconds.toFixed(2)} s`,
      },
    );
    const seconds = (of: readonly Reading[]) => of.map((reading) => reading.seconds);
    return {
      sides: Object.entries(samples).map(([name, of]) =>
        side(`a million rows of a ${name}`, 's', seconds(of)),
      ),
      figures: [
        figure(
          'a million rows of a worker: speed / of the session',
          ratios(seconds(samples.session), seconds(samples.worker)),
          { better: 'higher', target: 0.9 },
        ),
        figure(
          'a million rows of a worker, prepared: speed / of the session',
          ratios(seconds(samples.session), seconds(samples['worker, prepared'])),
          { better: 'higher', target: 0.9 },
        ),
      ],
    };
  },
};
