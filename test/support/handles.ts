import { expect } from 'chai';
import { LIST_COLUMNS } from './api-functions.ts';
import { eventually } from './eventually.ts';
import type { TestClient } from './proxy.ts';

/** pid and cookie, as pg gives them. */
export type HandleValues = readonly [pid: number, cookie: string];

export async function launchV2(client: TestClient, sql: string): Promise<HandleValues> {
  const [row] = await client.rows('SELECT * FROM pg_background_launch_v2($1)', [sql]);
  return row as unknown as HandleValues;
}

export async function submitV2(client: TestClient, sql: string): Promise<HandleValues> {
  const [row] = await client.rows('SELECT * FROM pg_background_submit_v2($1)', [sql]);
  return row as unknown as HandleValues;
}

/** Columns of the row of a worker in pg_background_list_v2; undefined where it has none. */
export async function listedOf(
  client: TestClient,
  [pid, cookie]: HandleValues,
  columns = 'state',
): Promise<unknown[] | undefined> {
  const rows = await client.rows(
    `SELECT ${columns} FROM pg_background_list_v2() AS (${LIST_COLUMNS}) WHERE pid = $1 AND cookie = $2`,
    [pid, cookie],
  );
  return rows[0];
}

/** The state of a worker. */
export async function stateOf(client: TestClient, handle: HandleValues): Promise<unknown> {
  return (await listedOf(client, handle))?.[0];
}

/** A call with a handle, and more arguments, as its only select item. */
export function callOf(name: string, ...more: readonly (number | null)[]): string {
  return `SELECT pg_background_${name}(${['$1', '$2', ...more.map(String)].join(', ')})`;
}

export async function waitFor(client: TestClient, handle: HandleValues): Promise<void> {
  await client.query(callOf('wait_v2'), [...handle]);
}

/** The command tags that a worker gives, or its error. */
export function tagsOf(client: TestClient, handle: HandleValues): Promise<unknown[][]> {
  return client.rows('SELECT * FROM pg_background_result_v2($1, $2) AS (tag text)', [...handle]);
}

export async function untilState(
  client: TestClient,
  handle: HandleValues,
  state: string,
): Promise<void> {
  await eventually(async () => {
    expect(await stateOf(client, handle), 'state').to.equal(state);
  });
}

/** The complaint about a handle that the session does not know. */
export function notAttached([pid]: HandleValues) {
  return { code: '42704', message: `PID ${pid} is not attached to this session` };
}
