/*
 * What a worker inherits from the session that launches it (database, role, settings), and what it
 * does not: whatever belongs to the transaction or the connection of the session.
 */
import { expect } from 'chai';
import {
  cancelAll,
  errorInBackground,
  inBackground,
  launch,
  readResult,
} from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const WHO = 'SELECT session_user::text, current_user::text';
const WHO_COLUMNS = 'login text, runs_as text';

describe('a worker inherits', () => {
  let proxy: TestProxy;
  let client: TestClient;
  let app: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const admin = await proxy.connect();
    await admin.query(`CREATE ROLE inherit_app LOGIN; CREATE ROLE inherit_weak;
      GRANT inherit_weak TO inherit_app; GRANT pgbackground_executor TO inherit_app, inherit_weak;
      CREATE TABLE t (a int); GRANT ALL ON t TO inherit_app`);
  });
  beforeEach(async () => {
    client = await proxy.connect();
    app = await proxy.connect({ user: 'inherit_app' });
    await client.query('TRUNCATE t');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const admin = await proxy.connect();
    await admin.query(
      'DROP OWNED BY inherit_app, inherit_weak; DROP ROLE inherit_app; DROP ROLE inherit_weak',
    );
    await proxy.stop();
  });

  it('the database', async () => {
    expect(await inBackground(client, 'SELECT current_database()::text')).to.deep.equal([
      [proxy.database.name],
    ]);
  });

  describe('the role', () => {
    it('that has logged in', async () => {
      expect(await inBackground(app, WHO, WHO_COLUMNS)).to.deep.equal([
        ['inherit_app', 'inherit_app'],
      ]);
    });

    it('that SET ROLE has chosen', async () => {
      await app.query('SET ROLE inherit_weak');
      expect(await inBackground(app, WHO, WHO_COLUMNS)).to.deep.equal([
        ['inherit_app', 'inherit_weak'],
      ]);
    });

    it('that SET LOCAL ROLE has chosen', async () => {
      await app.query('BEGIN; SET LOCAL ROLE inherit_weak');
      expect(await inBackground(app, WHO, WHO_COLUMNS)).to.deep.equal([
        ['inherit_app', 'inherit_weak'],
      ]);
      await app.query('COMMIT');
      expect(await inBackground(app, WHO, WHO_COLUMNS)).to.deep.equal([
        ['inherit_app', 'inherit_app'],
      ]);
    });

    it('that SET SESSION AUTHORIZATION has chosen, as current_user', async () => {
      await client.query('SET SESSION AUTHORIZATION inherit_app');
      expect(await inBackground(client, WHO, WHO_COLUMNS)).to.deep.equal([
        ['postgres', 'inherit_app'],
      ]);
    });

    it('with its privileges, and no more', async () => {
      await app.query('SET ROLE inherit_weak');
      expect(await errorInBackground(app, 'INSERT INTO t VALUES (1)')).to.include({
        code: '42501',
        message: 'permission denied for table t',
      });
      await app.query('RESET ROLE');
      expect(await inBackground(app, 'INSERT INTO t VALUES (1)')).to.deep.equal([['INSERT 0 1']]);
    });

    it('at the launch, not at the result', async () => {
      await app.query('SET ROLE inherit_weak');
      const pid = await launch(app, WHO);
      await app.query('RESET ROLE');
      expect(await readResult(app, pid, WHO_COLUMNS)).to.deep.equal([
        ['inherit_app', 'inherit_weak'],
      ]);
    });
  });

  describe('in a SECURITY DEFINER function', () => {
    const create = (owner: string) =>
      client.query(`CREATE FUNCTION as_definer(sql text) RETURNS int LANGUAGE sql SECURITY DEFINER
        AS $$ SELECT public.pg_background_launch(sql) $$; ALTER FUNCTION as_definer OWNER TO ${owner}`);
    afterEach(async () => {
      const admin = await proxy.connect();
      await admin.query('DROP FUNCTION as_definer');
      await proxy.disconnectAll();
    });

    it('the definer, who has logged in', async () => {
      await create('postgres');
      expect(
        await client.rows(
          `SELECT * FROM pg_background_result(as_definer($1)) AS (${WHO_COLUMNS})`,
          [WHO],
        ),
      ).to.deep.equal([['postgres', 'postgres']]);
    });

    it('the definer, who has logged in, whatever SET ROLE has chosen', async () => {
      await create('inherit_app');
      await app.query('SET ROLE inherit_weak');
      const pid = await app.value('SELECT as_definer($1)', [WHO]);
      await app.query('RESET ROLE');
      expect(await readResult(app, pid as number, WHO_COLUMNS)).to.deep.equal([
        ['inherit_app', 'inherit_app'],
      ]);
    });

    it('nothing where the definer is another role than the login: it is refused', async () => {
      await create('postgres');
      const error = await app.error(`SELECT as_definer('INSERT INTO t VALUES (1)')`);
      expect(error.code).to.equal('42501');
      expect(error.hint).to.be.a('string');
      expect(await app.value('SELECT workers_launched FROM pg_background_stats_v2()')).to.equal(
        '0',
      );
    });

    it('no rights of the caller where the definer is a weaker role: it is refused', async () => {
      await create('inherit_weak');
      for (const caller of [client, app]) {
        expect(
          (await caller.error(`SELECT as_definer('RESET ROLE; INSERT INTO t VALUES (1)')`)).code,
        ).to.equal('42501');
      }
      expect(await client.value('SELECT count(*)::int FROM t')).to.equal(0);
    });
  });

  describe('the setting', () => {
    for (const [name, value] of [
      ['work_mem', '12MB'],
      ['maintenance_work_mem', '17MB'],
      ['search_path', 'pg_catalog, public'],
      ['search_path', '"$user", "odd, path", public'],
      ['TimeZone', 'Asia/Kolkata'],
      ['TimeZone', '<+05:45>-05:45'],
      ['DateStyle', 'ISO, DMY'],
      ['IntervalStyle', 'iso_8601'],
      ['statement_timeout', '123s'],
      ['lock_timeout', '45s'],
      ['idle_in_transaction_session_timeout', '7min'],
      ['client_min_messages', 'warning'],
      ['application_name', 'nightly report'],
      ['application_name', `it's a \\ name`],
      ['session_replication_role', 'replica'],
      ['default_transaction_isolation', 'repeatable read'],
      ['default_tablespace', 'pg_default'],
      ['bytea_output', 'escape'],
      ['extra_float_digits', '2'],
      ['lc_monetary', 'C'],
      ['check_function_bodies', 'off'],
      ['row_security', 'off'],
      ['enable_seqscan', 'off'],
      ['random_page_cost', '1.25'],
      ['plan_cache_mode', 'force_custom_plan'],
      ['synchronous_commit', 'off'],
      ['xmloption', 'document'],
      ['log_statement', 'all'],
      ['track_activities', 'on'],
    ] as const) {
      it(`${name} = ${value}`, async () => {
        await client.query('SELECT set_config($1, $2, false)', [name, value]);
        expect(await inBackground(client, `SELECT current_setting('${name}')`)).to.deep.equal([
          [value],
        ]);
      });
    }

    it('DateStyle, of which the style is ISO in any case', async () => {
      await client.query(`SET DateStyle = 'SQL, DMY'`);
      expect(await inBackground(client, `SELECT current_setting('DateStyle')`)).to.deep.equal([
        ['ISO, DMY'],
      ]);
    });

    it("but client_encoding, which is the database's", async () => {
      await client.query(`SET client_encoding = 'LATIN1'`);
      expect(
        await inBackground(
          client,
          `SELECT current_setting('client_encoding'), ascii(chr(233))`,
          'e text, n int',
        ),
      ).to.deep.equal([['UTF8', 233]]);
    });

    it('of SET LOCAL', async () => {
      await client.query(`BEGIN; SET LOCAL work_mem = '9MB'`);
      const pid = await launch(client, `SELECT current_setting('work_mem')`);
      await client.query('ROLLBACK');
      expect(await readResult(client, pid)).to.deep.equal([['9MB']]);
    });

    it("of a function's SET clause", async () => {
      await client.query(`CREATE FUNCTION launch_with_more() RETURNS int LANGUAGE sql SET work_mem = '7MB'
        AS $$ SELECT pg_background_launch('SELECT current_setting(''work_mem'')') $$`);
      expect(
        await client.rows('SELECT * FROM pg_background_result(launch_with_more()) AS (m text)'),
      ).to.deep.equal([['7MB']]);
      await client.query('DROP FUNCTION launch_with_more');
    });

    it('of set_config in the very statement', async () => {
      expect(
        await client.rows(
          `SELECT r.m FROM set_config('work_mem', '6MB', true), pg_background_result(pg_background_launch('SELECT current_setting(''work_mem'')')) AS r(m text)`,
        ),
      ).to.deep.equal([['6MB']]);
    });

    it('of the startup packet', async () => {
      const other = await proxy.connect({ options: '-c work_mem=5MB' });
      expect(await inBackground(other, `SELECT current_setting('work_mem')`)).to.deep.equal([
        ['5MB'],
      ]);
    });

    it('of the startup packet, but for those that can be set nowhere else', async () => {
      const other = await proxy.connect({ options: '-c ignore_system_indexes=on' });
      expect(
        await inBackground(other, `SELECT current_setting('ignore_system_indexes')`),
      ).to.deep.equal([['off']]);
    });

    it('of ALTER ROLE, unless the session has reset it', async () => {
      await client.query(`ALTER ROLE inherit_app SET work_mem = '11MB'`);
      const other = await proxy.connect({ user: 'inherit_app' });
      const read = `SELECT current_setting('work_mem')`;
      expect(await inBackground(other, read)).to.deep.equal([['11MB']]);
      await other.query(`SET work_mem = '4MB'`);
      expect(await inBackground(other, read)).to.deep.equal([['4MB']]);
      await client.query('ALTER ROLE inherit_app RESET work_mem');
    });

    it('as it is at the launch, not at the result', async () => {
      await client.query(`SET work_mem = '12MB'`);
      const pid = await launch(client, `SELECT current_setting('work_mem')`);
      await client.query(`SET work_mem = '13MB'`);
      expect(await readResult(client, pid)).to.deep.equal([['12MB']]);
    });

    it('of its session, and none of an earlier worker', async () => {
      const before = await client.value('SHOW work_mem');
      await client.query(`SET work_mem = '12MB'`);
      await inBackground(client, 'SELECT 1', 'n int');
      await client.query('RESET work_mem');
      for (let i = 0; i < 3; i++) {
        expect(await inBackground(client, `SELECT current_setting('work_mem')`)).to.deep.equal([
          [before],
        ]);
      }
    });

    it('session_replication_role, which keeps triggers from firing', async () => {
      await client.query(`CREATE TABLE watched (a int);
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION refuse()`);
      expect((await errorInBackground(client, 'INSERT INTO watched VALUES (1)')).message).to.equal(
        'fired',
      );
      await client.query('SET session_replication_role = replica');
      expect(await inBackground(client, 'INSERT INTO watched VALUES (1)')).to.deep.equal([
        ['INSERT 0 1'],
      ]);
      await client.query('DROP TABLE watched; DROP FUNCTION refuse');
    });

    it('lock_timeout, which limits its waits', async () => {
      await client.query('BEGIN; LOCK TABLE t');
      const pid = await client.value(
        `SELECT pg_background_launch('INSERT INTO t VALUES (1)') FROM set_config('lock_timeout', '50ms', true)`,
      );
      const error = await client.error('SELECT * FROM pg_background_result($1) AS (r text)', [pid]);
      expect(error).to.include({
        code: '55P03',
        message: 'canceling statement due to lock timeout',
      });
      await client.query('ROLLBACK');
    });
  });

  describe('for its transaction', () => {
    const MODE = `SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')`;
    const MODE_COLUMNS = 'isolation text, read_only text';

    it("the defaults, not the isolation level and read-only mode of the session's transaction", async () => {
      await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY');
      expect(await inBackground(client, MODE, MODE_COLUMNS)).to.deep.equal([
        ['read committed', 'off'],
      ]);
      await client.query('COMMIT');
    });

    it('the defaults that the session has set', async () => {
      await client.query(
        `SET default_transaction_isolation = 'serializable'; SET default_transaction_read_only = on`,
      );
      expect(await inBackground(client, MODE, MODE_COLUMNS)).to.deep.equal([
        ['serializable', 'on'],
      ]);
      expect((await errorInBackground(client, 'INSERT INTO t VALUES (1)')).code).to.equal('25006');
    });

    it("a snapshot of its own, not the session's", async () => {
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      expect(await client.value('SELECT count(*)::int FROM t')).to.equal(0);
      await app.query('INSERT INTO t VALUES (1)');
      expect(await inBackground(client, 'SELECT count(*) FROM t', 'n bigint')).to.deep.equal([
        ['1'],
      ]);
      expect(await client.value('SELECT count(*)::int FROM t')).to.equal(0);
      await client.query('COMMIT');
    });
  });

  describe('none of', () => {
    it('the uncommitted data of the session', async () => {
      await client.query('BEGIN; INSERT INTO t VALUES (1)');
      expect(await inBackground(client, 'SELECT count(*) FROM t', 'n bigint')).to.deep.equal([
        ['0'],
      ]);
      await client.query('COMMIT');
    });

    it('the uncommitted tables of the session', async () => {
      await client.query('BEGIN; CREATE TABLE uncommitted (a int)');
      expect((await errorInBackground(client, 'SELECT * FROM uncommitted')).code).to.equal('42P01');
      await client.query('ROLLBACK');
    });

    it('the temporary tables of the session', async () => {
      await client.query('CREATE TEMP TABLE temporary (a int)');
      expect((await errorInBackground(client, 'SELECT * FROM temporary')).code).to.equal('42P01');
    });

    it('the prepared statements of the session', async () => {
      await client.query('PREPARE prepared AS SELECT 1');
      expect((await errorInBackground(client, 'EXECUTE prepared')).code).to.equal('26000');
    });

    it('the cursors of the session', async () => {
      await client.query('BEGIN; DECLARE opened CURSOR WITH HOLD FOR SELECT 1; COMMIT');
      expect((await errorInBackground(client, 'FETCH opened')).code).to.equal('34000');
    });

    it('the advisory locks of the session', async () => {
      await client.query('SELECT pg_advisory_lock(4711)');
      expect(
        await inBackground(client, 'SELECT pg_try_advisory_lock(4711)', 'locked bool'),
      ).to.deep.equal([[false]]);
    });

    it('the LISTENs of the session', async () => {
      await client.query('LISTEN here');
      expect(
        await inBackground(client, 'SELECT count(*) FROM pg_listening_channels()', 'n bigint'),
      ).to.deep.equal([['0']]);
    });

    it('the sequence values of the session', async () => {
      await client.query(`CREATE SEQUENCE counted; SELECT nextval('counted')`);
      expect((await errorInBackground(client, `SELECT currval('counted')`)).code).to.equal('55000');
      await client.query('DROP SEQUENCE counted');
    });
  });

  it('a row of its own in pg_stat_activity: its SQL, the role, database and application name', async () => {
    await app.query(`SET application_name = 'nightly report'`);
    const sql = `SELECT 'all of it', ${'1 + '.repeat(30)}1, pg_sleep(60)`;
    const pid = await launch(app, sql);
    await eventually(async () => {
      const { rows } = await client.query(
        `SELECT datname, usename, application_name, state, query, leader_pid, backend_type FROM pg_stat_activity WHERE pid = $1`,
        [pid],
      );
      expect(rows).to.deep.equal([
        {
          datname: proxy.database.name,
          usename: 'inherit_app',
          application_name: 'nightly report',
          state: 'active',
          query: sql,
          leader_pid: null,
          backend_type: 'client backend',
        },
      ]);
    }).finally(() => cancelAll(app));
  });
});
