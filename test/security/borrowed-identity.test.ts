/*
 * Attacks on identity: code of one role that runs in the session of another, in SECURITY DEFINER
 * functions and in operations in which the server runs it as its owner. Whatever it launches must not
 * run as anybody but that owner, and must not become the session's login by taking the role off.
 */
import { expect } from 'chai';
import { eventually } from '../support/eventually.ts';
import {
  launchOf,
  partOf,
  play,
  requestOf,
  newHeader,
  signing,
  withPart,
} from '../support/forgery.ts';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import { launchV2, waitFor } from '../support/handles.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const ROLES = ['borrow_low', 'borrow_granted', 'borrow_other'];

/** What background SQL says to be the login again. */
const escapes = [
  'RESET ROLE',
  'SET ROLE NONE',
  'SET SESSION AUTHORIZATION DEFAULT',
  'RESET SESSION AUTHORIZATION',
  'RESET ALL',
  `SELECT set_config('role', 'postgres', false)`,
  `SELECT set_config('session_authorization', 'postgres', false)`,
  'SET ROLE postgres',
];
const STEAL = 'INSERT INTO public.stolen SELECT current_user, session_user';

/** Where the server runs the code of an owner in the session of another, and SQL that makes it do so. */
const vehicles: readonly (readonly [what: string, prepare: string, run: string])[] = [
  ['a SECURITY DEFINER function', '', 'SELECT low.definer()'],
  [
    'a trigger that is a SECURITY DEFINER function',
    `CREATE FUNCTION low.fire() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM low.attack((random() * 0)::int); RETURN NEW; END $$;
     CREATE TABLE low.fired (a int); CREATE TRIGGER t BEFORE INSERT ON low.fired FOR EACH ROW EXECUTE FUNCTION low.fire()`,
    'INSERT INTO low.fired VALUES (1)',
  ],
  [
    'ANALYZE, by an index expression',
    'CREATE TABLE low.analyzed AS SELECT 1 AS a; CREATE INDEX ON low.analyzed (low.attack(a))',
    'ANALYZE low.analyzed',
  ],
  [
    'VACUUM ANALYZE, by an index expression',
    'CREATE TABLE low.vacuumed AS SELECT 1 AS a; CREATE INDEX ON low.vacuumed (low.attack(a))',
    'VACUUM ANALYZE low.vacuumed',
  ],
  [
    'REINDEX, by an index expression',
    'CREATE TABLE low.reindexed AS SELECT 1 AS a; CREATE INDEX ON low.reindexed (low.attack(a))',
    'REINDEX TABLE low.reindexed',
  ],
  [
    'CREATE INDEX, by a predicate',
    'CREATE TABLE low.indexed AS SELECT 1 AS a',
    'CREATE INDEX ON low.indexed (a) WHERE low.attack(a) = 1',
  ],
  [
    'CLUSTER, by an index expression',
    'CREATE TABLE low.clustered AS SELECT 1 AS a; CREATE INDEX c ON low.clustered (low.attack(a)); CLUSTER low.clustered USING c',
    'CLUSTER low.clustered',
  ],
  [
    'REFRESH MATERIALIZED VIEW',
    'CREATE MATERIALIZED VIEW low.shown AS SELECT low.attack(a) FROM (VALUES (1)) AS v(a) WITH NO DATA',
    'REFRESH MATERIALIZED VIEW low.shown',
  ],
];

