import { expect } from 'chai';
import { hasPsql, runPsql } from '../support/psql.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

/** The examples of the C extension's README, in psql and over pg. */
describe('the examples of the README of pg_background', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
  });
  beforeEach(async () => {
    client = await proxy.connect();
    await client.query(
      'DROP TABLE IF EXISTS t, audit_log; CREATE TABLE t (id int); CREATE TABLE audit_log (message text)',
    );
    client.notices.length = 0;
  });
  afterEach(() => proxy.expectNothingLeft());
  after(() => proxy.stop());

  /** Runs a script and gives its lines; a failing statement fails the test unless it is expected. */
  async function psql(script: string): Promise<string[]> {
    const { stdout, stderr, code } = await runPsql(proxy.url(), `\\set ON_ERROR_STOP 1\n${script}`);
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
    return stdout.trim().split('\n');
  }

  describe('over pg', () => {
    it('runs VACUUM VERBOSE in the background and shows its INFO lines', async () => {
      const rows = await client.rows(
        `SELECT * FROM pg_background_result(pg_background_launch('VACUUM VERBOSE t')) AS (result text)`,
      );
      expect(rows).to.deep.equal([['VACUUM']]);
      expect(client.notices[0]).to.include({ severity: 'INFO', code: '00000' });
      expect(client.notices[0]?.message).to.match(/^vacuuming "(.*\.)?public\.t"$/);
    });

    it('gives a command tag as the result of a statement without rows', async () => {
      expect(
        await client.rows(
          `SELECT * FROM pg_background_result(pg_background_launch('INSERT INTO t VALUES (1), (2)')) AS (result text)`,
        ),
      ).to.deep.equal([['INSERT 0 2']]);
      expect(await client.value('SELECT count(*) FROM t')).to.equal('2');
    });

    it('launches and reads by pid', async () => {
      const pid = await client.value(`SELECT pg_background_launch('SELECT 42')`);
      expect(pid).to.be.a('number');
      expect(
        await client.rows('SELECT * FROM pg_background_result($1) AS (n int)', [pid]),
      ).to.deep.equal([[42]]);
    });

    it('launches and reads by handle', async () => {
      const [row] = await client.rows(
        `SELECT (h).pid, (h).cookie FROM (SELECT pg_background_launch_v2('SELECT 42', 65536) AS h) s`,
      );
      expect(
        await client.rows('SELECT * FROM pg_background_result_v2($1, $2) AS (n int)', row),
      ).to.deep.equal([[42]]);
    });

    it('runs NOTIFY in the background from a DO block, and detaches', async () => {
      const notifications: string[] = [];
      const heard = new Promise<void>((resolve) =>
        client.on('notification', ({ channel, payload }) => {
          notifications.push(`${channel}: ${payload}`);
          resolve();
        }),
      );
      await client.query('LISTEN done');
      await client.query(`DO $$
        DECLARE pid int;
        BEGIN
          pid := pg_background_launch('NOTIFY done, ''finished''');
          PERFORM pg_background_detach(pid);
        END $$`);
      await heard;
      expect(notifications).to.deep.equal(['done: finished']);
    });

    it('submits work whose result nobody reads', async () => {
      const [handle] = await client.rows(
        `SELECT * FROM pg_background_submit_v2('INSERT INTO t VALUES (1)')`,
      );
      await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
      expect(await client.value('SELECT count(*) FROM t')).to.equal('1');
      const error = await client.error(
        'SELECT * FROM pg_background_result_v2($1, $2) AS (r text)',
        handle,
      );
      expect(error.code).to.equal('0A000');
      expect(error.message).to.match(
        /^results are disabled for PID \d+ \(submitted via submit_v2\)$/,
      );
    });

    it('cancels a worker', async () => {
      const [handle] = await client.rows(
        `SELECT * FROM pg_background_launch_v2('SELECT pg_sleep(60)')`,
      );
      await client.query('SELECT pg_background_cancel_v2($1, $2)', handle);
      const error = await client.error(
        'SELECT * FROM pg_background_result_v2($1, $2) AS (r text)',
        handle,
      );
      expect(error).to.include({
        code: '57P01',
        message: 'terminating background worker "pg_background" due to administrator command',
      });
    });

    it('cancels a statement with grace', async () => {
      const [handle] = await client.rows(
        `SELECT * FROM pg_background_launch_v2('SELECT pg_sleep(60)')`,
      );
      await client.query('SELECT pg_background_cancel_v2_grace($1, $2, 5000)', handle);
      expect(
        await client.value(
          `SELECT state FROM pg_background_list_v2() AS (pid int, cookie bigint, launched_at timestamptz,
             user_id oid, queue_size int, state text)`,
        ),
      ).to.equal('canceled');
      await client.query('SELECT pg_background_detach_v2($1, $2)', handle);
    });

    it('waits for a worker without consuming its result', async () => {
      const [handle] = await client.rows(
        `SELECT * FROM pg_background_launch_v2('SELECT pg_sleep(0.05), 1')`,
      );
      await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
      expect(
        await client.rows(
          'SELECT * FROM pg_background_result_v2($1, $2) AS (s text, n int)',
          handle,
        ),
      ).to.deep.equal([['', 1]]);
    });

    it('waits for so long and tells whether the worker has ended', async () => {
      const [handle] = await client.rows(
        `SELECT * FROM pg_background_launch_v2('SELECT pg_sleep(60)')`,
      );
      expect(
        await client.value('SELECT pg_background_wait_v2_timeout($1, $2, 20)', handle),
      ).to.equal(false);
      await client.query('SELECT pg_background_cancel_v2($1, $2)', handle);
      expect(
        await client.value('SELECT pg_background_wait_v2_timeout($1, $2, 60000)', handle),
      ).to.equal(true);
      await client.query('SELECT pg_background_detach_v2($1, $2)', handle);
    });

    it('lists workers with a column definition list and a WHERE', async () => {
      await client.query(
        `SELECT pg_background_launch_v2('SELECT pg_sleep(60)'), pg_background_launch('SELECT 1/0')`,
      );
      const list = `SELECT state, sql_preview, last_error, consumed, cookie = 0 AS is_v1 FROM pg_background_list_v2() AS
        (pid int4, cookie int8, launched_at timestamptz, user_id oid, queue_size int4,
         state text, sql_preview text, last_error text, consumed bool)`;
      expect(await client.rows(`${list} WHERE state = 'running'`)).to.deep.equal([
        ['running', 'SELECT pg_sleep(60)', null, false, false],
      ]);
      expect(
        await client.rows(`${list} WHERE state IN ('stopped', 'canceled', 'error')`),
      ).to.deep.equal([['error', 'SELECT 1/0', 'division by zero', false, true]]);
      await client.query(
        'SELECT pg_background_cancel_v2(pid, cookie) FROM pg_background_list_v2() AS (pid int4, cookie int8)',
      );
    });

    it('stores a result with INSERT ... SELECT', async () => {
      await client.query(
        `INSERT INTO t SELECT * FROM pg_background_result(pg_background_launch('SELECT generate_series(1, 5)')) AS (id int)`,
      );
      expect(await client.value('SELECT array_agg(id ORDER BY id) FROM t')).to.deep.equal([
        1, 2, 3, 4, 5,
      ]);
    });

    it('launches once for each row of a table', async () => {
      await client.query(`CREATE TEMP TABLE commands AS SELECT format('INSERT INTO t VALUES (%s)', i) AS command
                            FROM generate_series(1, 5) i`);
      const pids = await client.rows('SELECT pg_background_launch(command) FROM commands');
      for (const [pid] of pids) {
        await client.query('SELECT * FROM pg_background_result($1) AS (r text)', [pid]);
      }
      expect(await client.value('SELECT count(*) FROM t')).to.equal('5');
    });

    it('keeps what an audit function has logged when its transaction rolls back', async () => {
      await client.query(`CREATE OR REPLACE FUNCTION log_audit(message text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
          PERFORM * FROM pg_background_result(pg_background_launch(
            format('INSERT INTO audit_log VALUES (%L)', message))) AS (result text);
        END $$`);
      await client.query('BEGIN');
      await client.query('INSERT INTO t VALUES (1)');
      await client.query(`SELECT log_audit('tried it')`);
      await client.query('ROLLBACK');
      expect(await client.rows('SELECT * FROM audit_log')).to.deep.equal([['tried it']]);
      expect(await client.value('SELECT count(*) FROM t')).to.equal('0');
    });

    it('collects three parallel counts in one DO block', async () => {
      await client.query('INSERT INTO t SELECT generate_series(1, 30)');
      await client.query(`DO $$
        DECLARE
          handles pg_background_handle[];
          total bigint := 0;
          part bigint;
        BEGIN
          FOR i IN 0..2 LOOP
            handles[i] := pg_background_launch_v2(format('SELECT count(*) FROM t WHERE id %% 3 = %s', i));
          END LOOP;
          FOR i IN 0..2 LOOP
            SELECT r.n INTO part FROM pg_background_result_v2((handles[i]).pid, (handles[i]).cookie) AS r(n bigint);
            total := total + part;
          END LOOP;
          RAISE NOTICE 'total %', total;
        END $$`);
      expect(client.notices.map(({ message }) => message)).to.deep.equal(['total 30']);
    });

    it("catches a worker's error in an EXCEPTION block", async () => {
      await client.query(`CREATE OR REPLACE FUNCTION try_it(command text) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE outcome text;
        BEGIN
          SELECT r.outcome INTO outcome FROM pg_background_result(pg_background_launch(command)) AS r(outcome text);
          RETURN outcome;
        EXCEPTION WHEN division_by_zero THEN
          RETURN SQLSTATE || ' ' || SQLERRM;
        END $$`);
      expect(await client.value(`SELECT try_it('SELECT 1/0')`)).to.equal('22012 division by zero');
      expect(await client.value(`SELECT try_it('CREATE TABLE made_by_try (a int)')`)).to.equal(
        'CREATE TABLE',
      );
    });
  });

  describe('in psql', () => {
    before(function () {
      // Debian: apt-get install postgresql-client. CI has it.
      if (!hasPsql) this.skip();
    });

    it('runs VACUUM VERBOSE in the background and shows its INFO lines', async () => {
      const { stdout, stderr } = await runPsql(
        proxy.url(),
        `SELECT * FROM pg_background_result(pg_background_launch('VACUUM VERBOSE t')) AS (result text);`,
      );
      expect(stdout).to.equal('VACUUM\n');
      expect(stderr).to.match(/^INFO: {2}vacuuming "(.*\.)?public\.t"\nINFO: /);
    });

    it('keeps a pid with \\gset', async () => {
      expect(
        await psql(`SELECT pg_background_launch('SELECT 42') AS pid \\gset
          SELECT * FROM pg_background_result(:pid) AS (n int);`),
      ).to.deep.equal(['42']);
    });

    it('keeps a handle with \\gset', async () => {
      expect(
        await psql(`SELECT (h).pid, (h).cookie FROM (SELECT pg_background_launch_v2('SELECT 42', 65536) AS h) s \\gset
          SELECT * FROM pg_background_result_v2(:pid, :cookie) AS (n int);
          SELECT * FROM pg_background_launch_v2('SELECT 43') AS h \\gset
          SELECT * FROM pg_background_result_v2(:pid, :cookie) AS (n int);`),
      ).to.deep.equal(['42', '43']);
    });

    it('runs NOTIFY in the background from a DO block, and detaches', async () => {
      const lines = await psql(`LISTEN done;
        DO $$
        DECLARE pid int;
        BEGIN
          pid := pg_background_launch('NOTIFY done, ''finished''');
          PERFORM pg_background_detach(pid);
        END $$;
        SELECT pg_sleep(0.2);`);
      expect(lines.at(-1)).to.match(
        /^Asynchronous notification "done" with payload "finished" received/,
      );
    });

    it('submits, waits, and waits for so long', async () => {
      expect(
        await psql(`SELECT * FROM pg_background_submit_v2('INSERT INTO t VALUES (1)') \\gset
          SELECT pg_background_wait_v2(:pid, :cookie);
          SELECT pg_background_wait_v2_timeout(:pid, :cookie, 1000);
          SELECT count(*) FROM t;
          SELECT pg_background_detach_v2(:pid, :cookie);`),
      ).to.deep.equal(['t', '1']);
    });

    it('cancels, and cancels with grace', async () => {
      const { stdout, stderr } = await runPsql(
        proxy.url(),
        `SELECT * FROM pg_background_launch_v2('SELECT pg_sleep(60)') \\gset
         SELECT pg_background_cancel_v2(:pid, :cookie);
         SELECT * FROM pg_background_result_v2(:pid, :cookie) AS (r text);
         SELECT * FROM pg_background_launch_v2('SELECT pg_sleep(60)') \\gset
         SELECT pg_background_cancel_v2_grace(:pid, :cookie, 5000);
         SELECT state FROM pg_background_list_v2() AS (pid int, cookie bigint, launched_at timestamptz,
           user_id oid, queue_size int, state text) WHERE pid = :pid;`,
      );
      expect(stdout.trim()).to.equal('canceled');
      expect(stderr).to.match(
        /^ERROR: {2}terminating background worker "pg_background" due to administrator command\nCONTEXT: {2}background worker, pid \d+\n$/,
      );
    });

    it('stores a result with INSERT ... SELECT', async () => {
      expect(
        await psql(`INSERT INTO t SELECT * FROM pg_background_result(pg_background_launch('SELECT generate_series(1, 5)')) AS (id int);
          SELECT sum(id) FROM t;`),
      ).to.deep.equal(['15']);
    });

    it('launches once for each row of a table', async () => {
      expect(
        await psql(`CREATE TABLE commands AS SELECT format('INSERT INTO t VALUES (%s)', i) AS command FROM generate_series(1, 5) i;
          CREATE TABLE launched AS SELECT pg_background_launch(command) AS pid FROM commands;
          SELECT string_agg(r.tag, ',') FROM launched, LATERAL pg_background_result(pid) AS r(tag text);
          DROP TABLE commands, launched;
          SELECT count(*) FROM t;`),
      ).to.deep.equal(['INSERT 0 1,INSERT 0 1,INSERT 0 1,INSERT 0 1,INSERT 0 1', '5']);
    });

    it('keeps what an audit function has logged when its transaction rolls back', async () => {
      expect(
        await psql(`CREATE OR REPLACE FUNCTION log_audit(message text) RETURNS void LANGUAGE plpgsql AS $$
          BEGIN
            PERFORM * FROM pg_background_result(pg_background_launch(
              format('INSERT INTO audit_log VALUES (%L)', message))) AS (result text);
          END $$;
          BEGIN; INSERT INTO t VALUES (1); DO $$ BEGIN PERFORM log_audit('tried it'); END $$; ROLLBACK;
          SELECT message, (SELECT count(*) FROM t) FROM audit_log;`),
      ).to.deep.equal(['tried it|0']);
    });

    it('collects three parallel counts in one DO block', async () => {
      const { stderr } = await runPsql(
        proxy.url(),
        `INSERT INTO t SELECT generate_series(1, 30);
        DO $$
        DECLARE pids int[]; total bigint := 0; part bigint;
        BEGIN
          FOR i IN 0..2 LOOP pids[i] := pg_background_launch(format('SELECT count(*) FROM t WHERE id %% 3 = %s', i)); END LOOP;
          FOR i IN 0..2 LOOP
            SELECT r.n INTO part FROM pg_background_result(pids[i]) AS r(n bigint);
            total := total + part;
          END LOOP;
          RAISE NOTICE 'total %', total;
        END $$;`,
      );
      expect(stderr).to.equal('NOTICE:  total 30\n');
    });

    it("catches a worker's error in an EXCEPTION block", async () => {
      const { stderr } = await runPsql(
        proxy.url(),
        `DO $$
        BEGIN
          PERFORM * FROM pg_background_result(pg_background_launch('SELECT 1/0')) AS (n int);
        EXCEPTION WHEN division_by_zero THEN
          RAISE NOTICE 'caught: %', SQLERRM;
        END $$;`,
      );
      expect(stderr).to.equal('NOTICE:  caught: division by zero\n');
    });
  });
});
