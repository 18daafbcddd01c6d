/*
 * Attacks by name: functions, operators, types, casts and tables of an attacker, with the names of
 * those that the extension uses, where a victim's search_path finds them first. Each would tell the
 * attacker's table in whose name it ran.
 */
import { expect } from 'chai';
import { LIST_COLUMNS } from '../support/api-functions.ts';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import { TestProxy } from '../support/proxy.ts';
import { WireSession } from '../support/wire-session.ts';

/** SQL of the attacker, in his own schema: a canary for each function and operator that can be shadowed. */
const SHADOWS = `
CREATE SEQUENCE evil.runs; -- counts what was rolled back, too
CREATE TABLE evil.canary (what text, by name DEFAULT current_user, run bigint DEFAULT nextval('evil.runs'));
GRANT INSERT ON evil.canary TO PUBLIC; GRANT USAGE ON SEQUENCE evil.runs TO PUBLIC;
DO $$
DECLARE
  it record;
  body text;
BEGIN
  FOR it IN
    SELECT p.oid, p.proname AS name, pg_catalog.pg_get_function_identity_arguments(p.oid) AS arguments,
           pg_catalog.pg_get_function_result(p.oid) AS result, p.provariadic <> 0 AS variadic
      FROM pg_catalog.pg_proc AS p
     WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f'
       AND p.proname IN (SELECT w[1] FROM pg_catalog.pg_proc AS q, pg_catalog.regexp_matches(q.prosrc, '\\w+', 'g') AS w
                          WHERE q.pronamespace IN ('pgbackground'::regnamespace, 'public'::regnamespace))
  LOOP
    body := format('BEGIN INSERT INTO evil.canary VALUES (%L); RETURN NULL; END', it.name);
    IF it.result ~ '^(SETOF|TABLE)' THEN body := replace(body, ' RETURN NULL;', ' RETURN;'); END IF;
    BEGIN
      EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', it.name, it.arguments, it.result, body);
    EXCEPTION WHEN OTHERS THEN
      NULL; -- pseudo-types that only C functions take
    END;
    IF it.variadic THEN
      EXECUTE format('CREATE OR REPLACE FUNCTION evil.%I(VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS %L', it.name,
        replace(body, 'RETURN;', 'RETURN NULL;'));
    END IF;
  END LOOP;
  FOR it IN
    SELECT o.oprname AS name, o.oprleft::regtype AS l, o.oprright::regtype AS r, o.oprresult::regtype AS result, o.oid
      FROM pg_catalog.pg_operator AS o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b'
       AND o.oprleft::regtype::text IN ('text', 'name', 'integer', 'bigint', 'oid', 'boolean', 'bytea', 'json', 'interval',
             'timestamp with time zone', '"char"', 'anyarray', 'anycompatiblearray')
  LOOP
    BEGIN
      EXECUTE format('CREATE FUNCTION evil.%I(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', 'op' || it.oid, it.l, it.r, it.result,
        format('BEGIN INSERT INTO evil.canary VALUES (%L); RETURN NULL; END', it.name));
      EXECUTE format('CREATE OPERATOR evil.%s (FUNCTION = evil.%I, LEFTARG = %s, RIGHTARG = %s)', it.name, 'op' || it.oid, it.l, it.r);
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END LOOP;
END $$;
-- Types of our own, with casts that would run code of the attacker.
CREATE TYPE evil.pg_background_handle AS (pid integer, cookie bigint);
CREATE TYPE evil.json AS (value text);
CREATE FUNCTION evil.from_text(text) RETURNS evil.json LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO evil.canary VALUES ('cast'); RETURN ROW($1); END $$;
CREATE FUNCTION evil.to_text(evil.json) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO evil.canary VALUES ('cast'); RETURN NULL; END $$;
CREATE CAST (text AS evil.json) WITH FUNCTION evil.from_text AS IMPLICIT;
CREATE CAST (evil.json AS text) WITH FUNCTION evil.to_text AS IMPLICIT;
CREATE DOMAIN evil.uuid AS text; CREATE DOMAIN evil.record AS text; CREATE DOMAIN evil.int8 AS text; CREATE DOMAIN evil.oid AS text;`;

