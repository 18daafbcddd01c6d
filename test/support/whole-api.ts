import { expect } from 'chai';
import { launch, LIST_COLUMNS, type Handle } from './api-functions.ts';
import { literal } from './call-forms.ts';
import { eventually } from './eventually.ts';
import { WAIT_AT_GATE, type Gate } from './gate.ts';
import type { WireSession } from './wire-session.ts';

/** A row with a value of each common type, one of them long; SQL that makes its table. */
export const CREATE_SAMPLE = `CREATE TABLE sample AS SELECT
  1 AS whole, 'it''s a \\ "déjà vu"'::text AS said, NULL::text AS nothing, repeat('0123456789', 2000)::text AS long,
  true AS fact, date '2024-02-01' AS day, timestamp '2024-02-01 03:04:05.678' AS moment,
  timestamptz '2024-07-01 12:00:00.123456+00' AS instant, interval '-1 year 2 days -03:04:05.6' AS span,
  '\\x00ff5c27'::bytea AS bytes, ARRAY[1, NULL, 3] AS wholes, ARRAY['NULL', NULL, 'a,b', ''] AS words,
  0.1::float8 + 0.2 AS double, (1.0 / 3)::float4 AS single, 12345678901234567890.123456789 AS exact,
  '{"a": [1, null, "\\u00e9"]}'::jsonb AS document, int4range(1, 5) AS range, 'public.sample'::text::name AS label`;

const SAMPLE_COLUMNS = `whole int, said text, nothing text, long text, fact boolean, day date, moment timestamp,
  instant timestamptz, span interval, bytes bytea, wholes int[], words text[], "double" float8, single float4,
  exact numeric, document jsonb, range int4range, label name`;

/** Uses all 15 functions, and expects each to do what it is for; nothing is written by a worker. */
export async function useWholeApi(session: WireSession, gate: Gate): Promise<void> {
  await gate.close();
  await expectRowsAsTheyStand(session);
  await expectErrorsOfWorkers(session);
  await expectToFollow(session, gate);
  await expectToCancel(session);
  await expectToForget(session);
  await expectCounts(session);
}

const call = (name: string, { pid, cookie }: Handle, more = '') =>
  `public.pg_background_${name}('${pid}', '${cookie}'${more})`;

/** The cookie tells it from a submitted worker that has ended and had the same pid. */
async function stateOf(
  session: WireSession,
  { pid, cookie }: Handle,
): Promise<string | null | undefined> {
  const rows = await session.rows(
    `SELECT pid, cookie, state, launched_at > now() - interval '1 hour' AND launched_at < now() + interval '1 hour', consumed
       FROM public.pg_background_list_v2() AS (${LIST_COLUMNS})`,
  );
  const row = rows.find((one) => one[0] === pid && one[1] === cookie);
  if (row !== undefined)
    expect(row.slice(3), 'launched lately, consumed').to.deep.equal(['t', 'f']);
  return row?.[2];
}

/** Functions: launch, result, launch_v2, result_v2. */
async function expectRowsAsTheyStand(session: WireSession): Promise<void> {
  const direct = await session.rows('SELECT * FROM public.sample');
  const sql = literal('SELECT * FROM public.sample');
  const v1 = `public.pg_background_result(public.pg_background_launch(${sql})) AS r(${SAMPLE_COLUMNS})`;
  const v2 = `public.pg_background_launch_v2(${sql}) AS h,
    LATERAL public.pg_background_result_v2(h.pid, h.cookie) AS r(${SAMPLE_COLUMNS})`;
  for (const source of [v1, v2]) {
    expect(await session.rows(`SELECT r.* FROM ${source}`), 'as text').to.deep.equal(direct);
    const same = `SELECT count(*) FROM (SELECT r.* FROM ${source} INTERSECT SELECT * FROM public.sample) AS s`;
    expect(await session.rows(same), 'as values').to.deep.equal([['1']]);
  }
}

async function expectErrorsOfWorkers(session: WireSession): Promise<void> {
  const handle = await launch(session, 'SELECT 1 / 0');
  const error = await session.error(`SELECT * FROM ${call('result_v2', handle)} AS (n int)`);
  expect(error.code).to.equal('22012');
}

/** Functions: submit_v2, wait_v2, wait_v2_timeout, list_v2, progress, get_progress_v2. */
async function expectToFollow(session: WireSession, gate: Gate): Promise<void> {
  const sql = `SELECT public.pg_background_progress(50, 'it''s half done'); ${WAIT_AT_GATE}`;
  const [row] = await session.rows(`SELECT * FROM public.pg_background_submit_v2(${literal(sql)})`);
  const handle = { pid: row?.[0] ?? '', cookie: row?.[1] ?? '' };
  await eventually(async () => {
    expect(
      await session.rows(`SELECT * FROM ${call('get_progress_v2', handle)}`),
      'progress',
    ).to.deep.equal([['50', "it's half done"]]);
  });
  expect(await session.rows(`SELECT ${call('wait_v2_timeout', handle, ', 0')}`)).to.deep.equal([
    ['f'],
  ]);
  expect(await stateOf(session, handle)).to.equal('running');

  const waiting = session.rows(`SELECT ${call('wait_v2', handle)}`);
  await gate.openOnceWaiting(session.backendPid, waiting);
  expect(await waiting).to.deep.equal([['']]);
  expect(await session.rows(`SELECT ${call('wait_v2_timeout', handle, ', 0')}`)).to.deep.equal([
    ['t'],
  ]);
  expect(await stateOf(session, handle)).to.equal('stopped');
  await gate.close();
}

/** Functions: cancel_v2, cancel_v2_grace, detach_v2. */
async function expectToCancel(session: WireSession): Promise<void> {
  const hard = await launch(session, WAIT_AT_GATE);
  await session.rows(`SELECT ${call('cancel_v2', hard)}`);
  await session.rows(`SELECT ${call('wait_v2', hard)}`);
  const gentle = await launch(session, WAIT_AT_GATE);
  await session.rows(`SELECT ${call('cancel_v2_grace', gentle, ', 60000')}`);
  for (const handle of [hard, gentle]) {
    expect(await stateOf(session, handle)).to.equal('canceled');
    await session.rows(`SELECT ${call('detach_v2', handle)}`);
    expect(await stateOf(session, handle)).to.equal(undefined);
  }
}

/** Function: detach. */
async function expectToForget(session: WireSession): Promise<void> {
  const handle = await launch(session, 'SELECT 1', true);
  const detach = `SELECT public.pg_background_detach('${handle.pid}')`;
  expect(await session.rows(detach)).to.deep.equal([['']]);
  expect((await session.error(detach)).code).to.equal('42704');
}

/** Function: stats_v2. The worker that was detached counts when it ends. */
async function expectCounts(session: WireSession): Promise<void> {
  await eventually(async () => {
    expect(
      await session.rows(
        `SELECT workers_launched, workers_completed, workers_failed, workers_canceled, workers_active, avg_execution_ms >= 0, max_workers
           FROM public.pg_background_stats_v2()`,
      ),
    ).to.deep.equal([['9', '6', '1', '2', '1', 't', '16']]);
  });
}
