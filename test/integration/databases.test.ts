// Databases, roles and servers come and go: behind the proxy as without it, also after background work.
import { randomUUID } from 'node:crypto';
import { expect } from 'chai';
import type pg from 'pg';
import { inBackground, launch, readResult } from '../support/background.ts';
import { EmbeddedScratch } from '../support/embedded-scratch.ts';
import { eventually } from '../support/eventually.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';
import { rejectionOf } from '../support/rejection.ts';
import { serverPackage } from '../support/server.ts';

/** A client whose session has launched a worker and read its result. */
async function workedWith(proxy: TestProxy, options: pg.ClientConfig = {}): Promise<TestClient> {
  const client = await proxy.connect(options);
  expect(await inBackground(client, 'SELECT 1', 'x int')).to.deep.equal([[1]]);
  return client;
}

describe('behind the proxy, after background work', () => {
  let proxy: TestProxy;
  let admin: TestClient;
  let name: string;

  before(async () => {
    proxy = await TestProxy.startInstalled();
  });
  beforeEach(async () => {
    name = `coming_and_going_${randomUUID().replaceAll('-', '')}`;
    admin = await proxy.connect({ database: 'postgres' });
  });
  afterEach(async () => {
    await admin.query(`DROP DATABASE IF EXISTS ${name}`);
    await proxy.expectNothingLeft();
  });
  after(() => proxy.stop());

  /** Makes the database, with the extension. */
  async function create(): Promise<void> {
    await admin.query(`CREATE DATABASE ${name}`);
    const client = await proxy.connect({ database: name });
    await client.query('CREATE EXTENSION pg_background');
    await client.end();
  }

  describe('a database', () => {
    it('is the template of another, created by its own session', async () => {
      const client = await workedWith(proxy);
      await client.query(`CREATE DATABASE ${name} TEMPLATE ${proxy.database.name}`);
      expect(await inBackground(client, 'SELECT 2', 'x int')).to.deep.equal([[2]]);
    });

    it('is a template in the extended protocol, and in lower case', async () => {
      const client = await workedWith(proxy);
      await client.query({
        text: `create /* a copy of */ database ${name} template ${proxy.database.name}`,
        name: 'copy',
      });
    });

    it('is a template right behind the statement that has read a result', async () => {
      const client = await proxy.connect();
      const results = [
        client.query(
          `SELECT * FROM pg_background_result(pg_background_launch('SELECT 1')) AS (x int)`,
        ),
        client.query(`CREATE DATABASE ${name} TEMPLATE ${proxy.database.name}`),
      ];
      await Promise.all(results);
    });

    it('is dropped as soon as its session has gone', async () => {
      await create();
      await (await workedWith(proxy, { database: name })).end();
      await admin.query(`DROP DATABASE ${name}`);
    });

    it('is renamed as soon as its session has gone, and works by its new name', async () => {
      await create();
      await (await workedWith(proxy, { database: name })).end();
      const renamed = `${name.slice(0, 50)}_renamed`;
      await admin.query(`ALTER DATABASE ${name} RENAME TO ${renamed}`);
      name = renamed;
      await (await workedWith(proxy, { database: renamed })).end();
    });

    it('of another encoding has its characters in each job, and also when the connection was cleaned', async () => {
      await admin.query(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'`);
      const client = await proxy.connect({ database: name });
      await client.query('CREATE EXTENSION pg_background');
      const pids = new Set<number>();
      for (let job = 0; job < 3; job++) {
        const sql = `SELECT 'é' || chr(233), octet_length('é'), current_setting('client_encoding'), pg_backend_pid()`;
        const [[text, bytes, encoding, pid] = []] = await inBackground(
          client,
          sql,
          'a text, b int, c text, d int',
        );
        expect([text, bytes, encoding]).to.deep.equal(['éé', 1, 'LATIN1']);
        pids.add(Number(pid));
      }
      expect(pids.size).to.be.below(3);
      await client.end();
    });

    it('is used by one session, as far as anybody can see who wants to drop it', async () => {
      await create();
      const client = await workedWith(proxy, { database: name });
      expect(await admin.error(`DROP DATABASE ${name}`)).to.include({
        code: '55006',
        detail: 'There is 1 other session using the database.',
      });
      expect(await inBackground(client, 'SELECT 2', 'x int')).to.deep.equal([[2]]);
      await client.end();
    });

    it('is dropped with force, and the next launch elsewhere does not notice', async () => {
      await create();
      await workedWith(proxy, { database: name });
      const elsewhere = await workedWith(proxy);
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
      expect(await inBackground(elsewhere, 'SELECT 2', 'x int')).to.deep.equal([[2]]);
    });
  });

  it('a worker that runs goes on while a statement is about databases, and its result is read', async () => {
    const client = await proxy.connect();
    await client.query('SELECT pg_advisory_lock(1)');
    const pid = await launch(client, 'SELECT 7 AS x FROM pg_advisory_lock(1)');
    await client.query(`CREATE DATABASE ${name}`);
    await client.query('SELECT pg_advisory_unlock(1)');
    expect(await readResult(client, pid, 'x int')).to.deep.equal([[7]]);
  });

  it('a role is dropped', async () => {
    const role = `${name.slice(0, 50)}_role`;
    await admin.query(`CREATE ROLE ${role} LOGIN`);
    const owner = await proxy.connect();
    await owner.query(`SELECT grant_pg_background_privileges($1)`, [role]);
    await (await workedWith(proxy, { user: role })).end();
    await owner.query(`SELECT revoke_pg_background_privileges($1)`, [role]);
    await admin.query(`DROP ROLE ${role}`);
  });

  it('idle_session_timeout of a database spares the connections that wait for workers', async () => {
    await create();
    await admin.query(`ALTER DATABASE ${name} SET idle_session_timeout = '100ms'`);
    const client = await proxy.connect({ database: name, options: '-c idle_session_timeout=0' });
    const [[first] = []] = await inBackground(client, 'SELECT pg_backend_pid()', 'pid int');
    await client.query('SELECT pg_sleep(0.3)');
    const [[second] = []] = await inBackground(client, 'SELECT pg_backend_pid()', 'pid int');
    expect(second).to.equal(first);
    await client.end();
  });

  it('terminated connections of the pool, and the control link, are replaced without a word', async () => {
    const client = await workedWith(proxy);
    const ofTheProxy = `FROM pg_stat_activity
      WHERE application_name LIKE 'pg-background-proxy%' AND datname = current_database()`;
    for (let round = 0; round < 3; round++) {
      const direct = await proxy.database.direct();
      // The spare connection is opened behind the launch, and the worker's cleaned behind its end.
      await eventually(async () => {
        expect((await direct.query(`SELECT ${ofTheProxy}`)).rows).to.have.length(3);
      });
      await direct.query(`SELECT pg_terminate_backend(pid) ${ofTheProxy}`);
      expect(await inBackground(client, 'SELECT 2', 'x int')).to.deep.equal([[2]]);
    }
  });
});

describe('a server that is restarted behind the proxy', () => {
  it('runs the first launch of the next session', async function () {
    this.timeout(120_000);
    const scratch = await EmbeddedScratch.create();
    try {
      const packageName = serverPackage();
      const options = packageName === undefined ? {} : { packageName };
      const server = await scratch.start(options);
      const place = { host: server.host, port: server.port, name: 'postgres' };
      const proxy = await TestProxy.inFrontOf(place);
      await (await proxy.connect()).query('CREATE EXTENSION pg_background');
      const client = await workedWith(proxy);
      await server.stop();
      await rejectionOf(client.query('SELECT 1'));
      await scratch.start({ ...options, port: place.port });
      await (await workedWith(proxy)).end();
      await proxy.stop();
    } finally {
      await scratch.remove();
    }
  });
});
