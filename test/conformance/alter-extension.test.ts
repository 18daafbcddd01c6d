import { expect } from 'chai';
import { execFile, execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { runPsql } from '../support/psql.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';
import { testedVersion } from '../support/server.ts';

const RUN = `pg_background_result(SCHEMA.pg_background_launch('SELECT current_user::text'))`;
const run = (schema = 'public') =>
  `SELECT * FROM ${schema}.${RUN.replace('SCHEMA', schema)} AS (who text)`;

/** The major version of the pg_dump on the path; 0 where there is none. */
function pgDumpVersion(): number {
  try {
    const printed = execFileSync('pg_dump', ['--version'], { encoding: 'utf8' });
    return Number(/\(PostgreSQL\) (\d+)/.exec(printed)?.[1]);
  } catch {
    return 0;
  }
}

/** What ALTER EXTENSION does, and CREATE EXTENSION with the options of the manual. */
describe('ALTER EXTENSION pg_background', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.start();
  });
  beforeEach(async () => {
    client = await proxy.connect();
    await client.query('CREATE EXTENSION pg_background');
  });
  afterEach(async () => {
    const cleaner = await proxy.connect();
    await cleaner.query('DROP EXTENSION IF EXISTS pg_background CASCADE');
    await cleaner.query('DROP SCHEMA IF EXISTS tools CASCADE');
    await proxy.expectNothingLeft();
  });
  after(() => proxy.stop());

  const keyId = () => client.value('SELECT key_id FROM pgbackground.installation');

  describe('UPDATE', () => {
    it('writes a new key, with which calls go on at once', async () => {
      const before = await keyId();
      expect((await client.query('ALTER EXTENSION pg_background UPDATE')).command).to.equal(
        'ALTER',
      );
      expect(await keyId()).not.to.equal(before);
      expect(await client.rows(run())).to.deep.equal([['postgres']]);
    });

    it('keeps the handles of all sessions, and their calls', async () => {
      const other = await proxy.connect();
      const pid = await other.value(`SELECT pg_background_launch('SELECT 42')`);
      await client.query('ALTER EXTENSION pg_background UPDATE');
      expect(
        await other.rows('SELECT * FROM pg_background_result($1) AS (n int)', [pid]),
      ).to.deep.equal([[42]]);
    });

    it('works inside a transaction, and is undone with it', async () => {
      const before = await keyId();
      await client.query('BEGIN; ALTER EXTENSION pg_background UPDATE');
      expect(await client.rows(run())).to.deep.equal([['postgres']]);
      await client.query('ROLLBACK');
      expect(await keyId()).to.equal(before);
      expect(await client.rows(run())).to.deep.equal([['postgres']]);
    });

    it('makes a cloned database work, whose first call names it', async () => {
      await proxy.expectNothingLeft();
      const clone = await TestProxy.start({}, `TEMPLATE ${proxy.database.name}`);
      const there = await clone.connect();
      expect(await there.error(run())).to.include({
        code: '55000',
        message: 'pg_background was installed for another database or proxy',
        hint: 'Run ALTER EXTENSION pg_background UPDATE to renew its key; all proxies of a server need the same secret.',
      });
      await there.query('ALTER EXTENSION pg_background UPDATE');
      expect(await there.rows(run())).to.deep.equal([['postgres']]);
      await clone.expectNothingLeft();
      await clone.stop();
    });

    it('makes a restored database work', async function () {
      // A client's pg_dump reads servers up to its own version.
      if (pgDumpVersion() < testedVersion) this.skip();
      await client.query(`CREATE VIEW mine AS SELECT * FROM pg_background_list_v2() AS (pid int)`);
      await proxy.expectNothingLeft();
      const restored = await TestProxy.start();
      const { host, port, name } = proxy.database;
      const dump = await promisify(execFile)(
        'pg_dump',
        [`postgres://postgres@${host}:${port}/${name}`],
        { maxBuffer: 10_000_000 },
      );
      const direct = `postgres://postgres@${host}:${port}/${restored.database.name}`;
      const { stderr } = await runPsql(direct, dump.stdout);
      expect(stderr).to.equal('');
      const there = await restored.connect();
      expect(await there.error(run())).to.include({
        code: '55000',
        hint: 'Run ALTER EXTENSION pg_background UPDATE to renew its key; all proxies of a server need the same secret.',
      });
      await there.query('ALTER EXTENSION pg_background UPDATE');
      expect(await there.rows(run())).to.deep.equal([['postgres']]);
      expect(await there.rows('SELECT * FROM mine')).to.deep.equal([]);
      await restored.expectNothingLeft();
      await restored.stop();
      const cleaner = await proxy.connect();
      await cleaner.query('DROP VIEW mine');
    });

    it('makes a database work again when the secret of the proxy has changed', async () => {
      const { host, port, name } = proxy.database;
      await proxy.expectNothingLeft();
      const other = await TestProxy.inFrontOf(
        { host, port, name },
        { secret: Buffer.from('another secret altogether') },
      );
      const there = await other.connect();
      expect((await there.error(run())).code).to.equal('55000');
      await there.query('ALTER EXTENSION pg_background UPDATE');
      expect(await there.rows(run())).to.deep.equal([['postgres']]);
      await other.stop();
    });

    it("accepts the version that is there, and refuses others in the server's words", async () => {
      await client.query(`ALTER EXTENSION pg_background UPDATE TO '1.8'`);
      expect(await client.error(`ALTER EXTENSION pg_background UPDATE TO '2.0'`)).to.include({
        code: '22023',
        message: 'extension "pg_background" has no update path from version "1.8" to version "2.0"',
      });
    });

    it('is for the owner only', async () => {
      await client.query('CREATE ROLE guest LOGIN');
      const guest = await proxy.connect({ user: 'guest' });
      expect(await guest.error('ALTER EXTENSION pg_background UPDATE')).to.include({
        code: '42501',
        message: 'must be owner of extension pg_background',
      });
      await client.query('DROP ROLE guest');
    });

    it('says so where there is no extension', async () => {
      await client.query('DROP EXTENSION pg_background');
      expect(await client.error('ALTER EXTENSION pg_background UPDATE')).to.include({
        code: '42704',
        message: 'extension "pg_background" does not exist',
      });
    });

    it('runs nothing of a lesser owner in the name of a superuser', async () => {
      await client.query(`DROP EXTENSION pg_background; CREATE ROLE lesser LOGIN;
        GRANT CREATE ON DATABASE ${proxy.database.name} TO lesser; CREATE SCHEMA tools AUTHORIZATION lesser`);
      const lesser = await proxy.connect({ user: 'lesser' });
      await lesser.query('CREATE EXTENSION pg_background SCHEMA tools');
      for (const statement of ['UPDATE', 'SET SCHEMA public']) {
        expect(await client.error(`ALTER EXTENSION pg_background ${statement}`)).to.include({
          code: '42501',
          message: 'pg_background is not trusted for superusers in this database',
        });
      }
      await lesser.query('ALTER EXTENSION pg_background UPDATE');
      expect(await lesser.rows(run('tools'))).to.deep.equal([['lesser']]);
      await client.query('DROP EXTENSION pg_background; DROP OWNED BY lesser; DROP ROLE lesser');
    });
  });

  describe('SET SCHEMA', () => {
    it('moves functions and types, which go on to work', async () => {
      const pid = await client.value(`SELECT pg_background_launch('SELECT 42')`);
      await client.query('CREATE SCHEMA tools');
      expect(
        (await client.query('ALTER EXTENSION pg_background SET SCHEMA tools')).command,
      ).to.equal('ALTER');
      expect(
        await client.rows(`SELECT DISTINCT pronamespace::regnamespace::text FROM pg_proc WHERE proname ~ 'pg_background'
                           UNION SELECT typnamespace::regnamespace::text FROM pg_type WHERE typname ~ '^pg_background'`),
      ).to.deep.equal([['tools']]);
      expect(
        await client.rows('SELECT * FROM tools.pg_background_result($1) AS (n int)', [pid]),
      ).to.deep.equal([[42]]);
      expect(await client.rows(run('tools'))).to.deep.equal([['postgres']]);
    });

    it('lets privileges be granted and the extension be dropped afterwards', async () => {
      await client.query(
        'CREATE SCHEMA tools; CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA tools TO guest',
      );
      await client.query('ALTER EXTENSION pg_background SET SCHEMA tools');
      expect(await client.value(`SELECT tools.grant_pg_background_privileges('guest')`)).to.equal(
        true,
      );
      const guest = await proxy.connect({ user: 'guest' });
      expect(await guest.rows(run('tools'))).to.deep.equal([['guest']]);
      await guest.end();
      await client.query('DROP EXTENSION pg_background');
      expect(
        await client.rows(`SELECT proname FROM pg_proc WHERE proname ~ 'pg_background'`),
      ).to.deep.equal([]);
      await client.query('DROP OWNED BY guest; DROP ROLE guest');
    });

    it('also finds them after ALTER SCHEMA … RENAME', async () => {
      await client.query('CREATE SCHEMA tools; ALTER EXTENSION pg_background SET SCHEMA tools');
      await client.query('ALTER SCHEMA tools RENAME TO "more Tools"');
      await client.query('ALTER EXTENSION pg_background SET SCHEMA public');
      expect(await client.rows(run())).to.deep.equal([['postgres']]);
      await client.query('DROP SCHEMA "more Tools"');
    });

    it('does nothing when they are there already', async () => {
      await client.query('ALTER EXTENSION pg_background SET SCHEMA public');
      expect(await client.rows(run())).to.deep.equal([['postgres']]);
    });

    it('says so when the schema does not exist, and moves nothing', async () => {
      expect(await client.error('ALTER EXTENSION pg_background SET SCHEMA nowhere')).to.include({
        code: '3F000',
        message: 'schema "nowhere" does not exist',
      });
      expect(await client.rows(run())).to.deep.equal([['postgres']]);
    });

    it('moves nothing when something of the same name is in the way', async () => {
      await client.query(`CREATE SCHEMA tools;
        CREATE FUNCTION tools.pg_background_wait_v2(pid int, cookie bigint) RETURNS void LANGUAGE sql AS ''`);
      expect((await client.error('ALTER EXTENSION pg_background SET SCHEMA tools')).code).to.equal(
        '42723',
      );
      expect(await client.rows(run())).to.deep.equal([['postgres']]);
    });

    it('is for the owner only', async () => {
      await client.query('CREATE ROLE guest LOGIN');
      const guest = await proxy.connect({ user: 'guest' });
      expect(await guest.error('ALTER EXTENSION pg_background SET SCHEMA public')).to.include({
        code: '42501',
        message: 'must be owner of extension pg_background',
      });
      await client.query('DROP ROLE guest');
    });
  });
});

