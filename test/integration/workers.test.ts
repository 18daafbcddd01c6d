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
    it('is the user of the session', async () => {
      const app = await proxy.connect({ user: 'app' });
      expect(
        await run('SELECT session_user::text, current_user::text', 's text, c text', app),
      ).to.deep.equal([['app', 'app']]);
    });

    it('is the role that the session has set', async () => {
      const app = await proxy.connect({ user: 'app' });
      await app.query('SET ROLE weak');
      expect(
        await run('SELECT session_user::text, current_user::text', 's text, c text', app),
      ).to.deep.equal([['app', 'weak']]);
    });

    it('is refused inside a SECURITY DEFINER function of another role', async () => {
      const app = await proxy.connect({ user: 'app' });
      await client.query(
        `CREATE FUNCTION as_owner() RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ SELECT pg_background_launch('SELECT 1') $$`,
      );
      const error = await app.error('SELECT as_owner()');
      expect(error.code).to.equal('42501');
      expect(error.hint).to.be.a('string');
      await client.query('DROP FUNCTION as_owner()');
    });

    it("is the login's own inside its own SECURITY DEFINER function", async () => {
      await client.query(
        `CREATE FUNCTION as_owner() RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ SELECT pg_background_launch('SELECT current_user::text') $$`,
      );
      expect(
        await client.rows('SELECT * FROM pg_background_result(as_owner()) AS (who text)'),
      ).to.deep.equal([['postgres']]);
      await client.query('DROP FUNCTION as_owner()');
    });

    it('does not let a weaker function borrow the rights of the session', async () => {
      const app = await proxy.connect({ user: 'app' });
      await client.query(`CREATE FUNCTION trap() RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ SELECT pg_background_launch('RESET ROLE; INSERT INTO t VALUES (666)') $$;
        ALTER FUNCTION trap() OWNER TO weak`);
      expect((await client.error('SELECT trap()')).code).to.equal('42501');
      expect((await app.error('SELECT trap()')).code).to.equal('42501');
      expect(await client.value('SELECT count(*) FROM t')).to.equal('0');
      await client.query('DROP FUNCTION trap()');
    });

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

    it('is unknown to other sessions of the same user', async () => {
      const pid = await client.value(`SELECT pg_background_launch('SELECT 1')`);
      const other = await proxy.connect();
      expect(
        await other.error('SELECT * FROM pg_background_result($1) AS (n int)', [pid]),
      ).to.include({
        code: '42704',
        message: `PID ${String(pid)} is not attached to this session`,
      });
    });
  });

  describe('settings', () => {
    it('are those of the session, SET LOCAL too, but for the style of dates, which is ISO', async () => {
      await client.query(
        `SET work_mem = '12MB'; SET search_path = pg_catalog, public; SET DateStyle = 'SQL, DMY'; SET application_name = 'my app'`,
      );
      await client.query(`BEGIN; SET LOCAL statement_timeout = '123s'`);
      expect(
        await run(
          `SELECT current_setting('work_mem'), current_setting('search_path'), current_setting('DateStyle'), current_setting('application_name'), current_setting('statement_timeout')`,
          'a text, b text, c text, d text, e text',
        ),
      ).to.deep.equal([['12MB', 'pg_catalog, public', 'ISO, DMY', 'my app', '123s']]);
      await client.query('COMMIT');
    });

    it('do not stay behind for the next worker', async () => {
      await client.query(`SET work_mem = '12MB'`);
      await run('SELECT 1', 'n int');
      await client.query('RESET work_mem');
      const before = await client.value('SHOW work_mem');
      for (let i = 0; i < 3; i++)
        expect(await run(`SELECT current_setting('work_mem')`, 'm text')).to.deep.equal([[before]]);
    });

    it('may hold quotes and backslashes', async () => {
      const name = `it's a \\ name`;
      await client.query(`SELECT set_config('application_name', $1, false)`, [name]);
      expect(await run(`SELECT current_setting('application_name')`, 'n text')).to.deep.equal([
        [name],
      ]);
    });

    it('do not include the isolation level of the transaction', async () => {
      await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY');
      expect(
        await run(
          `SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')`,
          'i text, r text',
        ),
      ).to.deep.equal([['read committed', 'off']]);
      await client.query('COMMIT');
    });

    it('give times back as they were, whatever zone the SQL sets', async () => {
      await client.query(`SET DateStyle = 'SQL'; SET TimeZone = 'UTC'`);
      expect(
        await client.rows(
          `SELECT t = TIMESTAMPTZ '2024-01-01 00:00+00' FROM pg_background_result(pg_background_launch($1)) AS (t timestamptz)`,
          [`SET TimeZone = 'Asia/Kolkata'; SELECT TIMESTAMPTZ '2024-01-01 00:00+00'`],
        ),
      ).to.deep.equal([[true]]);
    });

    it('do not cut digits off floating-point numbers', async () => {
      await client.query('SET extra_float_digits = 0');
      expect(
        await client.value(
          `SELECT a = pi() FROM pg_background_result(pg_background_launch('SELECT pi()')) AS (a float8)`,
        ),
      ).to.equal(true);
    });

    it('do not let backslashes past the vetting of SQL', async () => {
      await client.query('SET standard_conforming_strings = off; SET escape_string_warning = off');
      const error = await client.error(
        'SELECT * FROM pg_background_result(pg_background_launch($1)) AS (r text)',
        [`SELECT 'a\\', '; COMMIT; --'`],
      );
      expect(error).to.include({ code: '0A000', hint: 'SET standard_conforming_strings = on.' });
      expect(await run(`SELECT 'no backslash'`, 'r text')).to.deep.equal([['no backslash']]);
    });

    it('give dates back as they were, whatever the reader has set', async () => {
      await client.query(`SET DateStyle = 'SQL, DMY'`);
      const pid = await client.value(`SELECT pg_background_launch('SELECT DATE ''2024-02-03''')`);
      await client.query(`SET DateStyle = 'SQL, MDY'`);
      expect(
        await client.value(
          `SELECT d = DATE '2024-02-03' FROM pg_background_result($1) AS (d date)`,
          [pid],
        ),
      ).to.equal(true);
      expect(await client.value('SHOW DateStyle')).to.equal('SQL, MDY');
    });
  });

  describe('SQL', () => {
    it('runs as one transaction, which sees its own writes', async () => {
      expect(
        await run('INSERT INTO t VALUES (1); SELECT count(*) FROM t', 'n bigint'),
      ).to.deep.equal([['1']]);
      const error = await client.error(
        `SELECT * FROM pg_background_result(pg_background_launch('INSERT INTO t VALUES (2); SELECT 1/0')) AS (n int)`,
      );
      expect(error).to.include({ code: '22012', message: 'division by zero' });
      expect(error.where).to.match(/^background worker, pid \d+$/);
      expect(await client.value('SELECT count(*) FROM t')).to.equal('1');
    });

    it('may be one statement that allows no transaction', async () => {
      expect(await run('VACUUM t', 'r text')).to.deep.equal([['VACUUM']]);
    });

    it('gives one tag for each statement when the last returns no rows', async () => {
      expect(
        await run('SELECT 1; CREATE TEMP TABLE x (a int); INSERT INTO x VALUES (1)', 'r text'),
      ).to.deep.equal([['SELECT 1'], ['CREATE TABLE'], ['INSERT 0 1']]);
    });

    it('gives no row when it is empty or only a comment', async () => {
      expect(await run('', 'r text')).to.deep.equal([]);
      expect(await run('-- nothing', 'r text')).to.deep.equal([]);
    });

    for (const sql of [
      'BEGIN',
      'COMMIT',
      'SAVEPOINT s',
      `PREPARE TRANSACTION 'x'`,
      'INSERT INTO t VALUES (1); COMMIT',
    ]) {
      it(`may not control its transaction: ${sql}`, async () => {
        const error = await client.error(
          'SELECT * FROM pg_background_result(pg_background_launch($1)) AS (r text)',
          [sql],
        );
        expect(error).to.include({
          code: '0A000',
          message: 'transaction control statements are not allowed in pg_background',
        });
        expect(await client.value('SELECT count(*) FROM t')).to.equal('0');
      });
    }

    for (const sql of ['COPY t TO STDOUT', 'COPY t FROM STDIN', 'COPY (SELECT 1) TO STDOUT']) {
      it(`may not copy to or from the client: ${sql}`, async () => {
        const error = await client.error(
          'SELECT * FROM pg_background_result(pg_background_launch($1)) AS (r text)',
          [sql],
        );
        expect(error).to.include({
          code: '0A000',
          message: 'COPY protocol not allowed in pg_background',
        });
      });
    }

    it('may hold 5 MB, which hold up no other session', async () => {
      const sql = `SELECT length('${'x'.repeat(1000)}');`.repeat(5000);
      const pid = await client.value('SELECT pg_background_launch($1)', [sql]);
      const other = await proxy.connect();
      expect(await run('SELECT 7', 'n int', other)).to.deep.equal([[7]]);
      expect(
        await client.rows('SELECT * FROM pg_background_result($1) AS (n int)', [pid]),
      ).to.deep.equal([[1000]]);
    });

    it('is vetted however long it is', async () => {
      const sql = `SELECT '${'x'.repeat(1024 * 1024)}'; COMMIT`;
      const error = await client.error(
        'SELECT * FROM pg_background_result(pg_background_launch($1)) AS (r text)',
        [sql],
      );
      expect(error.code).to.equal('0A000');
    });

    it('reports a syntax error in the words of the server, with its place in the inner query', async () => {
      const error = await client.error(
        `SELECT * FROM pg_background_result(pg_background_launch('SELECT nope nope nope')) AS (r text)`,
      );
      expect(error).to.include({ code: '42601', message: 'syntax error at or near "nope"' });
      expect(error.position).to.equal(undefined);
      expect(error).to.include({ internalPosition: '18', internalQuery: 'SELECT nope nope nope' });
    });

    it('keeps all fields of an error', async () => {
      await client.query('CREATE TABLE keyed (id int PRIMARY KEY); INSERT INTO keyed VALUES (1)');
      const error = await client.error(
        `SELECT * FROM pg_background_result(pg_background_launch('INSERT INTO keyed VALUES (1)')) AS (r text)`,
      );
      expect(error).to.include({
        code: '23505',
        detail: 'Key (id)=(1) already exists.',
        schema: 'public',
        table: 'keyed',
        constraint: 'keyed_pkey',
        routine: '_bt_check_unique',
      });
      expect(error.hint).to.equal(undefined);
      await client.query('DROP TABLE keyed');
    });

    it('raises its notices when the result is read, with their level, code, detail and hint', async () => {
      const seen: unknown[] = [];
      client.on('notice', ({ severity, code, message, detail, hint, where }) =>
        seen.push({ severity, code, message, detail, hint, where }),
      );
      await client.query('SET client_min_messages = log');
      const pid = await client.value('SELECT pg_background_launch($1)', [
        `DO $$ BEGIN RAISE WARNING 'careful' USING DETAIL = 'd', HINT = 'h', ERRCODE = '01001'; RAISE LOG 'logged'; END $$`,
      ]);
      await client.query(`SELECT pg_sleep(0.1)`);
      expect(seen).to.deep.equal([]);
      await client.query('SELECT * FROM pg_background_result($1) AS (r text)', [pid]);
      expect(seen).to.deep.equal([
        {
          severity: 'WARNING',
          code: '01001',
          message: 'careful',
          detail: 'd',
          hint: 'h',
          where: undefined,
        },
        {
          severity: 'LOG',
          code: '00000',
          message: 'logged',
          detail: undefined,
          hint: undefined,
          where: undefined,
        },
      ]);
    });

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
    });

    it('may not fetch from a binary cursor', async () => {
      const error = await client.error(
        `SELECT * FROM pg_background_result(pg_background_launch('DECLARE c BINARY CURSOR FOR SELECT 825373492; FETCH c')) AS (a int)`,
      );
      expect(error).to.include({
        code: '0A000',
        message: 'binary cursors are not supported in pg_background',
      });
    });

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

    it('is limited in time by pg_background.worker_timeout', async () => {
      await client.query(`SET pg_background.worker_timeout = '100ms'`);
      const error = await client.error(
        `SELECT * FROM pg_background_result(pg_background_launch('SELECT pg_sleep(60)')) AS (r text)`,
      );
      expect(error).to.include({
        code: '57014',
        message: 'canceling statement due to statement timeout',
      });
    });
  });

  describe('limits', () => {
    it('refuses more workers than pg_background.max_workers', async () => {
      await client.query('SET pg_background.max_workers = 2');
      await client.query(
        `SELECT pg_background_launch('SELECT 1'), pg_background_launch('SELECT 2')`,
      );
      expect(await client.error(`SELECT pg_background_launch('SELECT 3')`)).to.include({
        code: '53400',
        message: 'too many background workers',
        detail: 'Current limit is 2 concurrent workers per session.',
      });
    });

    it('refuses a queue that is too small or too large', async () => {
      expect(await client.error(`SELECT pg_background_launch('SELECT 1', 63)`)).to.include({
        code: '22023',
        message: 'queue size must be at least 64 bytes',
      });
      expect(
        (await client.error(`SELECT pg_background_launch('SELECT 1', 268435457)`)).code,
      ).to.equal('22023');
    });

    it('says which limit is in the way when the server has no connection left', async () => {
      await client.query('ALTER ROLE app CONNECTION LIMIT 3');
      const app = await proxy.connect({ user: 'app' });
      await app.query(`SELECT pg_background_launch('SELECT pg_sleep(60)')`);
      const error = await app.error(`SELECT pg_background_launch('SELECT 1')`);
      expect(error).to.include({
        code: '53000',
        message: 'could not register background process',
        detail: 'too many connections for role "app"',
      });
      expect(error.hint).to.include('CONNECTION LIMIT');
      await app.query(
        `SELECT pg_background_cancel_v2(pid, cookie) FROM pg_background_list_v2() AS (pid int, cookie bigint)`,
      );
      await client.query('ALTER ROLE app CONNECTION LIMIT -1');
    });

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
      expect(pids.size).to.be.below(5);
    });
  });
});
