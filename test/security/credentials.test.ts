// What becomes of workers when the credential of a session that lives is good no more.
import { expect } from 'chai';
import pg from 'pg';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer, loginErrorOf } from '../support/auth-server.ts';
import { WHO_LAUNCHES } from '../support/drivers.ts';
import { rejectionOf } from '../support/rejection.ts';

const LOCK = 815;

describe('a credential', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let passthrough: RunningProxy;
  let scram: RunningProxy;
  let gate: pg.Client;
  const clients: pg.Client[] = [];

  before(async () => {
    server = await AuthServer.start([
      'host all md5_app 127.0.0.1/32 md5',
      'host all all 127.0.0.1/32 scram-sha-256',
    ]);
    await server.createRole({ name: 'bouncer', password: 'bouncer secret', options: 'SUPERUSER' });
    for (const name of ['changed', 'expired', 'barred', 'late', 'query_changed', 'renewed'])
      await server.createRole({ name, password: 'first' });
    await server.createRole({ name: 'md5_app', password: 'first', encryption: 'md5' });
    proxies = await AuthProxies.create(server);
    await proxies.install(
      ...['changed', 'expired', 'barred', 'late', 'query_changed', 'renewed', 'md5_app'],
    );
    passthrough = await proxies.start();
    const authFile = await proxies.file('users.txt', '"bouncer" "bouncer secret"');
    scram = await proxies.start({
      options: [
        ...['--auth-file', authFile, '--auth-user', 'bouncer'],
        ...['--auth-query', 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1'],
      ],
    });
    gate = new pg.Client({
      host: server.host,
      port: server.port,
      user: 'postgres',
      database: 'app',
    });
    await gate.connect();
  });
  beforeEach(() => gate.query('SELECT pg_advisory_lock($1)', [LOCK]));
  afterEach(async () => {
    await gate.query('SELECT pg_advisory_unlock_all()');
    await Promise.all(clients.splice(0).map((client) => client.end()));
  });
  after(async () => {
    await gate?.end();
    await proxies?.stop();
    await server?.stop();
  });

  async function connect(proxy: RunningProxy, user: string, password: string): Promise<pg.Client> {
    const client = new pg.Client(proxy.login(user, password));
    client.on('error', () => {});
    await client.connect();
    clients.push(client);
    return client;
  }
  const whoLaunches = async (client: pg.Client) =>
    (await client.query<{ who: string }>(WHO_LAUNCHES)).rows[0]?.who;

  /** Launches workers that wait at the gate until one needs a login and fails; gives its error and their pids. */
  async function exhaust(client: pg.Client): Promise<{ error: pg.DatabaseError; pids: number[] }> {
    const pids: number[] = [];
    for (;;) {
      try {
        const { rows } = await client.query<{ pid: number }>(
          `SELECT pg_background_launch('SELECT pg_advisory_xact_lock_shared(${LOCK}), session_user::text') AS pid`,
        );
        pids.push(rows[0]?.pid ?? 0);
      } catch (error) {
        return { error: error as pg.DatabaseError, pids };
      }
      expect(pids.length, 'workers without a login').to.be.lessThan(16);
    }
  }

  /** Reads what the waiting workers give when the gate is open. */
  async function readAll(client: pg.Client, pids: readonly number[], user: string): Promise<void> {
    await gate.query('SELECT pg_advisory_unlock($1)', [LOCK]);
    for (const pid of pids) {
      const { rows } = await client.query(
        `SELECT who FROM pg_background_result(${pid}) AS (lock text, who text)`,
      );
      expect(rows).to.deep.equal([{ who: user }]);
    }
  }

  function expectExplained(error: pg.DatabaseError, code: string, detail: string): void {
    expect([error.severity, error.code, error.message]).to.deep.equal([
      'ERROR',
      code,
      'could not log in a background worker',
    ]);
    expect(error.detail ?? '').to.include(detail);
    expect(error.hint)
      .to.match(/password|token/)
      .and.match(/log in|login|connect/i);
  }

  for (const [user, way, what] of [
    ['changed', () => passthrough, 'a password that was passed through'],
    ['md5_app', () => passthrough, 'a password that the server keeps as md5'],
    ['query_changed', () => scram, 'a ClientKey of an exchange'],
  ] as const) {
    it(`stays good for workers that are logged in, and for no other, when it is changed: ${what}`, async () => {
      const client = await connect(way(), user, 'first');
      expect(await whoLaunches(client)).to.equal(`${user} as ${user}`);
      await server.changePassword(user, 'second');
      if (user === 'md5_app') {
        await server.admin.query(
          `SET password_encryption = 'md5'; ALTER ROLE md5_app PASSWORD 'second'`,
        );
      }
      const { error, pids } = await exhaust(client);
      expect(pids.length, 'workers on connections that were open').to.be.at.least(1);
      // With keys the proxy sees by the salt that they are old, and does not ask for a refusal.
      const detail =
        user === 'query_changed' ? '' : `password authentication failed for user "${user}"`;
      expectExplained(error, '28P01', detail);
      await readAll(client, pids, user);
      expect((await loginErrorOf(way().login(user, 'first'))).code).to.equal('28P01');
      // Its session goes on, and so do those that have the new one.
      expect((await client.query('SELECT 1 AS one')).rows).to.deep.equal([{ one: 1 }]);
      const renewed = await connect(way(), user, 'second');
      await gate.query('SELECT pg_advisory_lock($1)', [LOCK]);
      const { rows } = await renewed.query<{ pid: number }>(
        `SELECT pg_background_launch('SELECT pg_advisory_xact_lock_shared(${LOCK}), session_user::text') AS pid
           FROM generate_series(1, 4)`,
      );
      await readAll(
        renewed,
        rows.map(({ pid }) => pid),
        user,
      );
    });
  }

  it('is renewed for the sessions that live by the next login with the new password', async () => {
    const client = await connect(passthrough, 'renewed', 'first');
    await server.changePassword('renewed', 'second');
    await connect(passthrough, 'renewed', 'second');
    expect(await whoLaunches(client)).to.equal('renewed as renewed');
  });

  it('is not replaced by a password that the server has refused', async () => {
    const client = await connect(passthrough, 'renewed', 'second');
    for (const password of ['first', 'third'])
      expect((await loginErrorOf(passthrough.login('renewed', password))).code).to.equal('28P01');
    expect(await whoLaunches(client)).to.equal('renewed as renewed');
    const { rows } = await client.query<{ pid: number }>(
      `SELECT pg_background_launch('SELECT pg_advisory_xact_lock_shared(${LOCK}), session_user::text') AS pid
         FROM generate_series(1, 6)`,
    );
    await readAll(
      client,
      rows.map(({ pid }) => pid),
      'renewed',
    );
  });

  it('that has expired is told in the words of the server, with a hint', async () => {
    const client = await connect(passthrough, 'expired', 'first');
    expect(await whoLaunches(client)).to.equal('expired as expired');
    await server.admin.query(`ALTER ROLE expired VALID UNTIL '2001-01-01'`);
    const { error, pids } = await exhaust(client);
    expectExplained(error, '28P01', 'password authentication failed for user "expired"');
    await readAll(client, pids, 'expired');
    await server.admin.query(`ALTER ROLE expired VALID UNTIL 'infinity'`);
    expect(await whoLaunches(client)).to.equal('expired as expired');
  });

  it('of a role that may log in no more is told in the words of the server', async () => {
    const client = await connect(passthrough, 'barred', 'first');
    expect(await whoLaunches(client)).to.equal('barred as barred');
    await server.admin.query('ALTER ROLE barred NOLOGIN');
    const { error, pids } = await exhaust(client);
    expect([error.code, error.message]).to.deep.equal([
      '28000',
      'could not log in a background worker',
    ]);
    expect(error.detail).to.include('role "barred" is not permitted to log in');
    await readAll(client, pids, 'barred');
  });

  it('that is bad before the first launch is told where even the control link has no login', async () => {
    const client = await connect(passthrough, 'late', 'first');
    await server.changePassword('late', 'second');
    const error = (await rejectionOf(client.query(WHO_LAUNCHES))) as pg.DatabaseError;
    expect(error.code).to.equal('53000');
    expect(error.detail).to.include('password authentication failed for user "late"');
    expect(error.hint).to.match(/password|token/);
    await connect(passthrough, 'late', 'second');
    expect(await whoLaunches(client)).to.equal('late as late');
  });
});
