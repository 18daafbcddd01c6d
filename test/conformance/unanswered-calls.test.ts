import { expect } from 'chai';
import pg from 'pg';
import { eventually } from '../support/eventually.ts';
import { ProxyProcess } from '../support/proxy-process.ts';
import { TEST_SECRET, TestProxy } from '../support/proxy.ts';

/** No call hangs for ever, whatever becomes of the proxy. */
describe('a call that nobody can answer', () => {
  let proxy: TestProxy;

  before(async () => {
    proxy = await TestProxy.startInstalled();
  });
  after(() => proxy.stop());

  it('fails at once in a session that came around the proxy', async () => {
    const direct = await proxy.database.direct();
    for (const call of [
      `SELECT pg_background_launch('SELECT 1')`,
      'SELECT * FROM pg_background_result(1) AS (r text)',
      'SELECT pg_background_wait_v2(1, 1)',
      'SELECT * FROM pg_background_list_v2() AS (pid int)',
      'SELECT pg_background_stats_v2()',
    ]) {
      const error = await direct.query(call).catch((reason: unknown) => reason);
      expect(error, call).to.include({
        code: '55000',
        message: 'pg_background works only in sessions of pg-background-proxy',
        hint: 'This session reached the server directly: connect to the proxy instead.',
      });
    }
  });

  /** What a launch fails with in a session that comes around the proxy, and says that it does not. */
  async function errorOfLiar(): Promise<unknown> {
    const { host, port, name } = proxy.database;
    const liar = new pg.Client({
      host,
      port,
      user: 'postgres',
      database: name,
      options: '-c pgbg_proxy.session=made-up',
    });
    await liar.connect();
    const error = await liar
      .query(`SELECT pg_background_launch('SELECT 1')`)
      .catch((reason: unknown) => reason);
    await liar.end();
    return error;
  }

  const NO_ANSWER = {
    code: '53000',
    message: 'could not register background process',
    detail: 'The proxy did not answer within 5 seconds.',
  };

  it('fails after five seconds where the session only says that it is a proxy’s', async () => {
    expect(await errorOfLiar()).to.include(NO_ANSWER);
  });

  it('fails after five seconds also where it takes milliseconds to find nothing to sleep on', async () => {
    const direct = await proxy.database.direct();
    const { rows } = await direct.query<{ definition: string }>(
      `SELECT pg_get_functiondef('pgbackground.sleep_on(bigint)'::regprocedure) AS definition`,
    );
    await direct.query(`CREATE OR REPLACE FUNCTION pgbackground.sleep_on(lock_key bigint) RETURNS boolean LANGUAGE plpgsql
      AS 'BEGIN PERFORM pg_sleep(0.002); RETURN true; END'`);
    try {
      expect(await errorOfLiar()).to.include(NO_ANSWER);
    } finally {
      await direct.query(rows[0]?.definition ?? '');
    }
  });

  for (const [what, statement] of [
    ['waits for a worker', 'SELECT pg_background_wait_v2($1, $2)'],
    [
      'waits in a DO block',
      `DO $$ BEGIN PERFORM pg_background_wait_v2(pid, cookie) FROM pg_background_list_v2() AS (pid int, cookie bigint); END $$`,
    ],
  ] as const) {
    it(`ends within seconds when the proxy dies while it ${what}`, async () => {
      const { host, port, name } = proxy.database;
      const other = new ProxyProcess(
        [
          '--upstream',
          `postgres://${host}:${port}`,
          '--auth-type',
          'trust',
          '--listen',
          '127.0.0.1:0',
        ],
        { PGBG_SECRET: TEST_SECRET.toString() },
      );
      const listening = new URL(await other.ready());
      const client = new pg.Client({
        host: '127.0.0.1',
        port: Number(listening.port),
        user: 'postgres',
        database: name,
      });
      client.on('error', () => {});
      await client.connect();
      const { rows } = await client.query<{ pid: number; cookie: string }>(
        `SELECT * FROM pg_background_launch_v2('SELECT pg_sleep(2)')`,
      );
      const [{ pid: backend }] = (
        await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
      ).rows as [{ pid: number }];
      const call = client
        .query(statement, statement.includes('$1') ? Object.values(rows[0] ?? {}) : [])
        .catch((reason: unknown) => reason);
      const direct = await proxy.database.direct();
      const count = async (condition: string) =>
        (
          await direct.query<{ n: number }>(
            `SELECT count(*)::int AS n FROM pg_stat_activity WHERE pid = $1 AND ${condition}`,
            [backend],
          )
        ).rows[0]?.n;
      // It sleeps on a lock of the control link by now.
      await eventually(async () => {
        expect(await count(`wait_event = 'advisory'`)).to.equal(1);
      });
      await other.stop('SIGKILL');
      expect(await call).to.be.an('error');
      await eventually(async () => {
        expect(await count('true')).to.equal(0);
      });
      await eventually(async () => {
        const left = await direct.query(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'direct' AND backend_type = 'client backend'`,
        );
        expect(left.rowCount, 'backends that are left').to.equal(0);
      });
    });
  }
});
