/*
 * Time limits of a worker: pg_background.worker_timeout for its whole SQL, or else the inherited
 * statement_timeout for each of its statements.
 */
import { expect } from 'chai';
import {
  errorInBackground,
  inBackground,
  launchHandle,
  readError,
  readResult,
} from '../support/background.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const TIMED_OUT = { code: '57014', message: 'canceling statement due to statement timeout' };

/** A text that takes a while to parse: about 1.5 MB of operators. */
const LONG = `SELECT ${'1 + '.repeat(250)} 1;`.repeat(1500);

describe('the time of a worker', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (await proxy.connect()).query('CREATE TABLE t (a int)');
  });
  beforeEach(async () => {
    client = await proxy.connect();
    await client.query('TRUNCATE t');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(() => proxy.stop());

  /** Launches with a statement_timeout that the calling statement itself does not feel: its timer runs already. */
  const launchWithin = async (timeout: string, sql: string) =>
    (await client.value(
      `SELECT pg_background_launch($2) FROM set_config('statement_timeout', $1, true)`,
      [timeout, sql],
    )) as number;

  it('has no limit by default', async () => {
    expect(
      await inBackground(client, `SELECT current_setting('statement_timeout') FROM pg_sleep(0.3)`),
    ).to.deep.equal([['0']]);
  });

  describe('statement_timeout', () => {
    it('is inherited', async () => {
      const pid = await launchWithin('100ms', 'SELECT pg_sleep(60)');
      expect(await readError(client, pid)).to.include(TIMED_OUT);
    });

    it('undoes the whole transaction when it is over', async () => {
      const pid = await launchWithin('100ms', 'INSERT INTO t VALUES (1); SELECT pg_sleep(60)');
      expect(await readError(client, pid)).to.include(TIMED_OUT);
      expect(await client.value('SELECT count(*)::int FROM t')).to.equal(0);
    });

    it('limits each statement by itself, not all together', async () => {
      const pid = await launchWithin(
        '1500ms',
        `${'SELECT pg_sleep(0.5); '.repeat(4)} SELECT 'all four'`,
      );
      expect(await readResult(client, pid)).to.deep.equal([['all four']]);
    });

    it('may be set by the SQL for what follows', async () => {
      expect(
        await errorInBackground(client, `SET statement_timeout = '100ms'; SELECT pg_sleep(60)`),
      ).to.include(TIMED_OUT);
    });

    it('may be lifted by the SQL for what follows', async () => {
      const pid = await launchWithin(
        '300ms',
        `SET statement_timeout = 0; SELECT pg_sleep(0.8); SELECT 'done'`,
      );
      expect(await readResult(client, pid)).to.deep.equal([['done']]);
    });
  });

  describe('pg_background.worker_timeout', () => {
    it('limits the SQL', async () => {
      await client.query(`SET pg_background.worker_timeout = '100ms'`);
      expect(await errorInBackground(client, 'SELECT pg_sleep(60)')).to.include(TIMED_OUT);
    });

    it('limits all statements together', async () => {
      await client.query(`SET pg_background.worker_timeout = '400ms'`);
      expect(
        await errorInBackground(
          client,
          `INSERT INTO t VALUES (1); ${'SELECT pg_sleep(0.3); '.repeat(100)}`,
        ),
      ).to.include(TIMED_OUT);
      expect(await client.value('SELECT count(*)::int FROM t')).to.equal(0);
    });

    for (const launcher of ['launch_v2', 'submit_v2']) {
      it(`limits a worker of pg_background_${launcher}`, async () => {
        await client.query(`SET pg_background.worker_timeout = '100ms'`);
        const [handle] = await client.rows(
          `SELECT * FROM pg_background_${launcher}('INSERT INTO t VALUES (1); SELECT pg_sleep(60)')`,
        );
        await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
        expect(
          await client.rows(
            `SELECT state, last_error FROM pg_background_list_v2() AS (pid int, cookie bigint, launched_at timestamptz,
               user_id oid, queue_size int, state text, sql_preview text, last_error text)`,
          ),
        ).to.deep.equal([['error', TIMED_OUT.message]]);
        expect(await client.value('SELECT count(*)::int FROM t')).to.equal(0);
      });
    }

    it('takes the place of statement_timeout, which is 0 then', async () => {
      await client.query(`SET pg_background.worker_timeout = '1min'`);
      const pid = await launchWithin(
        '100ms',
        `SELECT current_setting('statement_timeout') FROM pg_sleep(0.5)`,
      );
      expect(await readResult(client, pid)).to.deep.equal([['0']]);
    });

    it('of 0 leaves the inherited statement_timeout in force', async () => {
      await client.query('SET pg_background.worker_timeout = 0');
      const pid = await launchWithin('100ms', 'SELECT pg_sleep(60)');
      expect(await readError(client, pid)).to.include(TIMED_OUT);
    });

    it('cannot be lifted by the SQL', async () => {
      await client.query(`SET pg_background.worker_timeout = '200ms'`);
      expect(
        await errorInBackground(
          client,
          `SET statement_timeout = 0; SET pg_background.worker_timeout = 0; SELECT pg_sleep(60)`,
        ),
      ).to.include(TIMED_OUT);
    });

    it('is not lost while a long text is still being looked at', async () => {
      await client.query(`SET pg_background.worker_timeout = '200ms'`);
      const handle = await launchHandle(client, `${LONG} SELECT pg_sleep(60)`);
      const ended = await client.value('SELECT pg_background_wait_v2_timeout($1, $2, 10000)', [
        ...handle,
      ]);
      await client.query('SELECT pg_background_cancel_v2($1, $2)', [...handle]);
      expect(ended).to.equal(true);
      expect(await readError(client, handle[0])).to.include(TIMED_OUT);
    });

    it('of the launch counts, not of the result', async () => {
      await client.query(`SET pg_background.worker_timeout = '200ms'`);
      const pid = await client.value(`SELECT pg_background_launch('SELECT pg_sleep(60)')`);
      await client.query('SET pg_background.worker_timeout = 0');
      expect(await readError(client, pid as number)).to.include(TIMED_OUT);
    });
  });

  for (const timeout of ['idle_session_timeout', 'idle_in_transaction_session_timeout']) {
    it(`is not limited by ${timeout}, for a worker is never idle`, async () => {
      expect(
        await client.rows(
          `SELECT n FROM set_config('${timeout}', '100', true), pg_background_result(pg_background_launch($1)) AS (n int)`,
          [`${LONG} SELECT 1`],
        ),
      ).to.deep.equal([[1]]);
    });
  }
});
