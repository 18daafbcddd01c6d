import { expect } from 'chai';
import { LIST_COLUMNS } from '../support/api-functions.ts';
import { eventually } from '../support/eventually.ts';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import {
  callOf,
  launchV2,
  notAttached,
  submitV2,
  tagsOf,
  waitFor,
  type HandleValues,
} from '../support/handles.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

/** Specifies to whom workers and their handles belong, and what becomes of them when the session ends. */
describe('a session with workers', () => {
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

  const write = `INSERT INTO t VALUES (1)`;
  const writeAfterGate = `${WAIT_AT_GATE}; ${write}`;
  const list = `SELECT pid, cookie FROM pg_background_list_v2() AS (${LIST_COLUMNS})`;

  async function untilWritten(rows: number): Promise<void> {
    const direct = await proxy.database.direct();
    await eventually(async () => {
      const { rows: found } = await direct.query('SELECT a FROM t');
      expect(found, 'rows that were written').to.have.length(rows);
    });
  }

  describe('keeps handles', () => {
    for (const command of ['DISCARD ALL', 'RESET ALL', 'DISCARD PLANS', 'DISCARD TEMP']) {
      it(`through ${command}`, async () => {
        const handle = await launchV2(client, writeAfterGate);
        await client.query(command);
        expect(await client.rows(list)).to.deep.equal([handle]);
        await gate.open();
        expect(await tagsOf(client, handle)).to.deep.equal([['SELECT 1'], ['INSERT 0 1']]);
      });
    }

    it('through an error, and a transaction that is rolled back', async () => {
      await client.query('BEGIN');
      const handle = await launchV2(client, write);
      await client.error('SELECT 1/0');
      await client.query('ROLLBACK');
      expect(await tagsOf(client, handle)).to.deep.equal([['INSERT 0 1']]);
      await untilWritten(1);
    });

    it('through SET ROLE and back', async () => {
      const handle = await launchV2(client, write);
      await client.query('SET ROLE pg_monitor');
      await client.query('RESET ROLE');
      expect(await tagsOf(client, handle)).to.deep.equal([['INSERT 0 1']]);
    });
  });

  describe('that ends lets workers go on and commit', () => {
    const ends: Readonly<Record<string, () => Promise<unknown>>> = {
      'when the client takes its leave': () => client.end(),
      'when the connection breaks': () => {
        (
          client as unknown as { connection: { stream: { destroy(): void } } }
        ).connection.stream.destroy();
        return Promise.resolve();
      },
      'when its backend is terminated': async () => {
        const pid = await client.value('SELECT pg_backend_pid()');
        await (await proxy.database.direct()).query('SELECT pg_terminate_backend($1)', [pid]);
      },
    };
    const workers: Readonly<Record<string, (by: TestClient) => Promise<unknown>>> = {
      'that were launched': (by) => launchV2(by, writeAfterGate),
      'that were submitted': (by) => submitV2(by, writeAfterGate),
      'that were detached': async (by) => {
        const handle = await launchV2(by, writeAfterGate);
        await by.query(callOf('detach_v2'), [...handle]);
      },
      'whose output is larger than their queue': (by) =>
        by.query(`SELECT pg_background_launch_v2($1, 64)`, [
          `${WAIT_AT_GATE}; SELECT repeat('x', 1000) FROM generate_series(1, 3000); ${write} RETURNING repeat('x', 100000)`,
        ]),
    };
    for (const [when, end] of Object.entries(ends)) {
      for (const [which, start] of Object.entries(workers)) {
        it(`${when}: those ${which}`, async () => {
          await start(client);
          await gate.untilWaiting(1);
          const pid = await client.value('SELECT pg_backend_pid()');
          await end();
          const direct = await proxy.database.direct();
          await eventually(async () => {
            const { rows } = await direct.query('SELECT FROM pg_stat_activity WHERE pid = $1', [
              pid,
            ]);
            expect(rows, 'the backend of the session').to.deep.equal([]);
          });
          expect(await gate.waiting(), 'workers that still run').to.equal(1);
          await gate.open();
          await untilWritten(1);
        });
      }
    }

    it('when it ends while it waits for one of them', async () => {
      const handle = await launchV2(client, writeAfterGate);
      const waiting = waitFor(client, handle).catch((error: unknown) => error);
      await gate.untilWaiting(1);
      const direct = await proxy.database.direct();
      const pid = await backendThatWaits();
      await direct.query('SELECT pg_terminate_backend($1)', [pid]);
      expect(await waiting).to.be.instanceOf(Error);
      await gate.open();
      await untilWritten(1);
    });

    async function backendThatWaits(): Promise<number> {
      const direct = await proxy.database.direct();
      let pid = 0;
      await eventually(async () => {
        const { rows } = await direct.query<{ pid: number }>(
          `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
              AND query LIKE 'SELECT pg_background_wait_v2%' AND wait_event IS NOT NULL`,
        );
        expect(rows, 'backends that wait').to.have.length(1);
        pid = rows[0]?.pid ?? 0;
      });
      return pid;
    }

    it('also with its whole transaction undone', async () => {
      await client.query('BEGIN');
      await client.query('INSERT INTO t VALUES (2)');
      await launchV2(client, writeAfterGate);
      await client.end();
      await gate.open();
      await untilWritten(1);
    });
  });

  describe('that has ended', () => {
    it('takes its handles along', async () => {
      const handle = await launchV2(client, 'SELECT 1');
      await waitFor(client, handle);
      await client.end();
      const next = await proxy.connect();
      expect(await next.rows(list)).to.deep.equal([]);
      expect(await next.error(callOf('wait_v2'), [...handle])).to.include(notAttached(handle));
    });
  });

  describe('shows no handle to another of the same user', () => {
    const calls: Readonly<Record<string, (handle: HandleValues) => [string, unknown[]]>> = {
      pg_background_result: ([pid]) => [
        'SELECT * FROM pg_background_result($1) AS (n text)',
        [pid],
      ],
      pg_background_result_v2: (handle) => [
        'SELECT * FROM pg_background_result_v2($1, $2) AS (n text)',
        [...handle],
      ],
      pg_background_detach: ([pid]) => ['SELECT pg_background_detach($1)', [pid]],
      pg_background_detach_v2: (handle) => [callOf('detach_v2'), [...handle]],
      pg_background_cancel_v2: (handle) => [callOf('cancel_v2'), [...handle]],
      pg_background_cancel_v2_grace: (handle) => [callOf('cancel_v2_grace', 10), [...handle]],
      pg_background_wait_v2: (handle) => [callOf('wait_v2'), [...handle]],
      pg_background_wait_v2_timeout: (handle) => [callOf('wait_v2_timeout', 10), [...handle]],
    };
    for (const [name, call] of Object.entries(calls)) {
      it(name, async () => {
        const handle = await launchV2(client, writeAfterGate);
        const other = await proxy.connect();
        expect(await other.error(...call(handle))).to.include(notAttached(handle));
        await gate.open();
        expect(await tagsOf(client, handle)).to.deep.equal([['SELECT 1'], ['INSERT 0 1']]);
      });
    }

    it('pg_background_list_v2', async () => {
      await launchV2(client, writeAfterGate);
      expect(await (await proxy.connect()).rows(list)).to.deep.equal([]);
    });

    it('pg_background_get_progress_v2', async () => {
      const handle = await launchV2(client, `SELECT pg_background_progress(5, 'five')`);
      await waitFor(client, handle);
      const other = await proxy.connect();
      expect(await other.value(callOf('get_progress_v2'), [...handle])).to.equal(null);
    });
  });
});