describe('code of a lesser role in the session of another', () => {
  let proxy: TestProxy;
  let admin: TestClient;
  let granted: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    await direct.query(`CREATE ROLE borrow_low LOGIN; CREATE ROLE borrow_granted LOGIN; CREATE ROLE borrow_other LOGIN;
      GRANT pgbackground_executor TO borrow_low, borrow_granted;
      CREATE SCHEMA low AUTHORIZATION borrow_low; GRANT USAGE ON SCHEMA low TO PUBLIC;
      CREATE TABLE stolen (by text, login text); GRANT INSERT ON stolen TO PUBLIC`);
    const low = await proxy.database.direct('borrow_low');
    await low.query(`CREATE TABLE low.loot (sql text); GRANT SELECT ON low.loot TO PUBLIC;
      CREATE FUNCTION low.attack(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
        DECLARE sql text := (SELECT l.sql FROM low.loot AS l);
        BEGIN
          IF sql IS NULL THEN RETURN a; END IF;
          BEGIN
            PERFORM public.pg_background_wait_v2(h.pid, h.cookie) FROM public.pg_background_launch_v2(sql) AS h;
            RAISE WARNING 'launched as %', current_user;
          EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'refused to %: % %', current_user, SQLSTATE, SQLERRM;
          END;
          RETURN a;
        END $$;
      CREATE FUNCTION low.definer() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT low.attack((random() * 0)::int)'`);
    for (const [, prepare] of vehicles) if (prepare !== '') await low.query(prepare);
    await direct.query('DROP INDEX IF EXISTS low.indexed_a_idx');
  });
  beforeEach(async () => {
    const direct = await proxy.database.direct();
    await direct.query('TRUNCATE stolen, low.loot');
    admin = await proxy.connect();
    granted = await proxy.connect({ user: 'borrow_granted' });
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const direct = await proxy.database.direct();
    await direct.query(`DROP OWNED BY ${ROLES.join(', ')} CASCADE; DROP ROLE ${ROLES.join(', ')}`);
    await proxy.stop();
  });

  const arm = async (sql: string) =>
    (await proxy.database.direct()).query('INSERT INTO low.loot VALUES ($1)', [sql]);
  const stolen = async () =>
    (await (await proxy.database.direct()).query({ text: 'TABLE stolen', rowMode: 'array' })).rows;
  const warnings = (client: TestClient) =>
    client.notices.filter(({ severity }) => severity === 'WARNING').map(({ message }) => message);
  const REFUSED =
    /^refused to borrow_low: 42501 no credentials to launch a background worker as this role$/;

  it('launches as its owner where the owner has logged in, or these tests would show nothing', async () => {
    await arm(STEAL);
    const low = await proxy.connect({ user: 'borrow_low' });
    for (const [, , run] of vehicles.slice(0, 3)) await low.query(run);
    expect(warnings(low)).to.deep.equal(Array(3).fill('launched as borrow_low'));
    expect(await stolen()).to.deep.equal(Array(3).fill(['borrow_low', 'borrow_low']));
  });

  for (const [what, , run] of vehicles) {
    it(`never runs as the superuser who runs ${what}`, async () => {
      for (const escape of escapes) {
        const direct = await proxy.database.direct();
        await direct.query('TRUNCATE low.loot; DROP INDEX IF EXISTS low.indexed_a_idx');
        await arm(`${escape}; ${STEAL}`);
        admin.notices.length = 0;
        await admin.query(run);
        const said = warnings(admin);
        expect(said.length, 'the vehicle ran').to.be.above(0);
        for (const line of said) expect(line, escape).to.match(REFUSED);
      }
      expect(await admin.value('SELECT workers_launched FROM pg_background_stats_v2()')).to.equal(
        '0',
      );
      expect(await stolen()).to.deep.equal([]);
    });
  }

  it('never runs as the superuser by DISCARD ALL, which stands alone', async () => {
    await arm('DISCARD ALL');
    await admin.query('SELECT low.definer()');
    expect(warnings(admin)).to.have.length(1);
    expect(warnings(admin)[0]).to.match(REFUSED);
  });

  for (const escape of [...escapes.slice(0, 5), 'DISCARD ALL']) {
    it(`leaves no worker of the superuser behind that had a lesser role, after ${escape}`, async () => {
      // Of the session's own choice: its SQL may take the role off, and the next worker has not.
      await admin.query('SET ROLE borrow_granted');
      await waitFor(admin, await launchV2(admin, escape));
      for (let i = 0; i < 3; i++) await waitFor(admin, await launchV2(admin, STEAL));
      expect(await stolen()).to.deep.equal(Array(3).fill(['borrow_granted', 'postgres']));
    });
  }

  it('cannot have a free signature, nor one of another role', async () => {
    const direct = await proxy.database.direct();
    await direct.query(`CREATE FUNCTION low.sign_free(text) RETURNS text LANGUAGE sql SECURITY DEFINER AS $f$ ${signing()} $f$;
      CREATE FUNCTION low.sign_bound(text) RETURNS text LANGUAGE sql SECURITY DEFINER AS $f$ ${signing('bound_signature')} $f$;
      ALTER FUNCTION low.sign_free OWNER TO borrow_low; ALTER FUNCTION low.sign_bound OWNER TO borrow_low`);
    expect(await admin.error('SELECT low.sign_free($1)', ['x'])).to.include({ code: '42501' });
    const text = await admin.value('SELECT low.sign_bound($1)', [
      `${newHeader()} ${launchOf(STEAL)}`,
    ]);
    const bound = requestOf(String(text));
    expect([
      partOf(bound, 'kind'),
      Buffer.from(partOf(bound, 'role'), 'hex').toString(),
    ]).to.deep.equal(['bound', 'borrow_low']);
    // With its own signature, in the superuser's session: as refused as by the function.
    await play(proxy, admin, bound);
    await play(proxy, admin, withPart(bound, 'kind', 'free'));
    expect(await admin.value('SELECT workers_launched FROM pg_background_stats_v2()')).to.equal(
      '0',
    );
    expect(await stolen()).to.deep.equal([]);
  });

  it("cannot touch the superuser's workers", async () => {
    const direct = await proxy.database.direct();
    const gate = new Gate(direct);
    await gate.close();
    const handle = await launchV2(admin, WAIT_AT_GATE);
    await direct.query(`CREATE FUNCTION low.kill(pid int, cookie bigint) RETURNS void LANGUAGE sql SECURITY DEFINER
      AS 'SELECT public.pg_background_cancel_v2(pid, cookie)'; ALTER FUNCTION low.kill OWNER TO borrow_low`);
    expect(await admin.error('SELECT low.kill($1, $2)', [...handle])).to.include({
      code: '42501',
      message: `permission denied for background worker with PID "${handle[0]}"`,
    });
    await gate.open();
    await waitFor(admin, handle);
    expect(await admin.value('SELECT workers_completed FROM pg_background_stats_v2()')).to.equal(
      '1',
    );
  });

  describe('through SECURITY DEFINER', () => {
    const define = async (owner: string) => {
      const direct = await proxy.database.direct();
      await direct.query(`CREATE OR REPLACE FUNCTION public.run_as_owner(sql text) RETURNS int LANGUAGE sql SECURITY DEFINER
        AS $$ SELECT public.pg_background_launch(sql) $$; ALTER FUNCTION public.run_as_owner OWNER TO ${owner}`);
    };
    afterEach(async () => {
      await (await proxy.database.direct()).query('DROP FUNCTION public.run_as_owner');
      await proxy.database.disconnect();
    });

    it('launches nothing where the definer lacks EXECUTE, whoever calls', async () => {
      await define('borrow_other');
      for (const client of [admin, granted]) {
        expect(await client.error('SELECT run_as_owner($1)', [STEAL])).to.include({
          code: '42501',
          message: 'permission denied for function pg_background_launch',
        });
      }
      expect(await stolen()).to.deep.equal([]);
    });

    for (const [caller, definer] of [
      ['borrow_other', 'borrow_granted'],
      ['borrow_other', 'postgres'],
      ['borrow_granted', 'postgres'],
      ['borrow_granted', 'borrow_low'],
      ['postgres', 'borrow_granted'],
    ] as const) {
      it(`launches nothing for ${caller} where ${definer}, who may, is the definer and not the login`, async () => {
        await define(definer);
        const client = await proxy.connect({ user: caller });
        const error = await client.error('SELECT run_as_owner($1)', [STEAL]);
        expect(error.code).to.equal('42501');
        expect(error.hint).to.be.a('string');
        await proxy.disconnectAll();
        expect(await stolen()).to.deep.equal([]);
      });
    }

    it('launches as the definer who has logged in, for a role without EXECUTE that he has taken on', async () => {
      await define('borrow_granted');
      const direct = await proxy.database.direct();
      await direct.query('GRANT borrow_other TO borrow_granted');
      await granted.query('SET ROLE borrow_other');
      expect((await granted.error(`SELECT pg_background_launch('SELECT 1')`)).code).to.equal(
        '42501',
      );
      await granted.query('SELECT run_as_owner($1)', [STEAL]);
      await eventually(async () => {
        expect(await stolen()).to.deep.equal([['borrow_granted', 'borrow_granted']]);
      });
      await direct.query('REVOKE borrow_other FROM borrow_granted');
    });
  });
});
