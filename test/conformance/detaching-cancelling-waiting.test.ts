import { expect } from 'chai';
import { eventually } from '../support/eventually.ts';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import {
  callOf,
  launchV2,
  listedOf,
  notAttached,
  stateOf,
  tagsOf,
  untilState,
  waitFor,
  type HandleValues,
} from '../support/handles.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

/**
 * Specifies what can be done with a worker by its handle: forget it, end it, wait for its end. A
 * gate holds workers up until a test lets them go on.
 */
describe('with the handle of a worker', () => {
  let proxy: TestProxy;
  let client: TestClient;
  let gate: Gate;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (await proxy.database.direct()).query('CREATE TABLE t (a int)');
  });
  beforeEach(async () => {
    client = await proxy.connect();
    await client.query('TRUNCATE t');
    gate = new Gate(await proxy.database.direct());
    await gate.close();
  });
  afterEach(async () => {
    await gate.open();
    await proxy.expectNothingLeft();
  });
  after(() => proxy.stop());

  const writeAfterGate = `${WAIT_AT_GATE}; INSERT INTO t VALUES (1)`;
  const count = () => client.value('SELECT count(*)::int FROM t');
  const untilWritten = () =>
    eventually(async () => {
      expect(await count(), 'rows that were written').to.equal(1);
    });
  const errorOf = (name: string, handle: HandleValues, ...more: number[]) =>
    client.error(callOf(name, ...more), [...handle]);
  const resultError = (handle: HandleValues) =>
    client.error('SELECT * FROM pg_background_result_v2($1, $2) AS (tag text)', [...handle]);
  const terminated = {
    code: '57P01',
    message: 'terminating background worker "pg_background" due to administrator command',
  };

  describe('pg_background_detach_v2', () => {
    it('forgets the handle at once', async () => {
      const handle = await launchV2(client, writeAfterGate);
      await client.query(callOf('detach_v2'), [...handle]);
      expect(await listedOf(client, handle)).to.equal(undefined);
      expect(await resultError(handle)).to.include(notAttached(handle));
    });

    it('lets the worker go on and commit', async () => {
      const handle = await launchV2(client, writeAfterGate);
      await client.query(callOf('detach_v2'), [...handle]);
      await gate.untilWaiting(1);
      await gate.open();
      await untilWritten();
    });

    it('lets a worker go on whose output nobody has read', async () => {
      const handle = await launchV2(
        client,
        `SELECT repeat('x', 1000) FROM generate_series(1, 2000); ${writeAfterGate} RETURNING repeat('x', 1000000)`,
      );
      await client.query(callOf('detach_v2'), [...handle]);
      await gate.open();
      await untilWritten();
    });

    it('lets a worker go on that was launched a moment ago', async () => {
      await gate.open();
      await client.query(
        `SELECT pg_background_detach_v2(pid, cookie) FROM pg_background_launch_v2('INSERT INTO t VALUES (1)')`,
      );
      await untilWritten();
    });

    it('loses an error that nobody has read', async () => {
      const handle = await launchV2(client, 'SELECT 1/0');
      await untilState(client, handle, 'error');
      expect(await client.rows(callOf('detach_v2'), [...handle])).to.deep.equal([['']]);
    });

    it('fails the second time', async () => {
      const handle = await launchV2(client, 'SELECT 1');
      await client.query(callOf('detach_v2'), [...handle]);
      expect(await errorOf('detach_v2', handle)).to.include(notAttached(handle));
    });

    it('is not undone by a rollback', async () => {
      const handle = await launchV2(client, 'SELECT 1');
      await client.query('BEGIN');
      await client.query(callOf('detach_v2'), [...handle]);
      await client.query('ROLLBACK');
      expect(await listedOf(client, handle)).to.equal(undefined);
    });

    it('makes room under pg_background.max_workers', async () => {
      await client.query('SET pg_background.max_workers = 1');
      const handle = await launchV2(client, 'SELECT 1');
      await client.query(callOf('detach_v2'), [...handle]);
      await launchV2(client, 'SELECT 2');
    });

    it('knows a worker of pg_background_launch by the cookie 0', async () => {
      const pid = (await client.value(`SELECT pg_background_launch('SELECT 1')`)) as number;
      await client.query(callOf('detach_v2'), [pid, '0']);
      expect(await listedOf(client, [pid, '0'])).to.equal(undefined);
    });
  });

  describe('pg_background_detach', () => {
    it('knows a worker of pg_background_launch_v2 by its pid', async () => {
      const [pid, cookie] = await launchV2(client, 'SELECT 1');
      expect(await client.rows('SELECT pg_background_detach($1)', [pid])).to.deep.equal([['']]);
      expect(await listedOf(client, [pid, cookie])).to.equal(undefined);
    });

    it('fails the second time', async () => {
      const pid = (await client.value(`SELECT pg_background_launch('SELECT 1')`)) as number;
      await client.query('SELECT pg_background_detach($1)', [pid]);
      expect(await client.error('SELECT pg_background_detach($1)', [pid])).to.include(
        notAttached([pid, '0']),
      );
    });
  });

  describe('pg_background_cancel_v2', () => {
    it('ends the worker, and nothing of its work stays', async () => {
      const handle = await launchV2(client, `INSERT INTO t VALUES (1); ${WAIT_AT_GATE}`);
      await gate.untilWaiting(1);
      expect(await client.rows(callOf('cancel_v2'), [...handle])).to.deep.equal([['']]);
      await gate.untilWaiting(0);
      expect(await count()).to.equal(0);
    });

    it('keeps the handle, whose state is canceled and whose result is an error', async () => {
      const handle = await launchV2(client, WAIT_AT_GATE);
      await client.query(callOf('cancel_v2'), [...handle]);
      await waitFor(client, handle);
      expect(await listedOf(client, handle, 'state, last_error')).to.deep.equal([
        'canceled',
        terminated.message,
      ]);
      expect(await resultError(handle)).to.include(terminated);
      expect(await resultError(handle)).to.include(notAttached(handle));
    });

    it('ends a worker that catches the cancelling of its statement', async () => {
      const handle = await launchV2(
        client,
        `DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN END; END LOOP; END $$`,
      );
      await client.query(callOf('cancel_v2'), [...handle]);
      await waitFor(client, handle);
      expect(await stateOf(client, handle)).to.equal('canceled');
    });

    it('does the same as once when it is called twice', async () => {
      const handle = await launchV2(client, WAIT_AT_GATE);
      await client.query(callOf('cancel_v2'), [...handle]);
      await client.query(callOf('cancel_v2'), [...handle]);
      await waitFor(client, handle);
      await client.query(callOf('cancel_v2'), [...handle]);
      expect(await client.value('SELECT (pg_background_stats_v2()).workers_canceled')).to.equal(
        '1',
      );
      expect(await resultError(handle)).to.include(terminated);
    });

    for (const name of ['cancel_v2', 'cancel_v2_grace']) {
      const more = name === 'cancel_v2' ? [] : [1000];
      it(`does nothing to a worker that has ended well (${name})`, async () => {
        const handle = await launchV2(client, 'INSERT INTO t VALUES (1)');
        await waitFor(client, handle);
        await client.query(callOf(name, ...more), [...handle]);
        expect(await stateOf(client, handle)).to.equal('stopped');
        expect(await tagsOf(client, handle)).to.deep.equal([['INSERT 0 1']]);
        expect(await client.value('SELECT (pg_background_stats_v2()).workers_canceled')).to.equal(
          '0',
        );
      });

      it(`does nothing to a worker that has failed (${name})`, async () => {
        const handle = await launchV2(client, 'SELECT 1/0');
        await waitFor(client, handle);
        await client.query(callOf(name, ...more), [...handle]);
        expect(await stateOf(client, handle)).to.equal('error');
        expect((await resultError(handle)).code).to.equal('22012');
      });
    }

    it('is not undone by a rollback', async () => {
      const handle = await launchV2(client, WAIT_AT_GATE);
      await client.query('BEGIN');
      await client.query(callOf('cancel_v2'), [...handle]);
      await client.query('ROLLBACK');
      await waitFor(client, handle);
      expect(await stateOf(client, handle)).to.equal('canceled');
    });
  });

  describe('pg_background_cancel_v2_grace', () => {
    const catchesCancel = (afterwards: string) =>
      `DO $$ BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN ${afterwards}; END $$`;
    async function untilAsleep(pid: number): Promise<void> {
      const direct = await proxy.database.direct();
      await eventually(async () => {
        const { rows } = await direct.query(
          `SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'`,
          [pid],
        );
        expect(rows, 'workers that sleep').to.have.length(1);
      });
    }

    it('cancels the statement, and returns when the worker has ended', async () => {
      const handle = await launchV2(client, WAIT_AT_GATE);
      await gate.untilWaiting(1);
      await client.query(callOf('cancel_v2_grace', 3_600_000), [...handle]);
      expect(await stateOf(client, handle)).to.equal('canceled');
      expect((await resultError(handle)).code).to.equal('57014');
    });

    it('is not lost on a worker that has only just been launched, whatever track_activities is', async () => {
      const { name } = proxy.database;
      const admin = await proxy.database.direct();
      for (const value of ['off', 'on']) {
        await admin.query(`ALTER DATABASE ${name} SET track_activities = ${value}`);
        const other = await proxy.connect();
        await other.query('SET pg_background.max_workers = 1000');
        for (let i = 0; i < 50; i++) {
          const returned = await other.value(
            `SELECT pg_background_cancel_v2_grace(h.pid, h.cookie, 3600000) FROM pg_background_launch_v2('SELECT pg_sleep(600)') AS h`,
          );
          expect(returned).to.equal('');
        }
        await other.query(
          'SELECT pg_background_detach_v2(pid, cookie) FROM pg_background_list_v2() AS (pid int, cookie bigint)',
        );
        await admin.query(`ALTER DATABASE ${name} RESET track_activities`);
      }
    });

    it('lets SQL that catches the cancelling end well', async () => {
      const handle = await launchV2(client, catchesCancel('INSERT INTO t VALUES (1)'));
      await untilAsleep(handle[0]);
      await client.query(callOf('cancel_v2_grace', 3_600_000), [...handle]);
      expect(await count()).to.equal(1);
      expect(await stateOf(client, handle)).to.equal('stopped');
      expect(await tagsOf(client, handle)).to.deep.equal([['DO']]);
    });

    it('cancels once: what SQL does after it has caught that is left alone', async () => {
      // The server itself cancels twice, now and then, for a cancel request of the protocol.
      for (let i = 0; i < 25; i++) {
        const handle = await launchV2(client, catchesCancel('PERFORM pg_sleep(0.01)'));
        await untilAsleep(handle[0]);
        await client.query(callOf('cancel_v2_grace', 3_600_000), [...handle]);
        expect(await listedOf(client, handle, 'state, last_error')).to.deep.equal([
          'stopped',
          null,
        ]);
        await client.query(callOf('detach_v2'), [...handle]);
      }
    });

    it('terminates the worker when it still runs after the grace', async () => {
      const handle = await launchV2(client, catchesCancel('PERFORM pg_sleep(60)'));
      await untilAsleep(handle[0]);
      await client.query(callOf('cancel_v2_grace', 50), [...handle]);
      await waitFor(client, handle);
      expect(await stateOf(client, handle)).to.equal('canceled');
      expect(await resultError(handle)).to.include(terminated);
    });

    for (const graceMs of [0, -1, -2147483648]) {
      it(`does what pg_background_cancel_v2 does with a grace of ${graceMs} ms`, async () => {
        const handle = await launchV2(client, catchesCancel('PERFORM pg_sleep(60)'));
        await client.query(callOf('cancel_v2_grace', graceMs), [...handle]);
        await waitFor(client, handle);
        expect(await resultError(handle)).to.include(terminated);
      });
    }

    it('takes a grace above an hour for an hour', async () => {
      const handle = await launchV2(client, WAIT_AT_GATE);
      await client.query(callOf('cancel_v2_grace', 2_147_483_647), [...handle]);
      expect(await stateOf(client, handle)).to.equal('canceled');
    });
  });

  describe('a worker whose backend is signalled', () => {
    it('fails as after pg_background_cancel_v2 when it is terminated', async () => {
      const handle = await launchV2(client, WAIT_AT_GATE);
      await client.query('SELECT pg_terminate_backend($1)', [handle[0]]);
      expect(await resultError(handle)).to.include(terminated);
    });

    it('fails with 57014 when its statement is cancelled', async () => {
      const handle = await launchV2(client, WAIT_AT_GATE);
      await gate.untilWaiting(1);
      await client.query('SELECT pg_cancel_backend($1)', [handle[0]]);
      expect(await resultError(handle)).to.include({
        code: '57014',
        message: 'canceling statement due to user request',
      });
    });
  });

  describe('pg_background_wait_v2', () => {
    it('returns when the worker has ended and committed', async () => {
      const handle = await launchV2(client, writeAfterGate);
      const waiting = client.rows(callOf('wait_v2'), [...handle]);
      await gate.untilWaiting(1);
      await gate.open();
      expect(await waiting).to.deep.equal([['']]);
      expect(await count()).to.equal(1);
    });

    it('keeps the result', async () => {
      await gate.open();
      const handle = await launchV2(client, writeAfterGate);
      await waitFor(client, handle);
      await waitFor(client, handle);
      expect(await tagsOf(client, handle)).to.deep.equal([['SELECT 1'], ['INSERT 0 1']]);
    });

    it('raises no error of the worker, and keeps it', async () => {
      const handle = await launchV2(client, 'SELECT 1/0');
      await waitFor(client, handle);
      expect((await resultError(handle)).code).to.equal('22012');
    });

    it('can be interrupted, and leaves worker and handle as they were', async () => {
      const handle = await launchV2(client, writeAfterGate);
      await client.query(`SET statement_timeout = '50ms'`);
      expect((await errorOf('wait_v2', handle)).code).to.equal('57014');
      await client.query('RESET statement_timeout');
      expect(await stateOf(client, handle)).to.equal('running');
      await gate.open();
      await waitFor(client, handle);
      expect(await count()).to.equal(1);
    });
  });

  describe('pg_background_wait_v2_timeout', () => {
    for (const timeoutMs of [0, -1, -2147483648]) {
      it(`only looks with a timeout of ${timeoutMs} ms`, async () => {
        const handle = await launchV2(client, WAIT_AT_GATE);
        const look = () => client.value(callOf('wait_v2_timeout', timeoutMs), [...handle]);
        expect(await look()).to.equal(false);
        await gate.open();
        await waitFor(client, handle);
        expect(await look()).to.equal(true);
      });
    }

    it('gives false when the worker still runs after the time, and keeps the handle', async () => {
      const handle = await launchV2(client, WAIT_AT_GATE);
      expect(await client.value(callOf('wait_v2_timeout', 30), [...handle])).to.equal(false);
      expect(await stateOf(client, handle)).to.equal('running');
    });

    it('takes a timeout above a day for a day', async () => {
      const handle = await launchV2(client, WAIT_AT_GATE);
      const waiting = client.value(callOf('wait_v2_timeout', 2_147_483_647), [...handle]);
      await gate.untilWaiting(1);
      await gate.open();
      expect(await waiting).to.equal(true);
    });

    it('gives true for a worker that has failed', async () => {
      const handle = await launchV2(client, 'SELECT 1/0');
      expect(await client.value(callOf('wait_v2_timeout', 60_000), [...handle])).to.equal(true);
    });

    it('gives true for a worker that was cancelled', async () => {
      const handle = await launchV2(client, WAIT_AT_GATE);
      await client.query(callOf('cancel_v2'), [...handle]);
      expect(await client.value(callOf('wait_v2_timeout', 60_000), [...handle])).to.equal(true);
    });
  });

  describe('each function with a handle', () => {
    const functions: readonly (readonly [string, ...number[]])[] = [
      ['detach_v2'],
      ['cancel_v2'],
      ['cancel_v2_grace', 10],
      ['wait_v2'],
      ['wait_v2_timeout', 10],
    ];
    for (const [name, ...more] of functions) {
      it(`refuses a pid that the session has not launched (${name})`, async () => {
        expect(await errorOf(name, [1, '1'], ...more)).to.include(notAttached([1, '1']));
      });

      it(`refuses another cookie, and keeps the handle (${name})`, async () => {
        const handle = await launchV2(client, WAIT_AT_GATE);
        expect(await errorOf(name, [handle[0], '12345'], ...more)).to.include({
          code: '55000',
          message: `cookie mismatch for PID ${handle[0]}`,
          hint: 'The worker may have been restarted or the handle is stale.',
        });
        expect(await stateOf(client, handle)).to.equal('running');
      });

      it(`gives NULL and does nothing where an argument is NULL (${name})`, async () => {
        const handle = await launchV2(client, WAIT_AT_GATE);
        const call = callOf(name, ...more);
        expect(await client.value(call, [null, handle[1]])).to.equal(null);
        expect(await client.value(call, [handle[0], null])).to.equal(null);
        expect(await stateOf(client, handle)).to.equal('running');
      });
    }
  });
});
