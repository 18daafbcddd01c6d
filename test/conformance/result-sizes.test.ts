/*
 * Results of any size: in READ COMMITTED there is no limit but the server's; in REPEATABLE READ and
 * SERIALIZABLE 4 MB can be read, and what is larger stays where it is.
 */
import { expect } from 'chai';
import { launch, readError } from '../support/background.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

describe('the size of a result', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(() => proxy.stop());

  const megabytes = (count: number) =>
    `SELECT i, repeat(chr(97 + i % 26), 100000) FROM generate_series(1, ${count * 10}) i`;
  const CHECK = `SELECT count(*)::int, bool_and(t = repeat(chr(97 + i % 26), 100000)) FROM pg_background_result($1) AS (i int, t text)`;

  for (const level of ['READ UNCOMMITTED', 'READ COMMITTED']) {
    it(`may be 20 MB in ${level}`, async () => {
      const pid = await launch(client, megabytes(20));
      await client.query(`BEGIN ISOLATION LEVEL ${level}`);
      expect(await client.rows(CHECK, [pid])).to.deep.equal([[200, true]]);
      await client.query('COMMIT');
    });
  }

  for (const level of ['REPEATABLE READ', 'SERIALIZABLE']) {
    it(`may be 3 MB in ${level}`, async () => {
      const pid = await launch(client, megabytes(3));
      await client.query(`BEGIN ISOLATION LEVEL ${level}`);
      expect(await client.rows(CHECK, [pid])).to.deep.equal([[30, true]]);
      await client.query('COMMIT');
    }).timeout(60_000);

    it(`may not be 5 MB in ${level}, and the result can be read later in READ COMMITTED`, async () => {
      const pid = await launch(client, megabytes(5));
      await client.query(`BEGIN ISOLATION LEVEL ${level}`);
      const error = await readError(client, pid, 'i int, t text');
      expect(error.code).to.equal('54000');
      expect(error.hint).to.include('READ COMMITTED');
      await client.query('ROLLBACK');
      expect(await client.rows(CHECK, [pid])).to.deep.equal([[50, true]]);
    });
  }

  it('may be one value of 100 MB', async () => {
    const pid = await launch(client, `SELECT repeat('0123456789', 10000000)`);
    expect(
      await client.rows(
        `SELECT length(t), md5(t) = md5(repeat('0123456789', 10000000)) FROM pg_background_result($1) AS (t text)`,
        [pid],
      ),
    ).to.deep.equal([[100_000_000, true]]);
  }).timeout(120_000);

  it('may be 100,000 rows', async () => {
    const pid = await launch(client, 'SELECT generate_series(1, 100000)');
    expect(
      await client.rows(
        'SELECT count(*)::int, sum(n)::text, min(n), max(n) FROM pg_background_result($1) AS (n int)',
        [pid],
      ),
    ).to.deep.equal([[100_000, '5000050000', 1, 100_000]]);
  });

  it('does not hold up the commit, though nobody reads it and the queue is small', async () => {
    await client.query('CREATE TABLE done (a int)');
    const [[pid, cookie] = []] = await client.rows(
      'SELECT * FROM pg_background_launch_v2($1, 64)',
      [`INSERT INTO done VALUES (1); ${megabytes(3)}`],
    );
    await client.query('SELECT pg_background_wait_v2($1, $2)', [pid, cookie]);
    expect(await client.value('SELECT count(*)::int FROM done')).to.equal(1);
    expect(await client.rows(CHECK, [pid])).to.deep.equal([[30, true]]);
    await client.query('DROP TABLE done');
  });
});
