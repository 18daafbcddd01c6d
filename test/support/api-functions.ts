import { expect } from 'chai';
import { literal, type Call } from './call-forms.ts';
import { eventually } from './eventually.ts';
import { WAIT_AT_GATE, type Gate } from './gate.ts';
import type { TextRow, WireSession } from './wire-session.ts';

/**
 * What a call of each function must bring about. The SQL here uses no operator and qualifies every
 * name, for the settings of the session may be hostile ones.
 */

/** Where calls are made. */
export interface Stage {
  readonly session: WireSession;
  /** Closed before the first call. */
  readonly gate: Gate;
  /** The role that makes the calls. */
  readonly role: string;
}

export interface Handle {
  readonly pid: string;
  readonly cookie: string;
}

/** A worker for one call of a function, or the SQL of one that the call will launch. */
export interface Task {
  /** What the worker writes, or gives; no other one writes the same. */
  readonly word: string;
  readonly sql: string;
  readonly handle?: Handle;
}

export interface ApiFunction {
  readonly name: string;
  readonly launches?: boolean;
  /** SQL of the worker that the call is about; or of the one that it launches. */
  sqlFor(word: string): string;
  /** Whether the call ends only after the gate has been opened. */
  readonly waitsAtGate?: boolean;
  call(task: Task): Call;
  /** A call that fails, and its SQLSTATE. */
  mistake(task: Task): { readonly call: Call; readonly code: string };
  /** Expects what a call has brought about, as far as it is seen from outside; lines are what it gave. */
  expectEffect(stage: Stage, task: Task, lines?: readonly string[]): Promise<void>;
  /** Expects the same of the handle. */
  expectHandle(stage: Stage, task: Task, lines?: readonly string[]): Promise<void>;
  /** Expects that there was no call, or that it was refused. */
  expectNothing(stage: Stage, task: Task): Promise<void>;
}

/** The columns of pg_background_list_v2. */
export const LIST_COLUMNS =
  'pid int, cookie bigint, launched_at timestamp with time zone, user_id pg_catalog.oid, queue_size int, ' +
  'state pg_catalog.text, sql_preview pg_catalog.text, last_error pg_catalog.text, consumed boolean';

const write = (word: string) => `INSERT INTO public.written VALUES (${literal(word)})`;
const writeAfterGate = (word: string) => `${WAIT_AT_GATE}; ${write(word)}`;
const threeRows = (word: string) =>
  `VALUES ('1'::int, ${literal(word)}), ('2', ${literal(word)}), ('3', ${literal(word)})`;
const rowsOf = (word: string) => [`1 ${word}`, `2 ${word}`, `3 ${word}`];

export async function launch(session: WireSession, sql: string, isV1 = false): Promise<Handle> {
  const name = isV1 ? 'pg_background_launch' : 'pg_background_launch_v2';
  const [row] = await session.rows(`SELECT * FROM public.${name}(${literal(sql)})`);
  return { pid: row?.[0] ?? '', cookie: row?.[1] ?? '0' };
}

const handleArguments = (task: Task): Call['args'] => [
  { type: 'int4', value: task.handle?.pid ?? '' },
  { type: 'int8', value: task.handle?.cookie ?? '' },
];
const onHandle = ({ pid, cookie }: Handle) => `('${pid}', '${cookie}')`;

/** The workers that the session lists: pid, state, SQL. */
export async function listed({ session }: Stage): Promise<TextRow[]> {
  return session.rows(
    `SELECT pid, state, sql_preview FROM public.pg_background_list_v2() AS (${LIST_COLUMNS})`,
  );
}

/** The roles in whose name workers wrote a word. */
async function writersOf({ session }: Stage, word: string): Promise<(string | null)[]> {
  const rows = await session.rows('TABLE public.written');
  return rows.filter((row) => row[0] === word).map((row) => row[1] ?? null);
}

async function expectWritten(stage: Stage, { word }: Task): Promise<void> {
  await eventually(async () => {
    expect(await writersOf(stage, word), 'who wrote').to.deep.equal([stage.role]);
  });
}

async function expectListed(stage: Stage, { handle, sql }: Task, state: string): Promise<void> {
  const rows = (await listed(stage)).filter(([pid]) => pid === handle?.pid);
  expect(rows, 'workers that are listed').to.deep.equal([[handle?.pid, state, sql]]);
}

async function resultOf({ session }: Stage, handle: Handle, columns: string): Promise<string[]> {
  const rows = await session.rows(
    `SELECT * FROM public.pg_background_result_v2${onHandle(handle)} AS (${columns})`,
  );
  return rows.map((row) => row.join(' '));
}

async function expectForgotten({ session }: Stage, { handle }: Task): Promise<void> {
  const error = await session.error(`SELECT public.pg_background_detach('${handle?.pid}')`);
  expect(error).to.include({
    code: '42704',
    message: `PID ${handle?.pid} is not attached to this session`,
  });
}