/** What code of the attacker can leave in the temporary schema of the victim's own session. */
const TEMPORARY = `
CREATE TEMP VIEW free_signature AS SELECT 'R'::text AS context, 'k'::bytea AS signing_key;
CREATE TEMP VIEW bound_signature AS SELECT 'R'::text AS context, 'k'::bytea AS signing_key;
CREATE TEMP TABLE installation (key_id uuid, inner_key bytea, outer_key bytea);
CREATE TEMP TABLE transfer (transfer_key uuid, chunk int, col int, vals text[], writer_lock bigint);
CREATE TEMP TABLE pg_stat_activity (pid int, application_name text, query text);
CREATE TEMP TABLE pg_type (oid oid, typname name); CREATE TEMP TABLE pg_settings (name text, setting text);
CREATE TEMP TABLE pg_namespace (oid oid, nspname name); CREATE TEMP TABLE pg_roles (rolname name);
CREATE FUNCTION pg_temp.pg_background_launch(text, int DEFAULT 0) RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO evil.canary VALUES ('pg_temp'); RETURN 1; END $$;
CREATE FUNCTION pg_temp.sign(text) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO evil.canary VALUES ('pg_temp'); RETURN 'R'; END $$;
CREATE FUNCTION pg_temp.concat(VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO evil.canary VALUES ('pg_temp'); RETURN 'R'; END $$;`;

