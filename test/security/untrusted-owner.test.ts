/*
 * Attacks by the owner of a database who is no superuser: who has installed what signs can sign as
 * anybody there, and must not become a superuser who comes to look after the database.
 */
import { expect } from 'chai';
import {
  hexOf,
  launchOf,
  newHeader,
  play,
  requestOf,
  sign,
  type Request,
} from '../support/forgery.ts';
import { inBackground } from '../support/background.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const TAKE = 'INSERT INTO public.taken VALUES (current_user)';
const REFUSED = {
  code: '42501',
  message: 'pg_background is not trusted for superusers in this database',
};

/** Signs as whoever is named, with the key that only the owner of the extension can read. */
const FORGE = `CREATE FUNCTION dbo.forge(kind text, role text, role_oid oid, payload text) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER AS $$
  DECLARE context text; k bytea;
  BEGIN
    context := concat_ws(',', 'v1', kind, (SELECT key_id FROM dbo.keys), pg_backend_pid(),
      floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint, encode(convert_to(role, 'UTF8'), 'hex'), role_oid,
      repeat('t', 15), current_setting('pgbg_proxy.session'));
    k := (SELECT sha256(outer_key || sha256(inner_key || context::bytea)) FROM dbo.keys);
    RETURN concat('R ', context, ' ', payload, ' ', encode(sha256(k || sha256(k || payload::bytea)), 'hex'));
  END $$`;