/** One of the three functions that launch; handleIn finds pid and cookie in what it gave. */
function launcher(name: string, handleIn: RegExp): ApiFunction {
  const call = ({ sql }: Task): Call => ({ name, args: [{ type: 'text', value: sql }] });
  return {
    name,
    launches: true,
    sqlFor: write,
    call,
    mistake: (task) => ({
      call: { name, args: [...call(task).args, { type: 'int4', value: '1' }] },
      code: '22023',
    }),
    expectEffect: expectWritten,
    async expectHandle(stage, { sql, word }, lines) {
      const row = (await listed(stage)).find(([, , preview]) => preview === sql);
      const pid = row?.[0] ?? 'no worker';
      let handle = { pid, cookie: '0' };
      if (lines !== undefined) {
        const [, givenPid = '', cookie = '0'] = handleIn.exec(lines.join()) ?? [];
        expect(givenPid, lines.join()).to.equal(pid);
        handle = { pid, cookie };
      }
      if (name === 'pg_background_submit_v2') {
        const error = await stage.session.error(
          `SELECT * FROM public.pg_background_result('${pid}') AS (tag pg_catalog.text)`,
        );
        expect(error.code).to.equal('0A000');
      } else if (lines === undefined) {
        const result = `SELECT * FROM public.pg_background_result('${pid}') AS (tag pg_catalog.text)`;
        expect(await stage.session.rows(result)).to.deep.equal([['INSERT 0 1']]);
      } else {
        const tags = await resultOf(stage, handle, 'tag pg_catalog.text');
        expect(tags, word).to.deep.equal(['INSERT 0 1']);
      }
    },
    async expectNothing(stage, { word }) {
      expect(await listed(stage)).to.deep.equal([]);
      const stats = 'SELECT workers_launched FROM public.pg_background_stats_v2()';
      expect(await stage.session.rows(stats)).to.deep.equal([['0']]);
      expect(await writersOf(stage, word)).to.deep.equal([]);
    },
  };
}

/** A call that names a worker, and one that names none. */
function handleCall(
  name: string,
  args = handleArguments,
): Pick<ApiFunction, 'name' | 'call' | 'mistake'> {
  return {
    name,
    call: (task) => ({ name, args: args(task) }),
    mistake: (task) => ({
      call: { name, args: args({ ...task, handle: { pid: '1', cookie: '0' } }) },
      code: '42704',
    }),
  };
}

function reader(name: string, args = handleArguments): ApiFunction {
  const record = {
    columns: 'n int, word pg_catalog.text',
    fields: ['r.n', 'r.word'],
  };
  const { call, mistake } = handleCall(name, args);
  return {
    name,
    sqlFor: threeRows,
    call: (task) => ({ ...call(task), record }),
    mistake: (task) => ({ call: { ...mistake(task).call, record }, code: '42704' }),
    expectEffect: (_stage, { word }, lines) => {
      if (lines !== undefined) expect(lines).to.deep.equal(rowsOf(word));
      return Promise.resolve();
    },
    expectHandle: expectForgotten,
    async expectNothing(stage, { word, handle }) {
      const rows = await resultOf(stage, handle as Handle, record.columns);
      expect(rows).to.deep.equal(rowsOf(word));
    },
  };
}

const wait: ApiFunction = {
  ...handleCall('pg_background_wait_v2'),
  sqlFor: writeAfterGate,
  waitsAtGate: true,
  async expectEffect(stage, { word }, lines) {
    if (lines !== undefined) expect(lines).to.deep.equal(['']);
    // The worker has committed, so there is nothing to wait for.
    expect(await writersOf(stage, word)).to.deep.equal([stage.role]);
  },
  expectHandle: (stage, task) => expectListed(stage, task, 'stopped'),
  expectNothing: (stage, task) => expectListed(stage, task, 'running'),
};

const list: ApiFunction = {
  name: 'pg_background_list_v2',
  sqlFor: writeAfterGate,
  call: () => ({
    name: 'pg_background_list_v2',
    args: [],
    record: { columns: LIST_COLUMNS, fields: ['r.state', 'r.sql_preview'] },
  }),
  mistake: () => ({
    call: {
      name: 'pg_background_list_v2',
      args: [],
      record: { columns: 'pid macaddr', fields: ['r.pid'] },
    },
    code: '42804',
  }),
  expectEffect: (_stage, { sql }, lines) => {
    if (lines !== undefined) expect(lines).to.include(`running ${sql}`);
    return Promise.resolve();
  },
  expectHandle: (stage, task) => expectListed(stage, task, 'running'),
  expectNothing: (stage, task) => expectListed(stage, task, 'running'),
};

const cancel: ApiFunction = {
  ...handleCall('pg_background_cancel_v2'),
  sqlFor: writeAfterGate,
  async expectEffect({ gate, ...stage }, { word }, lines) {
    if (lines !== undefined) expect(lines).to.deep.equal(['']);
    await gate.untilWaiting(0);
    await gate.open();
    expect(await writersOf({ gate, ...stage }, word)).to.deep.equal([]);
  },
  async expectHandle(stage, task) {
    const handle = onHandle(task.handle as Handle);
    await stage.session.rows(`SELECT public.pg_background_wait_v2${handle}`);
    await expectListed(stage, task, 'canceled');
    const result = `SELECT * FROM public.pg_background_result_v2${handle} AS (tag pg_catalog.text)`;
    expect(await stage.session.error(result)).to.include({
      code: '57P01',
      message: 'terminating background worker "pg_background" due to administrator command',
    });
  },
  async expectNothing(stage, task) {
    await stage.gate.untilWaiting(1);
    await expectListed(stage, task, 'running');
  },
};

const detach: ApiFunction = {
  ...handleCall('pg_background_detach_v2'),
  sqlFor: writeAfterGate,
  async expectEffect(stage, task, lines) {
    if (lines !== undefined) expect(lines).to.deep.equal(['']);
    await stage.gate.open();
    await expectWritten(stage, task);
  },
  expectHandle: expectForgotten,
  expectNothing: (stage, task) => expectListed(stage, task, 'running'),
};

/** The functions that stand in every position. */
export const apiFunctions: readonly ApiFunction[] = [
  launcher('pg_background_launch', /^(\d+)$/),
  launcher('pg_background_launch_v2', /^\((\d+),(-?\d+)\)$/),
  launcher('pg_background_submit_v2', /^\((\d+),(-?\d+)\)$/),
  reader('pg_background_result', (task) => handleArguments(task).slice(0, 1)),
  reader('pg_background_result_v2'),
  wait,
  list,
  cancel,
  detach,
];
