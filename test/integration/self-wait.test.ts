import { expect } from 'chai';
import { TestProxy, type TestClient } from '../support/proxy.ts';

describe('a session that waits for a worker that waits for the session', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (
      await proxy.connect()
    ).query('CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1), (2)');
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(() => proxy.stop());

  it('is told of the deadlock, and the worker goes on when the transaction ends', async () => {
    await client.query('BEGIN; UPDATE t SET a = 3 WHERE a = 1');
    const error = await client.error(
      `SELECT * FROM pg_background_result(pg_background_launch('UPDATE t SET a = 4 WHERE a = 1')) AS (r text)`,
    );
    expect(error).to.include({ code: '40P01', message: 'deadlock detected' });
    expect(error.detail).to.match(
      /^Process \d+ waits for background worker \d+, which waits for process \d+\.$/,
    );
    expect(error.hint).to.include('End the transaction before');
    await client.query('ROLLBACK');
    const [[pid, state]] = (await client.rows(
      `SELECT pid, pg_background_wait_v2(pid, cookie) IS NOT NULL FROM pg_background_list_v2() AS (pid int, cookie bigint)`,
    )) as [[number, boolean]];
    expect(state).to.equal(true);
    expect(
      await client.rows('SELECT * FROM pg_background_result($1) AS (r text)', [pid]),
    ).to.deep.equal([['UPDATE 1']]);
    await client.query('UPDATE t SET a = 1 WHERE a = 4');
  });

  it('is told of the deadlock inside a DO block that waits for CREATE INDEX CONCURRENTLY', async () => {
    const error = await client.error(`DO $$
      BEGIN
        PERFORM * FROM pg_background_result(pg_background_launch('CREATE INDEX CONCURRENTLY ON t (a)')) AS (r text);
      END $$`);
    expect(error.code).to.equal('40P01');
  });

  it('keeps the handle of a result whose reader was cancelled', async () => {
    const [handle] = await client.rows(
      `SELECT * FROM pg_background_launch_v2('SELECT pg_sleep(0.4); SELECT 1/0')`,
    );
    await client.query(`SET statement_timeout = '100ms'`);
    const read = 'SELECT * FROM pg_background_result_v2($1, $2) AS (s text, n int)';
    expect((await client.error(read, handle)).code).to.equal('57014');
    await client.query('RESET statement_timeout');
    await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
    expect((await client.error(read, handle)).code).to.equal('22012');
    expect((await client.error(read, handle)).code).to.equal('42704');
  });

  it('finds a cycle through two sessions, of which one gives way', async () => {
    const other = await proxy.connect();
    await client.query('BEGIN; UPDATE t SET a = 11 WHERE a = 1');
    await other.query('BEGIN; UPDATE t SET a = 12 WHERE a = 2');
    const wait = (by: TestClient, key: number) =>
      by
        .query(
          `SELECT * FROM pg_background_result(pg_background_launch('DELETE FROM t WHERE a = ${key}')) AS (r text)`,
        )
        .then(
          () => 'read',
          async (error: { code: string }) => {
            await by.query('ROLLBACK');
            return error.code;
          },
        );
    const first = wait(client, 2);
    const second = wait(other, 1);
    const outcomes = await Promise.all([
      first.then(async (outcome) => {
        if (outcome === 'read') await client.query('ROLLBACK');
        return outcome;
      }),
      second.then(async (outcome) => {
        if (outcome === 'read') await other.query('ROLLBACK');
        return outcome;
      }),
    ]);
    expect(outcomes.sort()).to.deep.equal(['40P01', 'read']);
  });

  it('does not take a slow worker for a deadlock', async () => {
    await client.query('BEGIN; UPDATE t SET a = a');
    expect(
      await client.rows(
        `SELECT n FROM pg_background_result(pg_background_launch('SELECT pg_sleep(2.2), 5')) AS (s text, n int)`,
      ),
    ).to.deep.equal([[5]]);
    await client.query('ROLLBACK');
  });
});