describe('CREATE EXTENSION pg_background with options', () => {
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
    await cleaner.query('DROP EXTENSION IF EXISTS pg_background CASCADE');
    await proxy.expectNothingLeft();
  });
  after(() => proxy.stop());

  for (const options of [
    `VERSION '1.8'`,
    `VERSION '1.6'`,
    'CASCADE',
    `SCHEMA public VERSION '1.8' CASCADE`,
  ]) {
    it(`accepts ${options}`, async () => {
      await client.query(`CREATE EXTENSION pg_background ${options}`);
      expect(await client.rows(run())).to.deep.equal([['postgres']]);
    });
  }

  it("refuses a version that it does not know in the server's words", async () => {
    expect(await client.error(`CREATE EXTENSION pg_background VERSION '9.9'`)).to.include({
      code: '22023',
      message:
        'extension "pg_background" has no installation script nor update path for version "9.9"',
    });
  });

  it('says so when no schema is selected to create in', async () => {
    await client.query('SET search_path = nowhere');
    expect(await client.error('CREATE EXTENSION pg_background')).to.include({
      code: '3F000',
      message: 'no schema has been selected to create in',
    });
  });

  it('leaves out the executor role where it may not create roles, and says how to add it', async () => {
    await client.query(`DROP ROLE IF EXISTS pgbackground_executor; CREATE ROLE plain LOGIN;
      GRANT CREATE ON DATABASE ${proxy.database.name} TO plain; CREATE SCHEMA tools AUTHORIZATION plain`);
    const plain = await proxy.connect({ user: 'plain' });
    const notices: (string | undefined)[] = [];
    plain.on('notice', ({ hint }) => notices.push(hint));
    await plain.query('CREATE EXTENSION pg_background SCHEMA tools');
    expect(plain.notices.map(({ message }) => message)).to.deep.equal([
      'role "pgbackground_executor" was not created: this role may not create roles',
    ]);
    expect(notices).to.deep.equal([
      `CREATE ROLE pgbackground_executor NOLOGIN; SELECT grant_pg_background_privileges('pgbackground_executor');`,
    ]);
    expect(await plain.rows(run('tools'))).to.deep.equal([['plain']]);
    // What the hint says works.
    await client.query('CREATE ROLE pgbackground_executor NOLOGIN; CREATE ROLE worker_user LOGIN');
    await client.query(
      'GRANT pgbackground_executor TO worker_user; GRANT USAGE ON SCHEMA tools TO worker_user',
    );
    expect(
      await plain.value(`SELECT tools.grant_pg_background_privileges('pgbackground_executor')`),
    ).to.equal(true);
    const user = await proxy.connect({ user: 'worker_user' });
    expect(await user.rows(run('tools'))).to.deep.equal([['worker_user']]);
    await user.end();
    await plain.query('DROP EXTENSION pg_background');
    await client.query('DROP OWNED BY plain CASCADE; DROP ROLE plain, worker_user');
  });

  it('is for the owner only to drop again', async () => {
    await client.query('CREATE EXTENSION pg_background; CREATE ROLE guest LOGIN');
    const guest = await proxy.connect({ user: 'guest' });
    expect(await guest.error('DROP EXTENSION pg_background')).to.include({
      code: '42501',
      message: 'must be owner of extension pg_background',
    });
    await client.query('DROP ROLE guest');
  });

  describe('on a server that has the C extension', () => {
    let folder: string;

    before(async function () {
      // extension_control_path, which lets a test bring an extension of its own, came with 18.
      if (testedVersion < 18) this.skip();
      folder = await mkdtemp(join(tmpdir(), 'pgbg-extension-'));
      await chmod(folder, 0o755);
      await mkdir(join(folder, 'extension'));
      await writeFile(
        join(folder, 'extension', 'pg_background.control'),
        `comment = 'stands for the C extension'\ndefault_version = '1.8'\nrelocatable = true\n`,
      );
      await writeFile(
        join(folder, 'extension', 'pg_background--1.8.sql'),
        `CREATE FUNCTION pg_background_launch(sql text, queue_size int DEFAULT 65536) RETURNS int LANGUAGE sql AS 'SELECT -1';`,
      );
    });
    after(() => folder && rm(folder, { recursive: true }));

    it('is left to the server, and so are ALTER and DROP', async () => {
      await client.query(`SET extension_control_path = '$system:${folder}'`);
      await client.query('CREATE EXTENSION pg_background');
      expect(
        await client.rows(
          `SELECT extversion, to_regnamespace('pgbackground') FROM pg_extension WHERE extname = 'pg_background'`,
        ),
      ).to.deep.equal([['1.8', null]]);
      expect(await client.value(`SELECT pg_background_launch('SELECT 1')`)).to.equal(-1);
      await client.query('CREATE SCHEMA tools; ALTER EXTENSION pg_background SET SCHEMA tools');
      expect(await client.value(`SELECT tools.pg_background_launch('SELECT 1')`)).to.equal(-1);
      await client.query('ALTER EXTENSION pg_background UPDATE');
      expect(client.notices.map(({ message }) => message)).to.deep.equal([
        'version "1.8" of extension "pg_background" is already installed',
      ]);
      await client.query('DROP EXTENSION pg_background; DROP SCHEMA tools');
      expect(
        await client.rows(`SELECT FROM pg_extension WHERE extname = 'pg_background'`),
      ).to.deep.equal([]);
    });
  });
});
