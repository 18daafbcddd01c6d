import { expect } from 'chai';
import { serialize } from 'pg-protocol';
import { createStatement, newGrantToken } from '../../src/index.ts';
import { hasPsql, runPsql } from '../support/psql.ts';
import { TEST_SECRET, TestProxy, type TestClient } from '../support/proxy.ts';
import { RawClient } from '../support/wire.ts';

const FUNCTIONS = [
  'grant_pg_background_privileges',
  'pg_background_cancel_v2',
  'pg_background_cancel_v2_grace',
  'pg_background_detach',
  'pg_background_detach_v2',
  'pg_background_drop_executor_role',
  'pg_background_get_progress_v2',
  'pg_background_launch',
  'pg_background_launch_v2',
  'pg_background_list_v2',
  'pg_background_progress',
  'pg_background_result',
  'pg_background_result_v2',
  'pg_background_stats_v2',
  'pg_background_submit_v2',
  'pg_background_wait_v2',
  'pg_background_wait_v2_timeout',
  'revoke_pg_background_privileges',
];

describe('CREATE EXTENSION pg_background', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.start();
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(async () => {
    const cleaner = await proxy.connect();
    await cleaner.query(
      'ROLLBACK; DROP EXTENSION IF EXISTS pg_background CASCADE; DROP SCHEMA IF EXISTS tools CASCADE',
    );
    await proxy.expectNothingLeft();
  });
  after(() => proxy.stop());

  const functionsIn = async (schema: string) =>
    (
      await client.rows(
        `SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace($1) AND proname ~ 'pg_background' ORDER BY proname COLLATE "C"`,
        [schema],
      )
    ).map(([name]) => name);
  const works = async () =>
    client.rows(`SELECT * FROM pg_background_result(pg_background_launch('SELECT 1')) AS (n int)`);

  it('installs all functions and types in the first schema of search_path', async () => {
    expect((await client.query('CREATE EXTENSION pg_background')).command).to.equal('CREATE');
    expect(await functionsIn('public')).to.deep.equal(FUNCTIONS);
    expect(
      await client.rows(
        `SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype = 'c' ORDER BY 1`,
      ),
    ).to.deep.equal([
      ['pg_background_handle'],
      ['pg_background_progress'],
      ['pg_background_stats'],
    ]);
    expect(await works()).to.deep.equal([[1]]);
  });

  it('installs them in the schema that it names, which may need quotes', async () => {
    await client.query(
      `CREATE SCHEMA "it's 1 Schema"; CREATE EXTENSION pg_background WITH SCHEMA "it's 1 Schema"`,
    );
    expect(await functionsIn(`"it's 1 Schema"`)).to.deep.equal(FUNCTIONS);
    expect(
      await client.rows(
        `SELECT * FROM "it's 1 Schema".pg_background_result("it's 1 Schema".pg_background_launch('SELECT 1')) AS (n int)`,
      ),
    ).to.deep.equal([[1]]);
    await client.query(`DROP EXTENSION pg_background; DROP SCHEMA "it's 1 Schema"`);
  });

  it('says so when the schema does not exist', async () => {
    expect(await client.error('CREATE EXTENSION pg_background SCHEMA nowhere')).to.include({
      code: '3F000',
      message: 'schema "nowhere" does not exist',
    });
  });

  it('fails where it exists, and skips with IF NOT EXISTS', async () => {
    await client.query('CREATE EXTENSION pg_background');
    expect(await client.error('CREATE EXTENSION pg_background')).to.include({
      code: '42710',
      message: 'extension "pg_background" already exists',
    });
    await client.query('CREATE EXTENSION IF NOT EXISTS pg_background');
    expect(client.notices).to.deep.equal([
      {
        severity: 'NOTICE',
        code: '42710',
        message: 'extension "pg_background" already exists, skipping',
      },
    ]);
    expect(await works()).to.deep.equal([[1]]);
  });

  it('works at once inside the transaction that installs it', async () => {
    await client.query('BEGIN');
    await client.query('CREATE EXTENSION pg_background');
    expect(await client.value(`SELECT pg_background_launch('SELECT 1') > 0`)).to.equal(true);
    await client.query('COMMIT');
  });

  it('reads a large result inside the transaction that installs it', async () => {
    await client.query('BEGIN; CREATE EXTENSION pg_background');
    const big = `SELECT count(*) FROM pg_background_result(pg_background_launch('SELECT repeat(''x'', 100) FROM generate_series(1, 300)')) AS (t text)`;
    expect(await client.value(big)).to.equal('300');
    await client.query('COMMIT');
  });

  it('works at once when one transaction drops and creates it again', async () => {
    await client.query('CREATE EXTENSION pg_background');
    await client.query('BEGIN; DROP EXTENSION pg_background; CREATE EXTENSION pg_background');
    expect(await works()).to.deep.equal([[1]]);
    // The transaction has locked the table that results go through: they find another way.
    const big = `SELECT count(*) FROM pg_background_result(pg_background_launch('SELECT repeat(''x'', 100) FROM generate_series(1, 300)')) AS (t text)`;
    expect(await client.value(big)).to.equal('300');
    await client.query('COMMIT');
    expect(await works()).to.deep.equal([[1]]);
  });

  it('names what is wrong in a database that is a copy of another', async () => {
    await client.query('CREATE EXTENSION pg_background');
    await proxy.expectNothingLeft();
    const copy = await TestProxy.start({}, `TEMPLATE ${proxy.database.name}`);
    const there = await copy.connect();
    expect(await there.error(`SELECT pg_background_launch('SELECT 1')`)).to.include({
      code: '55000',
      message: 'pg_background was installed for another database or proxy',
    });
    await there.query('DROP EXTENSION pg_background; CREATE EXTENSION pg_background');
    expect(await there.value(`SELECT pg_background_launch('SELECT 1') > 0`)).to.equal(true);
    await copy.expectNothingLeft();
    await copy.stop();
    client = await proxy.connect();
  });

  it('leaves nothing when its transaction rolls back', async () => {
    await client.query('BEGIN; CREATE EXTENSION pg_background');
    await client.query('ROLLBACK');
    expect(
      await client.rows(
        `SELECT to_regnamespace('pgbackground'), to_regtype('pg_background_handle')`,
      ),
    ).to.deep.equal([[null, null]]);
  });

  it('keeps its place in a string of several statements, each with its own tag', async () => {
    const raw = await RawClient.login(proxy.port, {
      user: 'postgres',
      database: proxy.database.name,
    });
    const answer = await raw.query(
      `SELECT 'é'; CREATE EXTENSION pg_background; CREATE TABLE k (a int); DROP EXTENSION pg_background; DO $$ BEGIN END $$`,
    );
    expect(
      answer.filter(({ type }) => type === 'C').map(({ body }) => body.toString()),
    ).to.deep.equal([
      'SELECT 1\0',
      'CREATE EXTENSION\0',
      'CREATE TABLE\0',
      'DROP EXTENSION\0',
      'DO\0',
    ]);
    expect(answer.filter(({ type }) => type === 'N' || type === 'E')).to.deep.equal([]);
    await raw.end();
  });

  it('undoes the whole string when a later statement of it fails', async () => {
    expect((await client.error('CREATE EXTENSION pg_background; SELECT 1/0')).code).to.equal(
      '22012',
    );
    expect(await client.value(`SELECT to_regnamespace('pgbackground')`)).to.equal(null);
  });

  it('works in the extended protocol, and when it is executed again after a DROP', async () => {
    const raw = await RawClient.login(proxy.port, {
      user: 'postgres',
      database: proxy.database.name,
    });
    const run = async (name: string) => {
      raw.socket.write(
        Buffer.concat([
          serialize.bind({ statement: name }),
          serialize.execute({ portal: '', rows: 0 }),
          serialize.sync(),
        ]),
      );
      return (await raw.until('Z'))
        .filter(({ type }) => type === 'C')
        .map(({ body }) => body.toString());
    };
    raw.socket.write(
      Buffer.concat([
        serialize.parse({ name: 'c', text: 'CREATE EXTENSION pg_background', types: [] }),
        serialize.parse({ name: 'd', text: 'DROP EXTENSION pg_background', types: [] }),
        serialize.sync(),
      ]),
    );
    await raw.until('Z');
    for (let i = 0; i < 2; i++) {
      expect(await run('c')).to.deep.equal(['CREATE EXTENSION\0']);
      expect(await run('d')).to.deep.equal(['DROP EXTENSION\0']);
    }
    await raw.end();
  });

  it('removes everything with DROP EXTENSION', async () => {
    await client.query('CREATE EXTENSION pg_background');
    expect((await client.query('DROP EXTENSION pg_background')).command).to.equal('DROP');
    expect(await functionsIn('public')).to.deep.equal([]);
    expect(
      await client.rows(
        `SELECT to_regnamespace('pgbackground'), to_regtype('pg_background_handle')`,
      ),
    ).to.deep.equal([[null, null]]);
  });

  it('drops what depends on it only with CASCADE', async () => {
    await client.query(`CREATE EXTENSION pg_background;
      CREATE VIEW depends AS SELECT * FROM pg_background_list_v2() AS (pid int)`);
    expect((await client.error('DROP EXTENSION pg_background')).code).to.equal('2BP01');
    expect(await works()).to.deep.equal([[1]]);
    await client.query('DROP EXTENSION pg_background CASCADE');
    expect(await client.value(`SELECT to_regclass('depends')`)).to.equal(null);
  });

  it('says so when there is nothing to drop', async () => {
    expect(await client.error('DROP EXTENSION pg_background')).to.include({
      code: '42704',
      message: 'extension "pg_background" does not exist',
    });
    await client.query('DROP EXTENSION IF EXISTS pg_background');
    expect(client.notices.map(({ message }) => message)).to.deep.equal([
      'extension "pg_background" does not exist, skipping',
    ]);
  });

  it('drops the other extensions that the same statement names', async () => {
    await client.query('CREATE EXTENSION pg_background; CREATE EXTENSION pg_trgm');
    await client.query('DROP EXTENSION pg_trgm, pg_background');
    expect(await client.rows(`SELECT FROM pg_extension WHERE extname = 'pg_trgm'`)).to.have.length(
      0,
    );
  });

  it('leaves other extensions alone', async () => {
    await client.query('CREATE EXTENSION pg_trgm; DROP EXTENSION pg_trgm -- not pg_background');
    expect(await client.value(`SELECT to_regnamespace('pgbackground')`)).to.equal(null);
  });

  it('adopts nothing that lies in wait', async () => {
    await client.query('CREATE SCHEMA pgbackground');
    expect(await client.error('CREATE EXTENSION pg_background')).to.include({
      code: '42P06',
      message: 'schema "pgbackground" already exists',
    });
    await client.query(`DROP SCHEMA pgbackground;
      CREATE FUNCTION pg_background_detach(pid int) RETURNS void LANGUAGE sql AS ''`);
    expect((await client.error('CREATE EXTENSION pg_background')).code).to.equal('42723');
    expect(await client.value(`SELECT to_regnamespace('pgbackground')`)).to.equal(null);
    await client.query('DROP FUNCTION pg_background_detach(int)');
  });

  it('grants nothing to PUBLIC', async () => {
    await client.query('CREATE EXTENSION pg_background');
    const open = await client.rows(`
      SELECT p.oid::regprocedure::text FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
       WHERE (p.proname ~ 'pg_background' OR p.pronamespace = 'pgbackground'::regnamespace) AND a.grantee = 0
      UNION ALL
      SELECT t.typname FROM pg_type t, aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a
       WHERE t.typname ~ '^pg_background' AND a.grantee = 0
      UNION ALL
      SELECT c.relname FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
       WHERE c.relnamespace = 'pgbackground'::regnamespace AND c.relkind IN ('r', 'v') AND a.grantee = 0
      UNION ALL
      SELECT n.nspname FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
       WHERE n.nspname = 'pgbackground' AND a.grantee = 0`);
    expect(open).to.deep.equal([]);
  });

  it('comments on every object that it creates', async () => {
    await client.query('CREATE EXTENSION pg_background');
    const silent = await client.rows(`
      SELECT p.oid::regprocedure::text FROM pg_proc p
       WHERE (p.proname ~ 'pg_background' OR p.pronamespace = 'pgbackground'::regnamespace) AND obj_description(p.oid, 'pg_proc') IS NULL
      UNION ALL
      SELECT c.relname FROM pg_class c WHERE c.relkind IN ('r', 'v') AND c.relnamespace = 'pgbackground'::regnamespace
         AND obj_description(c.oid, 'pg_class') IS NULL
      UNION ALL
      SELECT t.typname FROM pg_type t WHERE t.typname ~ '^pg_background' AND t.typtype = 'c' AND obj_description(t.oid, 'pg_type') IS NULL`);
    expect(silent).to.deep.equal([]);
  });

  it('creates the executor role, which may use the API and cannot log in', async () => {
    await client.query('CREATE EXTENSION pg_background');
    expect(
      await client.rows(`SELECT rolcanlogin, has_function_privilege(oid, 'pg_background_launch(text, int)', 'EXECUTE')
                           FROM pg_roles WHERE rolname = 'pgbackground_executor'`),
    ).to.deep.equal([[false, true]]);
  });

  it('needs no superuser: the owner of the database is enough', async () => {
    const { name } = proxy.database;
    await client.query(
      `CREATE ROLE db_owner LOGIN; GRANT CREATE ON DATABASE ${name} TO db_owner; CREATE SCHEMA tools AUTHORIZATION db_owner`,
    );
    const owner = await proxy.connect({ user: 'db_owner' });
    await owner.query('CREATE EXTENSION pg_background SCHEMA tools');
    await owner.query('SET search_path = tools');
    expect(
      await owner.rows(
        `SELECT * FROM pg_background_result(pg_background_launch('SELECT current_user::text')) AS (who text)`,
      ),
    ).to.deep.equal([['db_owner']]);
    await owner.query('DROP EXTENSION pg_background');
    await client.query(
      `DROP SCHEMA tools; REVOKE ALL ON DATABASE ${name} FROM db_owner; DROP ROLE db_owner`,
    );
  });

  it('is refused in the words of the server to a role that may not', async () => {
    await client.query('CREATE ROLE guest LOGIN');
    const guest = await proxy.connect({ user: 'guest' });
    const error = await guest.error('CREATE EXTENSION pg_background');
    expect(error).to.include({
      code: '42501',
      message: `permission denied for database ${proxy.database.name}`,
    });
    await client.query('DROP ROLE guest');
  });

  it('hides the signing key from everybody but its owner, also from pg_read_all_data', async () => {
    await client.query(
      'CREATE EXTENSION pg_background; CREATE ROLE reader; GRANT pg_read_all_data TO reader',
    );
    await client.query('SET ROLE reader');
    expect(await client.rows('SELECT * FROM pgbackground.installation')).to.deep.equal([]);
    await client.query('RESET ROLE');
    expect(
      await client.rows('SELECT length(inner_key) FROM pgbackground.installation'),
    ).to.deep.equal([[64]]);
    await client.query('DROP ROLE reader');
  });

  it('is the same as what the command sql prints', async () => {
    const text = createStatement({
      grantToken: newGrantToken(TEST_SECRET),
      original: 'CREATE EXTENSION pg_background',
      schema: undefined,
      ifNotExists: false,
    });
    await client.query(text);
    expect(await functionsIn('public')).to.deep.equal(FUNCTIONS);
    expect(await works()).to.deep.equal([[1]]);
  });

  it('gives a key only to a block that the holder of the secret wrote', async () => {
    const text = createStatement({
      grantToken: newGrantToken(Buffer.from('another secret altogether')),
      original: 'CREATE EXTENSION pg_background',
      schema: undefined,
      ifNotExists: false,
    });
    expect((await client.error(text)).code).to.equal('53000');
    expect(await client.value(`SELECT to_regnamespace('pgbackground')`)).to.equal(null);
  });

  it('does not work around the proxy, and says where to go', async () => {
    await client.query('CREATE EXTENSION pg_background');
    const direct = await proxy.database.direct();
    const error = await direct
      .query(`SELECT pg_background_launch('SELECT 1')`)
      .catch((reason: unknown) => reason);
    expect(error).to.include({
      code: '55000',
      hint: 'This session reached the server directly: connect to the proxy instead.',
    });
  });

  it('shows its tags in psql', async function () {
    if (!hasPsql) this.skip();
    const { stdout, stderr } = await runPsql(
      proxy.url(),
      'CREATE EXTENSION pg_background; DROP EXTENSION pg_background;',
      [],
    );
    expect({ stdout, stderr }).to.deep.equal({ stdout: '', stderr: '' });
    const verbose = await runPsql(
      proxy.url(),
      '\\set QUIET 0\nCREATE EXTENSION pg_background;\nDROP EXTENSION pg_background;',
      [],
    );
    expect(verbose.stdout).to.equal('CREATE EXTENSION\nDROP EXTENSION\n');
  });
});
