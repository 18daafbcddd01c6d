/*
 * Attacks by what a worker leaves on its connection, which another session's worker of the same login
 * is given next: to learn something from it, or to change what it does. Functions hide from the
 * proxy what the SQL of a worker does.
 */
import { expect } from 'chai';
import { inBackground, launch, readResult } from '../support/background.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

interface Trace {
  readonly what: string;
  /** SQL of the first worker; or what a function does that it calls. */
  readonly leave?: string;
  readonly hidden?: string;
  /** What the next worker sees of it, as text; NULL where that is nothing. */
  readonly look: string;
}

const setting = `current_setting('pool.secret', true)`;

const traces: readonly Trace[] = [
  { what: 'a custom setting', leave: `SET pool.secret = 'x'`, look: setting },
  {
    what: 'a custom setting, by set_config',
    leave: `SELECT set_config('pool.secret', 'x', false)`,
    look: setting,
  },
  {
    what: 'a custom setting, by a DO block',
    leave: `DO $$ BEGIN PERFORM set_config('pool.secret', 'x', false); END $$`,
    look: setting,
  },
  {
    what: 'a custom setting, by a function',
    hidden: `SET pool.secret = 'x'`,
    look: setting,
  },
  {
    what: 'a custom setting, by a name in disguise',
    leave: `SELECT U&"\\0073et_config"('pool.secret', 'x', false)`,
    look: setting,
  },
  {
    what: 'a custom setting, by a trigger',
    leave: 'INSERT INTO triggered VALUES (1)',
    look: setting,
  },
  { what: 'a custom setting, by a view', leave: 'TABLE viewed', look: setting },
  {
    what: 'a custom setting, by a prepared statement',
    hidden: `PREPARE p AS SELECT set_config('pool.secret', 'x', false); EXECUTE p`,
    look: setting,
  },
  {
    what: 'a dblink connection',
    leave: `SELECT dblink_connect('left', connection_string())`,
    look: `array_to_string(dblink_get_connections(), ',')`,
  },
  {
    what: 'a dblink connection, by a function',
    leave: 'SELECT join_other()',
    look: `array_to_string(dblink_get_connections(), ',')`,
  },
  {
    what: 'a module, by a function',
    hidden: `LOAD 'auto_explain'`,
    look: `current_setting('auto_explain.log_format', true)`,
  },
  {
    what: 'a seed of random numbers',
    leave: 'SELECT setseed(0.5)',
    look: 'CASE WHEN random() IN (SELECT r FROM seeded) THEN random()::text END',
  },
  {
    what: 'a temporary table',
    leave: 'CREATE TEMP TABLE secret AS SELECT 1 AS a',
    look: `to_regclass('pg_temp.secret')::text`,
  },
  {
    what: 'a temporary table, by SELECT INTO',
    leave: 'SELECT 1 AS a INTO TEMP secret',
    look: `to_regclass('pg_temp.secret')::text`,
  },
  {
    what: 'a temporary table, by a function',
    hidden: 'CREATE TEMP TABLE secret (a int)',
    look: `to_regclass('pg_temp.secret')::text`,
  },
  {
    what: 'a temporary view that shadows a table',
    hidden: `CREATE TEMP VIEW seeded AS SELECT 1 AS r`,
    look: `to_regclass('pg_temp.seeded')::text`,
  },
  {
    what: 'a temporary function',
    hidden: `CREATE FUNCTION pg_temp.secret() RETURNS int LANGUAGE sql AS 'SELECT 1'`,
    look: `(SELECT proname::text FROM pg_proc WHERE proname = 'secret')`,
  },
  {
    what: 'a prepared statement',
    hidden: 'PREPARE secret AS SELECT 1',
    look: `(SELECT name FROM pg_prepared_statements WHERE name = 'secret')`,
  },
  {
    what: 'a cursor',
    hidden: 'DECLARE secret CURSOR WITH HOLD FOR SELECT 1',
    look: `(SELECT name FROM pg_cursors WHERE name = 'secret')`,
  },
  {
    what: 'an advisory lock',
    leave: 'SELECT pg_advisory_lock(99)',
    look: `(SELECT 'locked' FROM pg_locks WHERE locktype = 'advisory' AND objid = 99 AND pid = pg_backend_pid())`,
  },
  {
    what: 'a LISTEN, by a function',
    hidden: 'LISTEN secret',
    look: `(SELECT c FROM pg_listening_channels() AS c)`,
  },
  {
    what: 'a search_path, by a function',
    hidden: 'SET search_path = pg_temp, secret',
    look: `nullif(current_setting('search_path'), '"$user", public')`,
  },
  {
    what: 'a role, by a function',
    hidden: 'SET ROLE pool_weak',
    look: `nullif(current_user::text, 'postgres')`,
  },
  {
    what: 'a session authorization, by a function',
    hidden: 'SET SESSION AUTHORIZATION pool_weak',
    look: `nullif(session_user::text, 'postgres')`,
  },
  {
    what: 'session_replication_role, by a function',
    hidden: 'SET session_replication_role = replica',
    look: `nullif(current_setting('session_replication_role'), 'origin')`,
  },
  {
    what: 'row_security, by a function',
    hidden: 'SET row_security = off',
    look: `nullif(current_setting('row_security'), 'on')`,
  },
  {
    what: 'a default of transactions, by a function',
    hidden: 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
    look: `nullif(current_setting('transaction_read_only'), 'off')`,
  },
  {
    what: 'an encoding, by a function',
    hidden: 'SET client_encoding = LATIN1',
    look: `nullif(current_setting('client_encoding'), 'UTF8')`,
  },
  {
    what: 'the last value of a sequence',
    leave: `SELECT nextval('numbers')`,
    look: `(SELECT tried FROM try_lastval() AS tried)`,
  },
  {
    what: 'another token for its session, by a function',
    hidden: `SET pgbg_proxy.session = 'worker:mine'`,
    look: `CASE WHEN current_setting('pgbg_proxy.session') = 'worker:mine' THEN 'mine' END`,
  },
];

