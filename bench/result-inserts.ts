import { figure, side } from './figure.ts';
import type { Measurement } from './measurement.ts';
import { ratios } from './statistics.ts';
import { takeTurns } from './turns.ts';

const ROWS = 1_000_000;
const QUERY = `SELECT g, g::text || ' and some more text' FROM generate_series(1, ${ROWS}) AS g`;

/** Rows of a worker that go into a table, against the same rows of a plain INSERT … SELECT. */
export const resultInserts: Measurement = {
  name: 'result-inserts',
  title: 'INSERT of the rows of a worker against INSERT … SELECT',
  needs: [],
  async run(bench) {
    const proxy = await bench.startProxyWithExtension();
    const session = await bench.openReader(proxy.port);
    await session.query('DROP TABLE IF EXISTS inserted; CREATE TABLE inserted (g int, t text)');
    const insert = (sql: string) => async () => {
      await session.query('TRUNCATE inserted');
      const { seconds } = await session.query(`INSERT INTO inserted ${sql}`);
      await session.query(`DO $$ BEGIN ASSERT (SELECT count(*) FROM inserted) = ${ROWS}; END $$`);
      return seconds;
    };
    const samples = await takeTurns(
      bench,
      {
        plain: insert(QUERY),
        worker: insert(
          `SELECT * FROM pg_background_result(pg_background_launch($$${QUERY}$$)) AS (g int, t text)`,
        ),
      },
      {
        title: `INSERT of ${ROWS} rows`,
        rounds: bench.rounds,
        warmsUp: true,
        show: (seconds) => `${seconds.toFixed(2)} s`,
      },
    );
    await session.query('DROP TABLE inserted');
    return {
      sides: Object.entries(samples).map(([name, of]) =>
        side(`INSERT of a million rows: ${name}`, 's', of),
      ),
      figures: [
        figure(
          'INSERT of a million rows of a worker: speed / INSERT … SELECT',
          ratios(samples.plain, samples.worker),
          { better: 'higher', target: 0.4 },
        ),
      ],
    };
  },
};
