import { platform } from 'node:os';
import { expect } from 'chai';
import pg from 'pg';
import { createDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { ProxyProcess } from '../support/proxy-process.ts';
import { hasPsql, runPsql } from '../support/psql.ts';
import { TestProxy } from '../support/proxy.ts';

/** 1,000,000 rows of about 300 bytes: more than the proxy may ever hold. */
const MILLION = `SELECT i, repeat(md5(i::text), 9) FROM generate_series(1, 1000000) i`;
const MEMORY_LIMIT = 256 * 1024 * 1024;

describe('a large result', function () {
  this.timeout(120_000);
  let database: TestDatabase;
  let proxy: ProxyProcess;
  let url: string;
  let client: pg.Client;

  before(async () => {
    database = await createDatabase();
    proxy = new ProxyProcess(
      [
        '--listen',
        '127.0.0.1:0',
        '--auth-type',
        'trust',
        '--upstream',
        `postgres://${database.host}:${database.port}/${database.name}`,
      ],
      { PGBG_SECRET: 'a secret that only the tests know' },
    );
    url = await proxy.ready();
    client = new pg.Client(url);
    await client.connect();
    await client.query('CREATE EXTENSION pg_background');
  });
  after(async () => {
    await client.end();
    await proxy.stop();
    await database.drop();
  });

  it('of 1,000,000 rows comes through psql complete, while memory stays bounded', async function () {
    if (!hasPsql || platform() !== 'linux') this.skip();
    const { stdout, stderr } = await runPsql(
      url,
      `\\o | awk -F "|" '{ rows++; sum += $1; bytes += length($2) } END { printf "%.0f %.0f %.0f", rows, sum, bytes }' 
       SELECT * FROM pg_background_result(pg_background_launch($$${MILLION}$$)) AS (i int, t text);
       \\o`,
    );
    expect(stderr).to.equal('');
    expect(stdout.trim()).to.equal('1000000 500000500000 288000000');
    expect(proxy.peakMemory).to.be.below(MEMORY_LIMIT);
  });

  it('of 1,000,000 rows can be stored with INSERT ... SELECT, while memory stays bounded', async function () {
    if (platform() !== 'linux') this.skip();
    await client.query('CREATE TABLE million (i int, t text)');
    await client.query(
      `INSERT INTO million SELECT * FROM pg_background_result(pg_background_launch($$${MILLION}$$)) AS (i int, t text)`,
    );
    const { rows } = await client.query(
      `SELECT count(*)::int AS rows, sum(i)::float8 AS sum, sum(length(t))::int AS bytes FROM million`,
    );
    expect(rows).to.deep.equal([{ rows: 1000000, sum: 500000500000, bytes: 288000000 }]);
    expect(proxy.peakMemory).to.be.below(MEMORY_LIMIT);
    await client.query('DROP TABLE million');
  });
});

describe('the result of a worker', () => {
  let proxy: TestProxy;

  before(async () => {
    proxy = await TestProxy.startInstalled({ maxResultBytes: 4 * 1024 * 1024 });
  });
  afterEach(() => proxy.expectNothingLeft());
  after(() => proxy.stop());

  it('fails the job beyond the limit, which the error names', async () => {
    const client = await proxy.connect();
    const error = await client.error(
      `SELECT count(*) FROM pg_background_result(pg_background_launch('SELECT repeat(''x'', 1000) FROM generate_series(1, 5000)')) AS (t text)`,
    );
    expect(error).to.include({
      code: '53400',
      message: 'result of background worker is too large',
    });
    expect(error.detail).to.include('4194304 bytes');
  });

  it('has no limit where nothing of it is kept, for it goes to the client while it comes', async () => {
    const client = await proxy.connect();
    const { rowCount } = await client.query(
      `SELECT * FROM pg_background_result(pg_background_launch('SELECT repeat(''x'', 1000) FROM generate_series(1, 50000)')) AS (t text)`,
    );
    expect(rowCount).to.equal(50_000);
  });

  it('holds only the rows of the last statement', async () => {
    const client = await proxy.connect();
    expect(
      await client.rows(
        `SELECT * FROM pg_background_result(pg_background_launch('SELECT repeat(''x'', 1000) FROM generate_series(1, 3000); SELECT repeat(''y'', 1000) FROM generate_series(1, 3000); SELECT 1')) AS (n int)`,
      ),
    ).to.deep.equal([[1]]);
  });

  it('of a submitted worker is discarded, however large', async () => {
    const client = await proxy.connect();
    const [handle] = await client.rows(
      `SELECT * FROM pg_background_submit_v2('SELECT repeat(''x'', 1000) FROM generate_series(1, 20000)')`,
    );
    await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
    expect(
      await client.value(
        'SELECT state FROM pg_background_list_v2() AS (p int, c bigint, l timestamptz, u oid, q int, state text)',
      ),
    ).to.equal('stopped');
  });

  it('is stored for a role whose transactions are read-only by default', async () => {
    const client = await proxy.connect();
    await client.query(
      `CREATE ROLE reader LOGIN; GRANT pgbackground_executor TO reader; ALTER ROLE reader SET default_transaction_read_only = on`,
    );
    const reader = await proxy.connect({ user: 'reader' });
    expect(
      await reader.value(
        `SELECT count(*) FROM pg_background_result(pg_background_launch('SELECT repeat(''x'', 1000) FROM generate_series(1, 3000)')) AS (t text)`,
      ),
    ).to.equal('3000');
    // What is removed behind the result is removed in the name of its reader.
    await proxy.expectNothingLeft();
    await (await proxy.connect()).query('DROP ROLE reader');
  });

  it('is stored where the owner of the extension may not see who the writer is', async () => {
    const other = await TestProxy.start();
    const admin = await other.connect();
    await admin.query(
      `CREATE ROLE owner1 LOGIN; CREATE ROLE user1 LOGIN; GRANT CREATE ON DATABASE ${other.database.name} TO owner1; CREATE SCHEMA tools AUTHORIZATION owner1; GRANT USAGE ON SCHEMA tools TO user1`,
    );
    const owner = await other.connect({ user: 'owner1' });
    await owner.query(
      `CREATE EXTENSION pg_background SCHEMA tools; SELECT tools.grant_pg_background_privileges('user1')`,
    );
    const user = await other.connect({ user: 'user1' });
    expect(
      await user.value(
        `SELECT count(*) FROM tools.pg_background_result(tools.pg_background_launch('SELECT repeat(''x'', 1000) FROM generate_series(1, 3000)')) AS (t text)`,
      ),
    ).to.equal('3000');
    await owner.query('DROP EXTENSION pg_background');
    await admin.query('DROP OWNED BY owner1, user1; DROP ROLE owner1; DROP ROLE user1');
    await other.stop();
  });

  for (const delayMs of [5, 20, 60, 150, 300]) {
    it(`leaves nothing behind when its reader vanishes after ${delayMs} ms`, async () => {
      const big = await proxy.connect();
      big
        .query(
          `SELECT count(*) FROM pg_background_result(pg_background_launch('SELECT repeat(''x'', 30) FROM generate_series(1, 80000)')) AS (t text)`,
        )
        .catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      (
        big as unknown as { connection: { stream: { destroy(): void } } }
      ).connection.stream.destroy();
    });
  }

  it('reaches its reader although another read was cut off before', async () => {
    const client = await proxy.connect();
    const slow = await client.rows(
      `SELECT * FROM pg_background_launch_v2('SELECT pg_sleep(0.3), 1')`,
    );
    await client.query(`SET statement_timeout = '50ms'`);
    await client.error('SELECT * FROM pg_background_result_v2($1, $2) AS (s text, n int)', slow[0]);
    await client.query('RESET statement_timeout');
    for (let i = 0; i < 5; i++) {
      expect(
        await client.value(
          `SELECT count(*) FROM pg_background_result(pg_background_launch('SELECT repeat(''x'', 30) FROM generate_series(1, 80000)')) AS (t text)`,
        ),
      ).to.equal('80000');
    }
    expect(
      await client.rows(
        'SELECT * FROM pg_background_result_v2($1, $2) AS (s text, n int)',
        slow[0],
      ),
    ).to.deep.equal([['', 1]]);
    expect(await client.value('SELECT workers_active FROM pg_background_stats_v2()')).to.equal(0);
  });

  it('is not waited for when the connection that stores it is lost', async () => {
    const client = await proxy.connect();
    const admin = await proxy.database.direct();
    await admin.query('BEGIN; LOCK TABLE pgbackground.transfer IN EXCLUSIVE MODE');
    const read = client.error(
      `SELECT count(*) FROM pg_background_result(pg_background_launch('SELECT repeat(''x'', 30) FROM generate_series(1, 100000)')) AS (t text)`,
    );
    const observer = await proxy.database.direct();
    await eventually(async () => {
      const { rows } = await observer.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event <> 'advisory'`,
      );
      expect(rows).to.have.length(1);
    });
    expect(await read).to.include({
      code: '08006',
      hint: 'The result is still there: read it again.',
    });
    await admin.query('ROLLBACK');
  });

  it('leaves nothing behind when its reader is cut off while it is stored', async () => {
    const client = await proxy.connect();
    const [handle] = await client.rows(
      `SELECT * FROM pg_background_launch_v2('SELECT repeat(''x'', 1000) FROM generate_series(1, 4000)')`,
    );
    await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
    const read = 'SELECT count(*) FROM pg_background_result_v2($1, $2) AS (t text)';
    for (const timeoutMs of [3, 5, 8, 12, 18, 25, 40]) {
      await client.query(`SET statement_timeout = ${timeoutMs}`);
      await client.query(read, handle).catch(() => {});
    }
    await client.query('RESET statement_timeout');
    const observer = await proxy.database.direct();
    await eventually(async () => {
      expect(
        (await observer.query('SELECT DISTINCT transfer_key FROM pgbackground.transfer')).rows,
      ).to.deep.equal([]);
    });
  });

  it('does not hold up the end of its session while it cannot be stored', async () => {
    const client = await proxy.connect();
    const admin = await proxy.database.direct();
    await admin.query('BEGIN; LOCK TABLE pgbackground.transfer IN EXCLUSIVE MODE');
    client
      .query(
        `SELECT count(*) FROM pg_background_result(pg_background_launch('SELECT repeat(''x'', 30) FROM generate_series(1, 80000)')) AS (t text)`,
      )
      .catch(() => {});
    const observer = await proxy.database.direct();
    const waiting = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event <> 'advisory'`;
    await eventually(async () => {
      expect((await observer.query(waiting)).rows).to.have.length(1);
    });
    (
      client as unknown as { connection: { stream: { resetAndDestroy(): void } } }
    ).connection.stream.resetAndDestroy();
    await eventually(async () => {
      expect((await observer.query(waiting)).rows).to.have.length(0);
    });
    await admin.query('ROLLBACK');
  });

  it('keeps NULLs, quotes, backslashes, empty and non-ASCII strings, by table and by packet', async () => {
    const client = await proxy.connect();
    const odd = [null, '', 'NULL', '"', '\\', "'", '{}', ',', ' a ', 'é€𝄞', '\n\t', 'a\\"b'];
    await client.query('CREATE TABLE odd (id serial, t text, a text[])');
    await client.query(
      'INSERT INTO odd (t, a) SELECT t, ARRAY[t, NULL, t] FROM unnest($1::text[]) t',
      [odd],
    );
    const expected = await client.rows('SELECT id, t, a FROM odd ORDER BY id');
    for (const copies of [1, 100]) {
      for (const level of ['READ COMMITTED', 'SERIALIZABLE']) {
        await client.query(`BEGIN ISOLATION LEVEL ${level}`);
        const rows = await client.rows(
          `SELECT * FROM pg_background_result(pg_background_launch('SELECT id, t, a FROM odd, generate_series(1, ${copies}) g ORDER BY g, id')) AS (id int, t text, a text[])`,
        );
        expect(rows).to.have.length(copies * odd.length);
        expect(rows.slice(-odd.length)).to.deep.equal(expected);
        await client.query('COMMIT');
      }
    }
    await client.query('DROP TABLE odd');
  });
});