describe('the owner of a database who is no superuser', () => {
  let proxy: TestProxy;
  let dbo: TestClient;

  before(async () => {
    proxy = await TestProxy.start();
    const direct = await proxy.database.direct();
    await direct.query(`CREATE ROLE owning_dbo LOGIN; ALTER DATABASE ${proxy.database.name} OWNER TO owning_dbo;
      CREATE TABLE taken (by text); GRANT INSERT, SELECT ON taken TO PUBLIC;
      CREATE SCHEMA dbo AUTHORIZATION owning_dbo; GRANT USAGE ON SCHEMA dbo TO PUBLIC; CREATE SCHEMA tools AUTHORIZATION owning_dbo`);
    await (await proxy.database.direct('owning_dbo')).query(FORGE);
  });
  beforeEach(async () => {
    dbo = await proxy.connect({ user: 'owning_dbo' });
    await (await proxy.database.direct()).query('TRUNCATE taken');
  });
  afterEach(async () => {
    await proxy.disconnectAll();
    const admin = await proxy.connect();
    await admin.query(
      'DROP EXTENSION IF EXISTS pg_background CASCADE; DROP TABLE IF EXISTS dbo.keys',
    );
    await proxy.expectNothingLeft();
  });
  after(async () => {
    const direct = await proxy.database.direct();
    await direct.query(`ALTER DATABASE ${proxy.database.name} OWNER TO postgres;
      DROP OWNED BY owning_dbo CASCADE; DROP ROLE owning_dbo`);
    await proxy.stop();
  });

  async function installAndKeepKey(client = dbo): Promise<void> {
    await client.query('CREATE EXTENSION pg_background SCHEMA dbo');
    await client.query('CREATE TABLE dbo.keys AS TABLE pgbackground.installation');
  }
  /** What code of the owner signs in a session, in the name of a role. */
  const forge = async (client: TestClient, role: string, kind = 'free'): Promise<Request> =>
    requestOf(
      String(
        await client.value('SELECT dbo.forge($1, $2::text, $2::text::regrole, $3)', [
          kind,
          role,
          `${newHeader()} ${launchOf(TAKE)}`,
        ]),
      ),
    );
  const taken = async () =>
    (await (await proxy.database.direct()).query<{ by: string }>('TABLE taken')).rows.map(
      ({ by }) => by,
    );
  async function expectNothingTaken(): Promise<void> {
    expect(await taken()).to.deep.equal([]);
    expect(proxy.engine.runningWorkers).to.equal(0);
  }

  it('can sign in his own name by hand, or these tests would show nothing', async () => {
    await installAndKeepKey();
    const { isAnswered, logged } = await play(proxy, dbo, await forge(dbo, 'owning_dbo'));
    expect({ isAnswered, logged }).to.deep.equal({ isAnswered: true, logged: [] });
    await proxy.disconnectAll();
    expect(await taken()).to.deep.equal(['owning_dbo']);
  });

  for (const kind of ['free', 'bound']) {
    it(`launches nothing with a ${kind} signature as the superuser, in his session`, async () => {
      await installAndKeepKey();
      const admin = await proxy.connect();
      const request = await forge(admin, 'postgres', kind);
      expect(request.context[5]).to.equal(hexOf('postgres'));
      await play(proxy, admin, request);
      await play(proxy, admin, await forge(admin, 'owning_dbo', kind));
      await expectNothingTaken();
      expect(await admin.error(`SELECT dbo.pg_background_launch('SELECT 1')`)).to.include(REFUSED);
      await expectNothingTaken();
    });
  }

  it('launches nothing as the superuser in a session of his own', async () => {
    await installAndKeepKey();
    for (const kind of ['free', 'bound']) {
      await play(proxy, dbo, await forge(dbo, 'postgres', kind));
      await proxy.disconnectAll();
      dbo = await proxy.connect({ user: 'owning_dbo' });
    }
    await expectNothingTaken();
  });

  it('launches nothing where a superuser had installed it before, whose session is still there', async () => {
    const admin = await proxy.connect();
    await admin.query('CREATE EXTENSION pg_background');
    expect(await inBackground(admin, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
    await admin.query('DROP EXTENSION pg_background');
    await installAndKeepKey();
    await play(proxy, admin, await forge(admin, 'postgres'));
    await expectNothingTaken();
    expect(await admin.error(`SELECT dbo.pg_background_launch('SELECT 1')`)).to.include(REFUSED);
  });

  it('launches nothing with his old key after a superuser has installed it anew', async () => {
    await installAndKeepKey();
    const admin = await proxy.connect();
    await admin.query('DROP EXTENSION pg_background; CREATE EXTENSION pg_background');
    await play(proxy, admin, await forge(admin, 'postgres'));
    await expectNothingTaken();
    expect(await inBackground(admin, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
  });

  for (const object of [
    'TABLE pgbackground.installation',
    'VIEW pgbackground.free_signature',
    'VIEW pgbackground.bound_signature',
    'SCHEMA pgbackground',
  ]) {
    it(`launches nothing for a superuser when he was given ${object}`, async () => {
      const admin = await proxy.connect();
      await admin.query(`CREATE EXTENSION pg_background; ALTER ${object} OWNER TO owning_dbo`);
      expect(await admin.error(`SELECT pg_background_launch($1)`, [TAKE])).to.include({
        code: '42501',
      });
      const signed = await sign(admin, launchOf(TAKE)).catch(() => undefined);
      if (signed !== undefined) await play(proxy, admin, signed);
      await expectNothingTaken();
    });
  }

  describe('where a superuser has installed it', () => {
    beforeEach(async () => {
      const admin = await proxy.connect();
      await admin.query(`CREATE EXTENSION pg_background SCHEMA tools;
        GRANT USAGE ON SCHEMA tools TO PUBLIC; SELECT tools.grant_pg_background_privileges('owning_dbo')`);
    });

    for (const sql of [
      'TABLE pgbackground.installation',
      `INSERT INTO pgbackground.installation VALUES (gen_random_uuid(), 'x', 'y')`,
      `UPDATE pgbackground.installation SET inner_key = 'x', outer_key = 'y'`,
      'CREATE OR REPLACE VIEW pgbackground.free_signature AS SELECT 1',
      `CREATE OR REPLACE FUNCTION pgbackground.sign(payload text) RETURNS text LANGUAGE sql AS 'SELECT 1'`,
      'CREATE TABLE pgbackground.mine (a int)',
      `COMMENT ON SCHEMA pgbackground IS 'key 00000000-0000-0000-0000-000000000000'`,
      'ALTER SCHEMA pgbackground RENAME TO theirs',
      'ALTER SCHEMA pgbackground OWNER TO owning_dbo',
      'DROP SCHEMA pgbackground CASCADE',
      'DROP VIEW pgbackground.free_signature',
      'ALTER TABLE pgbackground.installation DISABLE ROW LEVEL SECURITY',
      'CREATE POLICY p ON pgbackground.installation USING (true)',
      'CREATE RULE r AS ON SELECT TO pgbackground.free_signature DO INSTEAD SELECT 1',
      'CREATE TRIGGER t INSTEAD OF INSERT ON pgbackground.free_signature FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
      'GRANT ALL ON pgbackground.installation TO PUBLIC',
      'ALTER EXTENSION pg_background UPDATE',
      'ALTER EXTENSION pg_background SET SCHEMA public',
      'DROP EXTENSION pg_background',
      'CREATE EXTENSION pg_background SCHEMA dbo',
      'REASSIGN OWNED BY postgres TO owning_dbo',
      'SET SESSION AUTHORIZATION postgres',
    ]) {
      it(`cannot change what signs: ${sql}`, async () => {
        await dbo.query(sql).catch(() => {}); // mostly refused; GRANT only warns
        const admin = await proxy.connect();
        expect(
          await admin.rows(
            `SELECT n.nspowner::regrole::text, has_table_privilege('owning_dbo', 'pgbackground.installation', 'SELECT'),
                (SELECT relrowsecurity FROM pg_class WHERE oid = 'pgbackground.installation'::regclass)
               FROM pg_namespace AS n WHERE n.nspname = 'pgbackground'`,
          ),
        ).to.deep.equal([['postgres', false, true]]);
        expect(
          await admin.rows(
            `SELECT * FROM tools.pg_background_result(tools.pg_background_launch('SELECT 1')) AS (n int)`,
          ),
        ).to.deep.equal([[1]]);
      });
    }

    it('breaks it when he drops its functions from his schema, and puts nothing in its place', async () => {
      await dbo.query('DROP FUNCTION tools.pg_background_stats_v2() CASCADE');
      for (const view of ['free_signature', 'bound_signature']) {
        const create = `CREATE VIEW pgbackground.${view} AS SELECT 'R'::text AS context, 'k'::bytea AS signing_key`;
        expect((await dbo.error(create)).code).to.equal('42501');
      }
      const admin = await proxy.connect();
      expect((await admin.error('SELECT tools.pg_background_launch($1)', [TAKE])).code).to.equal(
        '42P01',
      );
      await expectNothingTaken();
    });
  });

  for (const statement of [
    'DROP EXTENSION pg_background CASCADE',
    'ALTER EXTENSION pg_background UPDATE',
    'ALTER EXTENSION pg_background SET SCHEMA tools',
    'CREATE EXTENSION IF NOT EXISTS pg_background',
  ]) {
    it(`has nothing run by a superuser who says ${statement}`, async () => {
      await installAndKeepKey();
      // What he owns there does something else now.
      await dbo.query(`CREATE OR REPLACE FUNCTION pgbackground.api_schema() RETURNS text LANGUAGE plpgsql AS
          $$ BEGIN ${TAKE}; RETURN 'dbo'; END $$;
        CREATE OR REPLACE FUNCTION pgbackground.privileges() RETURNS text[] LANGUAGE plpgsql AS
          $$ BEGIN ${TAKE}; RETURN '{}'; END $$;
        CREATE OR REPLACE FUNCTION pgbackground.sign(payload text) RETURNS text LANGUAGE plpgsql AS
          $$ BEGIN ${TAKE}; RETURN 'R'; END $$;
        CREATE OR REPLACE FUNCTION pgbackground.call(verb text, arguments json, grant_token text DEFAULT NULL) RETURNS json LANGUAGE plpgsql AS
          $$ BEGIN ${TAKE}; RETURN '{}'; END $$;
        CREATE OR REPLACE FUNCTION pgbackground.armor(payload json) RETURNS text LANGUAGE plpgsql AS
          $$ BEGIN ${TAKE}; RETURN ''; END $$`);
      // The owner's own call shows that his code is in place.
      await dbo.query('SELECT pgbackground.api_schema()');
      expect(await taken()).to.deep.equal(['owning_dbo']);
      const admin = await proxy.connect();
      await admin.query(statement).catch(() => {});
      expect(await taken()).to.deep.equal(['owning_dbo']);
    });
  }
});
