import { expect } from 'chai';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { EmbeddedServer } from '../../proxy/embedded.ts';
import { EmbeddedScratch, queryServer } from '../support/embedded-scratch.ts';
import { eventually } from '../support/eventually.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';
import { serverPackage } from '../support/server.ts';

/** What works on a physical standby, where nobody can write: everything, for SQL that only reads. */
describe('on a hot standby', function () {
  this.timeout(60_000);

  let scratch: EmbeddedScratch;
  let primary: EmbeddedServer;
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    scratch = await EmbeddedScratch.create();
    const packageName = serverPackage();
    const version = packageName === undefined ? {} : { packageName };
    primary = await scratch.start({ ...version });
    const place = { host: primary.host, name: 'postgres' };
    const installer = await TestProxy.inFrontOf({ ...place, port: primary.port });
    await (
      await installer.connect()
    ).query('CREATE EXTENSION pg_background; CREATE TABLE t AS SELECT 42 AS a');
    await installer.stop();
    await primary.stop();

    // A copy of a stopped server's folder is a base backup.
    const data = join(scratch.folder, 'standby');
    await promisify(execFile)('cp', ['-a', primary.dataDirectory, data]);
    await writeFile(join(data, 'standby.signal'), '');
    primary = await scratch.start({ ...version });
    const standby = await scratch.start({
      ...version,
      dataDirectory: data,
      settings: {
        primary_conninfo: `host=${primary.host} port=${primary.port} user=postgres`,
        hot_standby: 'on',
      },
    });
    proxy = await TestProxy.inFrontOf({ ...place, port: standby.port });
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    await proxy?.stop();
    await scratch?.remove();
  });

  it('is read-only, and follows its primary', async () => {
    await queryServer(primary, 'INSERT INTO t VALUES (43)');
    expect(await client.value('SELECT pg_is_in_recovery()')).to.equal(true);
    await eventually(async () => {
      expect(await client.value('SELECT count(*) FROM t')).to.equal('2');
    });
    await queryServer(primary, 'DELETE FROM t WHERE a = 43');
  });

  it('launches a query and reads its result', async () => {
    expect(
      await client.rows(
        `SELECT * FROM pg_background_result(pg_background_launch('SELECT min(a) FROM t')) AS (a int)`,
      ),
    ).to.deep.equal([[42]]);
  });

  it('launches and reads in a DO block and in REPEATABLE READ', async () => {
    await client.query(`BEGIN ISOLATION LEVEL REPEATABLE READ; DO $$
      DECLARE seen int;
      BEGIN
        SELECT r.a INTO seen FROM pg_background_result(pg_background_launch('SELECT 42')) AS r(a int);
        RAISE NOTICE '%', seen;
      END $$; COMMIT`);
    expect(client.notices.map(({ message }) => message)).to.deep.equal(['42']);
  });

  it("gives the server's error for SQL that writes", async () => {
    expect(
      await client.error(
        `SELECT * FROM pg_background_result(pg_background_launch('INSERT INTO t VALUES (1)')) AS (r text)`,
      ),
    ).to.include({
      code: '25006',
      message: 'cannot execute INSERT in a read-only transaction',
    });
  });

  it('waits, lists, and tells the statistics', async () => {
    const [handle] = await client.rows(`SELECT * FROM pg_background_launch_v2('SELECT 1')`);
    await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
    expect(await client.value('SELECT pg_background_wait_v2_timeout($1, $2, 0)', handle)).to.equal(
      true,
    );
    expect(
      await client.rows(
        `SELECT state FROM pg_background_list_v2() AS (pid int, cookie bigint, at timestamptz, by oid, size int, state text)`,
      ),
    ).to.deep.equal([['stopped']]);
    expect(
      await client.rows('SELECT workers_launched, workers_completed FROM pg_background_stats_v2()'),
    ).to.deep.equal([['1', '1']]);
    await client.query('SELECT pg_background_detach_v2($1, $2)', handle);
  });

  it('cancels', async () => {
    const [handle] = await client.rows(
      `SELECT * FROM pg_background_launch_v2('SELECT pg_sleep(60)')`,
    );
    await client.query('SELECT pg_background_cancel_v2($1, $2)', handle);
    expect(
      await client.error('SELECT * FROM pg_background_result_v2($1, $2) AS (r text)', handle),
    ).to.include({ code: '57P01' });
  });

  it('reads results of some hundred kilobytes', async () => {
    expect(
      await client.value(
        `SELECT sum(length(x)) FROM pg_background_result(pg_background_launch('SELECT repeat(''x'', 1000) FROM generate_series(1, 300)')) AS (x text)`,
      ),
    ).to.equal('300000');
  });

  it('refuses a result above 4 MB, which stays, and can be read past the function', async () => {
    const pid = await client.value(`SELECT pg_background_launch('SELECT repeat(''x'', 5000000)')`);
    const read = 'SELECT length(x) FROM pg_background_result($1) AS (x text)';
    expect((await client.error(read, [pid])).code).to.equal('54000');
    expect((await client.error(read, [pid])).code).to.equal('54000');
    const [[text] = []] = await client.rows('SELECT * FROM pg_background_result($1) AS (x text)', [
      pid,
    ]);
    expect(text).to.have.length(5_000_000);
  });

  it('reports progress', async () => {
    const [handle] = await client.rows(
      `SELECT * FROM pg_background_launch_v2('SELECT pg_background_progress(50, ''half''), 1')`,
    );
    await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
    expect(
      await client.rows('SELECT * FROM pg_background_get_progress_v2($1, $2)', handle),
    ).to.deep.equal([[50, 'half']]);
  });

  it('cannot create the extension, which comes from the primary', async () => {
    expect(
      (await client.error('DROP EXTENSION pg_background; CREATE EXTENSION pg_background')).code,
    ).to.equal('25006');
  });
});