describe('the connection of a worker', () => {
  let proxy: TestProxy;
  let first: TestClient;
  let second: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    await direct.query(`CREATE ROLE pool_weak; CREATE EXTENSION dblink; CREATE SEQUENCE numbers;
      CREATE TABLE book (place int, sql text);
      CREATE FUNCTION by_book(wanted int) RETURNS int LANGUAGE plpgsql AS
        'BEGIN EXECUTE (SELECT sql FROM book WHERE place = wanted); RETURN 1; END';
      CREATE FUNCTION leave_setting() RETURNS int LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('pool.secret', 'x', false); RETURN 1; END $$;
      CREATE FUNCTION connection_string() RETURNS text LANGUAGE sql AS
        $$ SELECT format('host=127.0.0.1 port=%s user=postgres dbname=postgres application_name=direct', current_setting('port')) $$;
      CREATE FUNCTION join_other() RETURNS text LANGUAGE sql AS $$ SELECT dblink_connect('left', connection_string()) $$;
      CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM leave_setting(); RETURN NEW; END $$;
      CREATE TABLE triggered (a int); CREATE TRIGGER t BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION fire();
      CREATE VIEW viewed AS SELECT leave_setting() AS a;
      CREATE FUNCTION try_lastval() RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN RETURN lastval(); EXCEPTION WHEN object_not_in_prerequisite_state THEN RETURN NULL; END $$;
      SELECT setseed(0.5); CREATE TABLE seeded AS SELECT random() AS r FROM generate_series(1, 20)`);
  });
  beforeEach(async () => {
    first = await proxy.connect();
    second = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    await (await proxy.database.direct()).query('DROP ROLE pool_weak');
    await proxy.stop();
  });

  /** What workers of a session see that run on this connection: one text, or nothing where none does. */
  async function seenOn(pid: unknown, client: TestClient, look: string): Promise<unknown[]> {
    // More than the pool keeps, so that each of its connections gets its turn.
    for (let i = 0; i < 12; i++) {
      const [[own, seen] = []] = await inBackground(
        client,
        `SELECT pg_backend_pid(), ${look}`,
        'pid int, seen text',
      );
      if (own === pid) return [seen];
    }
    return [];
  }

  it('is used again, or these tests would show nothing', async () => {
    const [[pid] = []] = await inBackground(first, 'SELECT pg_backend_pid()', 'pid int');
    const seen = [
      ...(await seenOn(pid, second, `'again'`)),
      ...(await seenOn(pid, first, `'again'`)),
    ];
    expect(seen).to.include('again');
  });

  for (const [
    place,
    { what, leave = `SELECT by_book(${place})`, hidden, look },
  ] of traces.entries()) {
    it(`has nothing of ${what} for the next session`, async () => {
      await (
        await proxy.database.direct()
      ).query('INSERT INTO book VALUES ($1, $2)', [place, hidden]);
      const pid = await launch(first, leave);
      // It has done what it says: had it failed, there would be nothing to leave.
      expect(await readResult(first, pid)).to.have.length(1);
      for (const seen of await seenOn(pid, second, look)) expect(seen).to.equal(null);
    });
  }
});
