import type pg from 'pg';

const CALL = `SELECT * FROM pg_background_result(pg_background_launch('SELECT 1')) AS (n int)`;

/** How long each of some launches with their results took in a session, in milliseconds. */
export async function timeLaunches(client: pg.Client, launches: number): Promise<number[]> {
  const times: number[] = [];
  for (let launch = 0; launch < launches; launch++) {
    const began = process.hrtime.bigint();
    await client.query(CALL);
    times.push(Number(process.hrtime.bigint() - began) / 1e6);
  }
  return times;
}
