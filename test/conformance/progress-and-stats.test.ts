import { expect } from 'chai';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import {
  callOf,
  launchV2,
  submitV2,
  tagsOf,
  untilState,
  waitFor,
  type HandleValues,
} from '../support/handles.ts';
import { eventually } from '../support/eventually.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

/** Specifies how workers tell their progress, and how a session counts what became of its workers. */
let proxy: TestProxy;
let client: TestClient;
let gate: Gate;

async function begin(): Promise<void> {
  client = await proxy.connect();
  gate = new Gate(await proxy.database.direct());
  await gate.close();
}

async function finish(): Promise<void> {
  await gate.open();
  await proxy.expectNothingLeft();
}

const progressOf = async ([pid, cookie]: HandleValues) =>
  (await client.rows('SELECT * FROM pg_background_get_progress_v2($1, $2)', [pid, cookie]))[0];

async function untilProgress(handle: HandleValues, pct: number, message: string): Promise<void> {
  await eventually(async () => {
    expect(await progressOf(handle), 'progress').to.deep.equal([pct, message]);
  });
}

describe('pg_background_progress', () => {
  before(async () => {
    proxy = await TestProxy.startInstalled();
  });
  beforeEach(begin);
  afterEach(finish);
  after(() => proxy.stop());

  it('is refused outside of a worker', async () => {
    expect(await client.error(`SELECT pg_background_progress(50, 'half')`)).to.include({
      code: '0A000',
      message: 'pg_background_progress can only be called from a background worker',
    });
  });

  it('shows at once what a worker reports, while its transaction is open', async () => {
    const handle = await launchV2(
      client,
      `SELECT pg_background_progress(50, 'half'); ${WAIT_AT_GATE}; SELECT pg_background_progress(90, 'nearly')`,
    );
    await untilProgress(handle, 50, 'half');
    await gate.open();
    await waitFor(client, handle);
    await untilProgress(handle, 90, 'nearly');
  });

  const reports: readonly (readonly [call: string, pct: number, message: string])[] = [
    [`0, ''`, 0, ''],
    [`100, 'done'`, 100, 'done'],
    [`-5, 'below'`, 0, 'below'],
    [`150, 'above'`, 100, 'above'],
    [`-2147483648, 'far below'`, 0, 'far below'],
    [`2147483647, 'far above'`, 100, 'far above'],
    [`NULL, 'no number'`, 0, 'no number'],
    [`30, NULL`, 30, ''],
    [`30`, 30, ''],
    [`pct => 30, msg => 'by name'`, 30, 'by name'],
    [`1, 'it''s "déjà vu" \\ 😀'`, 1, `it's "déjà vu" \\ 😀`],
    [`1, repeat('x', 63)`, 1, 'x'.repeat(63)],
    [`1, repeat('x', 64)`, 1, 'x'.repeat(63)],
    [`1, repeat('é', 40)`, 1, 'é'.repeat(31)],
    [`1, 'x' || repeat('é', 40)`, 1, 'x' + 'é'.repeat(31)],
    [`1, repeat('😀', 40)`, 1, '😀'.repeat(15)],
  ];
  for (const [call, pct, message] of reports) {
    it(`shows (${pct}, '${message}') for (${call})`, async () => {
      const handle = await launchV2(client, `SELECT pg_background_progress(${call})`);
      await untilProgress(handle, pct, message);
    });
  }

  it('can be called in functions, and many times', async () => {
    const handle = await launchV2(
      client,
      `DO $$ BEGIN FOR i IN 1..50 LOOP PERFORM pg_background_progress(i, 'step ' || i); END LOOP; END $$`,
    );
    await untilProgress(handle, 50, 'step 50');
  });

  it('counts the last of many reports that come all at once', async () => {
    const handle = await launchV2(
      client,
      `DO $$ BEGIN PERFORM pg_sleep(0.1); FOR i IN 1..100 LOOP PERFORM pg_background_progress(i, 'step ' || i); END LOOP; END $$`,
    );
    // The proxy, which lives in this process, is held up while the worker reports.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
    await untilProgress(handle, 100, 'step 100');
  });

  it('gives a void value to the SQL of the worker', async () => {
    const handle = await launchV2(client, 'SELECT pg_background_progress(1)');
    expect(await tagsOf(client, handle)).to.deep.equal([['']]);
  });

  it('is no part of the transaction: what a worker that fails has reported stays', async () => {
    const handle = await launchV2(client, `SELECT pg_background_progress(70, 'soon'); SELECT 1/0`);
    await untilState(client, handle, 'error');
    await untilProgress(handle, 70, 'soon');
  });

  it('works for submitted workers', async () => {
    const handle = await submitV2(client, `SELECT pg_background_progress(10, 'sent')`);
    await untilProgress(handle, 10, 'sent');
  });

  it('does not reach the launcher of the launcher', async () => {
    const handle = await launchV2(
      client,
      `SELECT n FROM pg_background_launch_v2('SELECT pg_background_progress(10, ''inner'')') AS h,
              LATERAL pg_background_result_v2(h.pid, h.cookie) AS r(n text)`,
    );
    await waitFor(client, handle);
    expect(await progressOf(handle)).to.deep.equal([null, null]);
  });
});