describe('shadows of what the functions use', () => {
  let proxy: TestProxy;
  let session: WireSession;
  let gate: Gate;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    await direct.query(`CREATE ROLE shadow_owner LOGIN; CREATE SCHEMA evil AUTHORIZATION shadow_owner;
      GRANT USAGE ON SCHEMA evil TO PUBLIC`);
    await (await proxy.database.direct('shadow_owner')).query(SHADOWS);
  });
  beforeEach(async () => {
    const direct = await proxy.database.direct();
    await direct.query('TRUNCATE evil.canary; ALTER SEQUENCE evil.runs RESTART');
    gate = new Gate(direct);
    session = await WireSession.connect({ port: proxy.port, database: proxy.database.name });
  });
  afterEach(async () => {
    await gate.open();
    await session.end();
    await (
      await proxy.database.direct()
    ).query(
      'ALTER ROLE postgres IN DATABASE current RESET ALL'.replace('current', proxy.database.name),
    );
    await proxy.expectNothingLeft();
  });
  after(async () => {
    const direct = await proxy.database.direct();
    await direct.query('DROP OWNED BY shadow_owner CASCADE; DROP ROLE shadow_owner');
    await proxy.stop();
  });

  /** What the attacker's code has done, and in whose name. */
  async function caught(): Promise<unknown[]> {
    const direct = await proxy.database.direct();
    const { rows } = await direct.query<string[]>({
      text: `SELECT DISTINCT what, by FROM evil.canary UNION ALL SELECT 'rolled back', NULL FROM evil.runs
              WHERE is_called AND NOT EXISTS (SELECT FROM evil.canary) ORDER BY 1`,
      rowMode: 'array',
    });
    return rows.map(([what]) => what);
  }

  /** Uses all functions that ask the proxy, and no name of its own without its schema. */
  async function useAll(client: WireSession): Promise<void> {
    const call = (name: string, args: string) => `public.pg_background_${name}(${args})`;
    const waits = `'SELECT public.pg_background_progress(5, ''half''), ${WAIT_AT_GATE.slice(7).replaceAll("'", "''")}'`;
    const one = async (sql: string) => (await client.rows(`SELECT ${sql}`))[0]?.[0];
    const handleOf = async (name: string, sql: string) => {
      const [row] = await client.rows(`SELECT * FROM ${call(name, sql)}`);
      return `'${row?.[0]}', '${row?.[1]}'`;
    };
    await gate.close();
    expect(
      await client.rows(
        `SELECT * FROM ${call('result', call('launch', `$$SELECT 1, 'word'::pg_catalog.text, NULL::pg_catalog.date$$`))}
           AS (n int, t pg_catalog.text, d pg_catalog.date)`,
      ),
    ).to.deep.equal([['1', 'word', null]]);
    const first = await handleOf('launch_v2', waits);
    await gate.untilWaiting(1);
    expect(await one(call('get_progress_v2', first))).to.equal('(5,half)');
    expect(await one(call('wait_v2_timeout', `${first}, 1`))).to.equal('f');
    const list = await client.rows(`SELECT state FROM ${call('list_v2', '')} AS (${LIST_COLUMNS})`);
    expect(list).to.deep.equal([['running']]);
    await one(call('cancel_v2_grace', `${first}, 5000`));
    await one(call('wait_v2', first));
    const error = await client.error(
      `SELECT * FROM ${call('result_v2', first)} AS (t pg_catalog.text)`,
    );
    expect(error.code).to.equal('57014');
    const second = await handleOf('launch_v2', waits);
    await one(call('cancel_v2', second));
    await one(call('wait_v2', second));
    await one(call('detach_v2', second));
    await one(call('detach', String(await one(call('launch', waits)))));
    await one(
      call('wait_v2', await handleOf('submit_v2', `$$DO 'BEGIN RAISE NOTICE ''said''; END'$$`)),
    );
    expect(await one(`(${call('stats_v2', '')}).workers_launched`)).to.equal('5');
    await gate.open();
  }

  it('are met by SQL that does not guard against them, or these tests would show nothing', async () => {
    await session.rows('SET search_path = evil, pg_catalog, public');
    await session.rows(
      `SELECT upper('x'), 'a' || 'b'::text, 1 = 1, concat('a'::text, 'b'::text), length('a'::text)`,
    );
    expect(await caught()).to.include.members(['=', 'concat', 'length', '||']);
    const shadowed = await (
      await proxy.database.direct()
    ).query<{ n: number }>(
      `SELECT count(*)::int AS n FROM pg_proc WHERE pronamespace = 'evil'::regnamespace`,
    );
    expect(shadowed.rows[0]?.n).to.be.above(250);
  });

  it('do not run when they come first in the search_path of a session', async () => {
    await session.rows('SET search_path = evil, pg_catalog, public');
    await useAll(session);
    expect(await caught()).to.deep.equal([]);
  });

  it('do not run when the temporary schema comes first, and is full of them', async () => {
    await session.rows(TEMPORARY);
    await session.rows('SET search_path = pg_temp, evil, pg_catalog, public');
    await useAll(session);
    expect(await caught()).to.deep.equal([]);
  });

  it("do not run when the database's search_path begins with them, in any connection", async () => {
    const direct = await proxy.database.direct();
    await direct.query(
      `ALTER DATABASE ${proxy.database.name} SET search_path = evil, pg_catalog, public`,
    );
    // Makes the proxy look at what roles and databases have set, too.
    await direct.query(
      `ALTER ROLE postgres IN DATABASE ${proxy.database.name} SET pg_background.max_workers = 20`,
    );
    await direct.query('TRUNCATE evil.canary; ALTER SEQUENCE evil.runs RESTART');
    const other = await WireSession.connect({ port: proxy.port, database: proxy.database.name });
    try {
      expect(await other.rows('SHOW search_path')).to.deep.equal([['evil, pg_catalog, public']]);
      await useAll(other);
      expect(await caught()).to.deep.equal([]);
    } finally {
      await other.end();
      await direct.query(`ALTER DATABASE ${proxy.database.name} RESET search_path`);
    }
  });

  it('do not run in a large result, which goes through the table', async () => {
    await session.rows('SET search_path = evil, pg_catalog, public');
    const rows = await session.rows(
      `SELECT t FROM public.pg_background_result(public.pg_background_launch('SELECT pg_catalog.repeat(''x'', 5000) FROM pg_catalog.generate_series(1, 300)')) AS (t pg_catalog.text)`,
    );
    expect(rows).to.have.length(300);
    expect(await caught()).to.deep.equal([]);
  });

  for (const statement of [
    'ALTER EXTENSION pg_background UPDATE',
    'ALTER EXTENSION pg_background SET SCHEMA public',
    'DROP EXTENSION pg_background CASCADE',
    'CREATE EXTENSION IF NOT EXISTS pg_background SCHEMA public',
  ]) {
    it(`do not run in ${statement}`, async () => {
      await session.rows('SET search_path = evil, pg_catalog, public');
      await session.rows(statement);
      expect(await caught()).to.deep.equal([]);
      await session.rows('CREATE EXTENSION IF NOT EXISTS pg_background SCHEMA public');
      expect(await caught()).to.deep.equal([]);
    });
  }

  it('do not run in the helpers that grant and revoke', async () => {
    await session.rows('SET search_path = evil, pg_catalog, public');
    expect(
      await session.rows(
        `SELECT public.grant_pg_background_privileges('shadow_owner'), public.revoke_pg_background_privileges('shadow_owner')`,
      ),
    ).to.deep.equal([['t', 't']]);
    expect(await caught()).to.deep.equal([]);
  });
});
