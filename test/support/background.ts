import type pg from 'pg';
import type { TestClient } from './proxy.ts';

/** A pid and a cookie, as a handle's two columns come. */
export type Handle = readonly [pid: number, cookie: string];

/** The column definition list of pg_background_list_v2. */
export const LIST_COLUMNS =
  'pid int4, cookie int8, launched_at timestamptz, user_id oid, queue_size int4, state text, sql_preview text, last_error text, consumed bool';

/** Runs SQL in a worker and gives its rows as arrays, which come through the function. */
export function inBackground(
  client: TestClient,
  sql: string,
  columns = 'result text',
): Promise<unknown[][]> {
  return client.rows(readLaunched(columns), [sql]);
}

/** Runs SQL in a worker, and gives the error with which its result is read. */
export function errorInBackground(
  client: TestClient,
  sql: string,
  columns = 'result text',
): Promise<pg.DatabaseError> {
  return client.error(readLaunched(columns), [sql]);
}

/** Launches a worker of v1. */
export async function launch(client: TestClient, sql: string): Promise<number> {
  return (await client.value('SELECT pg_background_launch($1)', [sql])) as number;
}

/** Launches a worker of v2, by the function that is named. */
export async function launchHandle(
  client: TestClient,
  sql: string,
  by: 'launch_v2' | 'submit_v2' = 'launch_v2',
): Promise<Handle> {
  const [row] = await client.rows(`SELECT * FROM pg_background_${by}($1)`, [sql]);
  return row as unknown as Handle;
}

/** Reads a result by pid, through the function: its rows cannot go past it. */
export function readResult(
  client: TestClient,
  pid: number,
  columns = 'result text',
): Promise<unknown[][]> {
  return client.rows(`SELECT r.* FROM pg_background_result($1) AS r (${columns})`, [pid]);
}

/** The error with which a result is read by pid. */
export function readError(
  client: TestClient,
  pid: number,
  columns = 'result text',
): Promise<pg.DatabaseError> {
  return client.error(`SELECT r.* FROM pg_background_result($1) AS r (${columns})`, [pid]);
}

/** The pids that the session holds handles of, in the order of launch. */
export async function heldPids(client: TestClient): Promise<unknown[]> {
  const rows = await client.rows(
    `SELECT pid FROM pg_background_list_v2() AS (${LIST_COLUMNS}) ORDER BY launched_at, pid`,
  );
  return rows.map(([pid]) => pid);
}

/** Cancels all workers that the session holds handles of. */
export async function cancelAll(client: TestClient): Promise<void> {
  await client.query(
    'SELECT pg_background_cancel_v2(pid, cookie) FROM pg_background_list_v2() AS (pid int4, cookie int8)',
  );
}

function readLaunched(columns: string): string {
  return `SELECT r.* FROM pg_background_result(pg_background_launch($1)) AS r (${columns})`;
}