describe('pg_background_get_progress_v2', () => {
  before(async () => {
    proxy = await TestProxy.startInstalled();
  });
  beforeEach(begin);
  afterEach(finish);
  after(() => proxy.stop());

  it('gives a composite value', async () => {
    const handle = await launchV2(client, `SELECT pg_background_progress(10, 'ten')`);
    await untilProgress(handle, 10, 'ten');
    expect(await client.value(callOf('get_progress_v2'), [...handle])).to.equal('(10,ten)');
    expect(
      await client.rows(
        'SELECT progress_pct, progress_msg FROM pg_background_get_progress_v2($1, $2)',
        [...handle],
      ),
    ).to.deep.equal([[10, 'ten']]);
  });

  /** NULL, and one row of NULLs in FROM. */
  async function expectNone(pid: number | null, cookie: string | null): Promise<void> {
    expect(await client.value(callOf('get_progress_v2'), [pid, cookie])).to.equal(null);
    expect(
      await client.rows('SELECT * FROM pg_background_get_progress_v2($1, $2)', [pid, cookie]),
    ).to.deep.equal([[null, null]]);
  }

  it('gives NULL before the first report', async () => {
    await expectNone(...(await launchV2(client, WAIT_AT_GATE)));
  });

  it('gives NULL for a pid that the session does not know', () => expectNone(1, '1'));

  it('gives NULL for NULL', () => expectNone(null, null));

  it('gives NULL for another cookie', async () => {
    const handle = await launchV2(client, `SELECT pg_background_progress(10, 'ten')`);
    await untilProgress(handle, 10, 'ten');
    await expectNone(handle[0], '12345');
  });

  it('keeps the last report when the worker has ended, until the handle is detached', async () => {
    const handle = await launchV2(client, `SELECT pg_background_progress(10, 'ten')`);
    await waitFor(client, handle);
    await untilProgress(handle, 10, 'ten');
    await client.query(callOf('detach_v2'), [...handle]);
    await expectNone(...handle);
  });

  it('keeps it until the result is read', async () => {
    const handle = await launchV2(client, `SELECT pg_background_progress(10, 'ten')`);
    await waitFor(client, handle);
    await untilProgress(handle, 10, 'ten');
    await tagsOf(client, handle);
    await expectNone(...handle);
  });

  it('knows a worker of pg_background_launch by the cookie 0', async () => {
    const pid = (await client.value(
      `SELECT pg_background_launch('SELECT pg_background_progress(10, ''ten'')')`,
    )) as number;
    await untilProgress([pid, '0'], 10, 'ten');
  });
});

