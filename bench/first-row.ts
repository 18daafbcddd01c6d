import pg from 'pg';
import { figure, side } from './figure.ts';
import type { Measurement } from './measurement.ts';
import { median } from './statistics.ts';
import { takeTurns } from './turns.ts';

const READINGS = 50;

/** Its first row says when it was made, the second is so long that the server sends what it has; then it goes on for a while. */
const QUERY = `SELECT EXTRACT(epoch FROM clock_timestamp()) * 1000 AS at, ''
  UNION ALL SELECT 0, repeat('x', 20000)
  UNION ALL SELECT 0, pg_sleep(0.02)::text`;
const COLUMNS = 'at numeric, filler text';

/** How old the first row of a worker is when the client has it, by the clock that server and client share. */
export const firstRow: Measurement = {
  name: 'first-row',
  title: 'the age of the first row when the client has it',
  needs: [],
  async run(bench) {
    const proxy = await bench.startProxyWithExtension();
    const samples = await bench.withClient(proxy.port, (client) => {
      const read =
        (...query: ConstructorParameters<typeof pg.Query>) =>
        async () => {
          const ages: number[] = [];
          for (let reading = 0; reading < READINGS; reading++)
            ages.push(await ageOfFirstRow(client, new pg.Query(...query)));
          return median(ages);
        };
      const result = (sql: string) =>
        `SELECT * FROM pg_background_result(pg_background_launch(${sql})) AS (${COLUMNS})`;
      return takeTurns(
        bench,
        {
          session: read(QUERY),
          worker: read(result(`$$${QUERY}$$`)),
          'worker, prepared': read(result('$1'), [QUERY]),
        },
        {
          title: `age of the first row, median of ${READINGS}`,
          rounds: bench.rounds,
          warmsUp: true,
          show: (ms) => `${ms.toFixed(2)} ms`,
        },
      );
    });
    return {
      sides: Object.entries(samples).map(([name, of]) =>
        side(`age of the first row of a ${name}`, 'ms', of),
      ),
      figures: [
        figure('age of the first row of a worker', samples.worker, {
          unit: 'ms',
          better: 'lower',
          target: 2,
        }),
        figure('age of the first row of a worker, prepared', samples['worker, prepared'], {
          unit: 'ms',
          better: 'lower',
          target: 2,
        }),
      ],
    };
  },
};

function ageOfFirstRow(client: pg.Client, query: pg.Query): Promise<number> {
  return new Promise((resolve, reject) => {
    let age: number | undefined;
    query.on('row', (row: { at: string }) => {
      age ??= performance.timeOrigin + performance.now() - Number(row.at);
    });
    query.on('error', reject);
    query.on('end', () => resolve(age ?? NaN));
    client.query(query);
  });
}
