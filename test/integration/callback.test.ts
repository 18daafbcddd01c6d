import { expect } from 'chai';
import { serialize } from 'pg-protocol';
import { eventually } from '../support/eventually.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';
import { RawClient } from '../support/wire.ts';

describe('the callback channel', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const admin = await proxy.connect();
    await admin.query(`CREATE ROLE caller LOGIN; GRANT pgbackground_executor TO caller`);
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const admin = await proxy.connect();
    await admin.query('DROP ROLE caller');
    await proxy.stop();
  });

  const callOnce = `SELECT * FROM pg_background_result(pg_background_launch('SELECT 1, repeat(''x'', 3000)')) AS (n int, t text)`;

  it('leaves nothing of itself in what the client sees', async () => {
    const raw = await RawClient.login(proxy.port, {
      user: 'postgres',
      database: proxy.database.name,
    });
    const answer = await raw.query(callOnce);
    expect(answer.map(({ type }) => type).join('')).to.equal('TDCZ');
    expect(answer[0]?.body.readInt16BE(0)).to.equal(2);
    await raw.end();
  });

  for (const level of ['READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE']) {
    for (const mode of ['READ WRITE', 'READ ONLY']) {
      it(`works in ${level} ${mode}`, async () => {
        await client.query(`BEGIN ISOLATION LEVEL ${level} ${mode}`);
        await client.query('SELECT count(*) FROM pg_class');
        expect(await client.rows(callOnce)).to.deep.equal([[1, 'x'.repeat(3000)]]);
        await client.query('COMMIT');
      });
    }
  }

  it('works for a role that may not read the control link, by narrow packets', async () => {
    await client.query('SET ROLE caller');
    expect(await client.rows(callOnce)).to.deep.equal([[1, 'x'.repeat(3000)]]);
  });

  it('works for a role that is no superuser', async () => {
    const caller = await proxy.connect({ user: 'caller' });
    expect(await caller.rows(callOnce)).to.deep.equal([[1, 'x'.repeat(3000)]]);
  });

  it('is not held up by a session that does not read', async () => {
    const slow = await RawClient.login(proxy.port, {
      user: 'postgres',
      database: proxy.database.name,
    });
    slow.socket.pause();
    slow.socket.write(
      serialize.query(
        `SELECT repeat('x', 5000), pg_background_detach(pg_background_launch('SELECT 1')) FROM generate_series(1, 20000)`,
      ),
    );
    const observer = await proxy.database.direct();
    await eventually(async () => {
      const { rows } = await observer.query(
        `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^SELECT repeat' AND wait_event IS NOT NULL`,
      );
      expect(rows).to.have.length(1);
    });
    for (let i = 0; i < 20; i++) expect(await client.rows(callOnce)).to.have.length(1);
    slow.socket.destroy();
    await observer.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^SELECT repeat'`,
    );
  });

  it('opens no connection before the first call', async () => {
    await client.query('SELECT 1');
    const others = await client.rows(
      `SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^pg-background-proxy'`,
    );
    expect(others).to.deep.equal([]);
  });

  it('finds the control link again when that was terminated', async () => {
    await client.rows(callOnce);
    await client.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ 'control|pgbg:'`,
    );
    expect(await client.rows(callOnce)).to.have.length(1);
  });

  it('answers a call whose session waits while the control link is terminated', async () => {
    const pid = await client.value(`SELECT pg_background_launch('SELECT pg_sleep(1), 1')`);
    const result = client.rows('SELECT n FROM pg_background_result($1) AS (s text, n int)', [pid]);
    const admin = await proxy.database.direct();
    await eventually(async () => {
      const { rows } = await admin.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'`,
      );
      expect(rows).to.have.length(1);
    });
    await admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ 'control|pgbg:'`,
    );
    expect(await result).to.deep.equal([[1]]);
  });

  it('uses next to no processor time while a function waits', async () => {
    const pid = await client.value(`SELECT pg_background_launch('SELECT pg_sleep(1)')`);
    const before = process.cpuUsage();
    await client.query('SELECT * FROM pg_background_result($1) AS (s text)', [pid]);
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1e6, 'seconds').to.be.below(0.3);
  });

  it('can be cancelled while it waits, and leaves the worker running', async () => {
    const [handle] = await client.rows(
      `SELECT * FROM pg_background_launch_v2('SELECT pg_sleep(60)')`,
    );
    await client.query(`SET statement_timeout = '100ms'`);
    expect((await client.error('SELECT pg_background_wait_v2($1, $2)', handle)).code).to.equal(
      '57014',
    );
    await client.query('RESET statement_timeout');
    expect(
      await client
        .value(
          'SELECT state FROM pg_background_list_v2() AS (pid int, cookie bigint, l timestamptz, u oid, q int, state text)',
        )
        .catch((e: Error) => e.message),
    ).to.equal('running');
    await client.query('SELECT pg_background_cancel_v2($1, $2)', handle);
  });

  it("survives the caller's lock_timeout while it waits", async () => {
    const [handle] = await client.rows(
      `SELECT * FROM pg_background_launch_v2('SELECT pg_sleep(0.5)')`,
    );
    await client.query(`SET lock_timeout = '50ms'`);
    await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
    expect(await client.value('SHOW lock_timeout')).to.equal('50ms');
  });
});