describe('pg_background_stats_v2', () => {
  before(async () => {
    proxy = await TestProxy.startInstalled();
  });
  beforeEach(begin);
  afterEach(finish);
  after(() => proxy.stop());

  const stats = async () => {
    const { rows } = await client.query<Record<string, unknown>>(
      'SELECT * FROM pg_background_stats_v2()',
    );
    return rows[0] as Record<string, unknown>;
  };
  /** launched, completed, failed, canceled, active */
  const counts = async () =>
    Object.values(await stats())
      .slice(0, 5)
      .map(Number);

  it('has seven columns', async () => {
    expect(
      await client.rows(
        `SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
          WHERE attrelid = (SELECT typrelid FROM pg_type WHERE oid = 'pg_background_stats'::regtype) ORDER BY attnum`,
      ),
    ).to.deep.equal([
      ['workers_launched', 'bigint'],
      ['workers_completed', 'bigint'],
      ['workers_failed', 'bigint'],
      ['workers_canceled', 'bigint'],
      ['workers_active', 'integer'],
      ['avg_execution_ms', 'double precision'],
      ['max_workers', 'integer'],
    ]);
  });

  it('begins at nothing', async () => {
    expect(await stats()).to.deep.equal({
      workers_launched: '0',
      workers_completed: '0',
      workers_failed: '0',
      workers_canceled: '0',
      workers_active: 0,
      avg_execution_ms: 0,
      max_workers: 16,
    });
  });

  const ends: readonly (readonly [title: string, sql: string, counts: readonly number[]])[] = [
    ['a worker that ended well as completed', 'SELECT 1', [1, 1, 0, 0, 1]],
    [
      'a worker that raised a notice as completed',
      `DO $$ BEGIN RAISE NOTICE 'hello'; END $$`,
      [1, 1, 0, 0, 1],
    ],
    ['VACUUM VERBOSE as completed', 'VACUUM VERBOSE pg_class', [1, 1, 0, 0, 1]],
    ['a worker that failed as failed', 'SELECT 1/0', [1, 0, 1, 0, 1]],
  ];
  for (const [title, sql, expected] of ends) {
    it(`counts ${title}, when it ends`, async () => {
      const handle = await launchV2(client, `${sql}`);
      await waitFor(client, handle);
      expect(await counts()).to.deep.equal(expected);
    });
  }

  it('counts a worker that was cancelled as canceled, when it ends', async () => {
    const handle = await launchV2(client, WAIT_AT_GATE);
    expect(await counts()).to.deep.equal([1, 0, 0, 0, 1]);
    await client.query(callOf('cancel_v2'), [...handle]);
    await waitFor(client, handle);
    expect(await counts()).to.deep.equal([1, 0, 0, 1, 1]);
  });

  it('counts a worker that was cancelled after its end as what it was', async () => {
    const handle = await launchV2(client, 'SELECT 1');
    await waitFor(client, handle);
    await client.query(callOf('cancel_v2'), [...handle]);
    await client.query(callOf('detach_v2'), [...handle]);
    expect(await counts()).to.deep.equal([1, 1, 0, 0, 0]);
  });

  it('counts a worker that failed as failed, though it is detached unread', async () => {
    const handle = await launchV2(client, 'SELECT 1/0');
    await untilState(client, handle, 'error');
    await client.query(callOf('detach_v2'), [...handle]);
    expect(await counts()).to.deep.equal([1, 0, 1, 0, 0]);
  });

  it('counts a worker that was detached while it ran, when it ends', async () => {
    const handle = await launchV2(client, WAIT_AT_GATE);
    await client.query(callOf('detach_v2'), [...handle]);
    expect(await counts()).to.deep.equal([1, 0, 0, 0, 0]);
    await gate.open();
    await eventually(async () => {
      expect(await counts()).to.deep.equal([1, 1, 0, 0, 0]);
    });
  });

  it('counts handles as active, also those of workers that have ended', async () => {
    const handles = [await launchV2(client, 'SELECT 1'), await launchV2(client, WAIT_AT_GATE)];
    expect((await counts())[4]).to.equal(2);
    await tagsOf(client, handles[0] as HandleValues);
    expect((await counts())[4]).to.equal(1);
  });

  it('counts reading a result as nothing more', async () => {
    const handle = await launchV2(client, 'SELECT 1');
    await waitFor(client, handle);
    const before = await counts();
    await tagsOf(client, handle);
    expect((await counts()).slice(0, 4)).to.deep.equal(before.slice(0, 4));
  });

  it('counts no launch that was refused', async () => {
    await client.error(`SELECT pg_background_launch('SELECT 1', 1)`);
    expect(await counts()).to.deep.equal([0, 0, 0, 0, 0]);
  });

  it('tells the average time from launch to end, whenever the result is read', async () => {
    const handle = await launchV2(client, 'SELECT pg_sleep(0.05)');
    expect((await stats())['avg_execution_ms']).to.equal(0);
    await waitFor(client, handle);
    const { avg_execution_ms: average } = await stats();
    expect(average).to.be.at.least(49);
    await tagsOf(client, handle);
    expect((await stats())['avg_execution_ms']).to.equal(average);
  });

  it('tells the limit that is set now', async () => {
    await client.query('SET pg_background.max_workers = 7');
    expect((await stats())['max_workers']).to.equal(7);
    await client.query('RESET pg_background.max_workers');
    expect((await stats())['max_workers']).to.equal(16);
  });

  it('is about this session only', async () => {
    await launchV2(client, 'SELECT 1');
    const other = await proxy.connect();
    expect(await other.value('SELECT (pg_background_stats_v2()).workers_launched')).to.equal('0');
  });

  it('is not reset by DISCARD ALL', async () => {
    await launchV2(client, 'SELECT 1');
    await client.query('DISCARD ALL');
    expect((await counts())[0]).to.equal(1);
  });
});
