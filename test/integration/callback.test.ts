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
    await admin.query(
      `CREATE ROLE caller LOGIN; GRANT pgbackground_executor TO caller; CREATE ROLE guest LOGIN`,
    );
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const admin = await proxy.connect();
    await admin.query('DROP ROLE caller; DROP ROLE guest');
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

  it('is closed to a role without a grant', async () => {
    const guest = await proxy.connect({ user: 'guest' });
    expect(await guest.error(`SELECT pg_background_launch('SELECT 1')`)).to.include({
      code: '42501',
      message: 'permission denied for function pg_background_launch',
    });
  });

  it('drops a request that somebody makes up, and goes on', async () => {
    const guest = await proxy.connect({ user: 'guest' });
    const forgeries = [
      'R v1,free,x,1,2,3,4,5,6 e30= 00',
      'R',
      'I made-up e30=',
      'T made-up CREATE EXTENSION',
      'A nonce 1',
      'W nonce',
      'F transfer',
      'x',
    ];
    for (const forgery of forgeries) {
      await guest.query(
        `DO $$ BEGIN RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = '${forgery}'; END $$`,
      );
    }
    expect(guest.notices).to.deep.equal([]);
    expect(await guest.value('SELECT 1')).to.equal(1);
    expect(proxy.log.filter((line) => line.startsWith('callback dropped')).length).to.be.at.least(
      4,
    );
  });

  it('drops a request that is played again', async () => {
    // The request is caught in the server's own log, which is where an attacker could find it.
    await client.query(`SET log_min_messages = 'info'`);
    const before = proxy.log.length;
    await client.query(`CREATE FUNCTION signed() RETURNS text LANGUAGE plpgsql AS $$
      BEGIN
        RETURN pgbackground.sign(concat('- ', pgbackground.armor(json_build_object('verb', 'pg_background_stats_v2', 'arguments', '{}'::json))));
      END $$`);
    const request = await client.value('SELECT signed()');
    const play = `DO $$ BEGIN RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = '${String(request)}'; END $$`;
    await client.query(play);
    await client.query(play);
    await eventually(() => {
      expect(proxy.log.slice(before)).to.deep.equal([
        'callback dropped: a request that is not newer than the last',
      ]);
      return Promise.resolve();
    });
    await client.query('DROP FUNCTION signed()');
  });

  it('stands a flood of forged requests, and answers the next call', async () => {
    const guest = await proxy.connect({ user: 'guest' });
    const before = process.memoryUsage().rss;
    await guest.query(`DO $$
      BEGIN
        FOR i IN 1..4000 LOOP
          RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = concat('R v1,free,', gen_random_uuid(), ',', pg_backend_pid(), ',', i,
            ',67756573,1,ttttttttttttttt,', current_setting('pgbg_proxy.session'), ' ',
            CASE WHEN i % 2 = 0 THEN '-' ELSE concat(repeat('A', 16), ',', repeat('0', 64), ',0') END,
            ' ', repeat('A', 100000), ' ', repeat('0', 64));
        END LOOP;
      END $$`);
    // 400 MB were sent; none of it may stay.
    expect(process.memoryUsage().rss - before).to.be.below(200 * 1024 * 1024);
    expect(await guest.value('SELECT 1')).to.equal(1);
    expect(await client.rows(callOnce)).to.have.length(1);
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

  it('serves no superuser where a lesser role could sign in his name', async () => {
    const other = await TestProxy.start();
    const admin = await other.connect();
    await admin.query(
      `CREATE ROLE dbo LOGIN; GRANT CREATE ON DATABASE ${other.database.name} TO dbo; CREATE SCHEMA dbo AUTHORIZATION dbo`,
    );
    const dbo = await other.connect({ user: 'dbo' });
    await dbo.query('CREATE EXTENSION pg_background SCHEMA dbo');
    expect(
      await dbo.rows(
        `SELECT * FROM dbo.pg_background_result(dbo.pg_background_launch('SELECT 1')) AS (n int)`,
      ),
    ).to.deep.equal([[1]]);
    const error = await admin.error(`SELECT dbo.pg_background_launch('SELECT 1')`);
    expect(error).to.include({
      code: '42501',
      message: 'pg_background is not trusted for superusers in this database',
    });
    await dbo.query('DROP EXTENSION pg_background');
    await admin.query(`DROP OWNED BY dbo; DROP ROLE dbo`);
    await other.expectNothingLeft();
    await other.stop();
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
