import { expect } from 'chai';
import { eventually } from '../support/eventually.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

describe('a worker', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const admin = await proxy.connect();
    await admin.query(
      `CREATE ROLE app LOGIN; CREATE ROLE weak; GRANT pgbackground_executor TO app, weak; GRANT weak TO app; CREATE TABLE t (a int); GRANT ALL ON t TO PUBLIC`,
    );
  });
  beforeEach(async () => {
    client = await proxy.connect();
    await client.query('TRUNCATE t');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const admin = await proxy.connect();
    await admin.query('DROP OWNED BY app, weak; DROP ROLE app; DROP ROLE weak');
    await proxy.stop();
  });

  /** Runs SQL in the background and gives its rows. */
  const run = (sql: string, columns: string, by = client) =>
    by.rows(`SELECT * FROM pg_background_result(pg_background_launch($1)) AS (${columns})`, [sql]);

  describe('identity', () => {
    it('gives handles only to sessions with the privileges of its role', async () => {
      const app = await proxy.connect({ user: 'app' });
      const [handle] = await app.rows(`SELECT * FROM pg_background_launch_v2('SELECT 1')`);
      await app.query('SET ROLE weak');
      const error = await app.error(
        'SELECT * FROM pg_background_result_v2($1, $2) AS (n int)',
        handle,
      );
      expect(error).to.include({
        code: '42501',
        message: `permission denied for background worker with PID "${String(handle?.[0])}"`,
      });
      await app.query('RESET ROLE');
      expect(
        await app.rows('SELECT * FROM pg_background_result_v2($1, $2) AS (n int)', handle),
      ).to.deep.equal([[1]]);
    });
  });

  describe('SQL', () => {
    it('may tell its progress with its last words', async () => {
      for (let i = 0; i < 10; i++) {
        const [handle] = await client.rows(
          `SELECT * FROM pg_background_launch_v2('SELECT pg_background_progress(${i}, ''${'ä'.repeat(40)}'')')`,
        );
        await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
        // Cut to 63 bytes, not inside a character.
        expect(
          await client.rows('SELECT * FROM pg_background_get_progress_v2($1, $2)', handle),
        ).to.deep.equal([[i, 'ä'.repeat(31)]]);
        await client.query('SELECT pg_background_detach_v2($1, $2)', handle);
      }
    });

    it('may not raise notices without end', async () => {
      const error = await client.error(
        'SELECT * FROM pg_background_result(pg_background_launch($1)) AS (r text)',
        [
          `DO $$ BEGIN FOR i IN 1..20000 LOOP RAISE NOTICE '%', repeat('x', 1000); END LOOP; END $$`,
        ],
      );
      expect(error).to.include({
        code: '53400',
        message: 'background worker raised too many notices',
      });
    }).timeout(120_000); // 16 MB of notices travel in packets

    it('may be submitted many times, and each handle stays good', async () => {
      const handles = await client.rows(
        `SELECT h.pid, h.cookie FROM generate_series(1, 20) g, pg_background_submit_v2(format('INSERT INTO t VALUES (%s)', g)) h`,
      );
      for (const handle of handles)
        await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
      expect(await client.value('SELECT count(*) FROM t')).to.equal('20');
      for (const handle of handles)
        await client.query('SELECT pg_background_detach_v2($1, $2)', handle);
      expect(await client.value('SELECT workers_active FROM pg_background_stats_v2()')).to.equal(0);
    });

    it('may be submitted without end, and old handles are forgotten', async () => {
      for (let i = 0; i < 4; i++) {
        await client.query(
          `SELECT pg_background_submit_v2('SELECT 1') FROM generate_series(1, 50)`,
        );
      }
      await eventually(async () => {
        expect(
          await client.value('SELECT workers_active FROM pg_background_stats_v2()'),
        ).to.be.at.most(100);
      });
    });

    it('may launch workers itself, and tell its progress', async () => {
      const [handle] = await client.rows(`SELECT * FROM pg_background_launch_v2($1)`, [
        `SELECT pg_background_progress(40, 'nearly half'); SELECT n FROM pg_background_result(pg_background_launch('SELECT 11')) AS (n int)`,
      ]);
      await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
      expect(
        await client.rows('SELECT * FROM pg_background_get_progress_v2($1, $2)', handle),
      ).to.deep.equal([[40, 'nearly half']]);
      expect(
        await client.rows('SELECT * FROM pg_background_result_v2($1, $2) AS (n int)', handle),
      ).to.deep.equal([[11]]);
    });

    it('goes on and commits when the session ends', async () => {
      await client.query(
        `SELECT pg_background_launch('SELECT pg_sleep(0.3); INSERT INTO t VALUES (1)')`,
      );
      await proxy.disconnectAll();
      const other = await proxy.connect();
      await eventually(async () => {
        expect(await other.value('SELECT count(*) FROM t')).to.equal('1');
      });
    });

    it('may launch workers after its session has ended, and nothing of that stays open', async () => {
      await client.query('SELECT pg_background_launch($1)', [
        `SELECT pg_sleep(0.3); SELECT pg_background_launch('INSERT INTO t VALUES (1)')`,
      ]);
      await proxy.disconnectAll();
      const observer = await proxy.database.direct();
      await eventually(async () => {
        expect((await observer.query('SELECT a FROM t')).rows).to.deep.equal([{ a: 1 }]);
      });
    });

    it('goes on when its handle is detached', async () => {
      const pid = await client.value(
        `SELECT pg_background_launch('SELECT pg_sleep(0.1); INSERT INTO t VALUES (1)')`,
      );
      await client.query('SELECT pg_background_detach($1)', [pid]);
      expect((await client.error('SELECT pg_background_detach($1)', [pid])).code).to.equal('42704');
      await eventually(async () => {
        expect(await client.value('SELECT count(*) FROM t')).to.equal('1');
      });
    });
  });

  describe('limits', () => {
    it('replaces a pooled connection that died, and the launch does not notice', async () => {
      await run('SELECT 1', 'n int');
      await client.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND query !~ 'pgbg:' AND backend_type = 'client backend' AND application_name <> 'direct'`,
      );
      expect(await run('SELECT 2', 'n int')).to.deep.equal([[2]]);
    });

    it('uses the same few connections again and again', async () => {
      const pids = new Set<unknown>();
      for (let i = 0; i < 20; i++)
        pids.add((await run('SELECT pg_backend_pid()', 'pid int'))[0]?.[0]);
      // One that is still being cleaned is not waited for.
      expect(pids.size).to.be.below(10);
    });
  });
});
