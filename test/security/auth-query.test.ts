// Verifiers that the proxy asks the server for, on a connection that has nothing of the clients.
import { expect } from 'chai';
import pg from 'pg';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer, loginErrorOf } from '../support/auth-server.ts';
import { drivers, WHO_LAUNCHES } from '../support/drivers.ts';
import { eventually } from '../support/eventually.ts';
import { rejectionOf } from '../support/rejection.ts';

const BOUNCER_QUERY = 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1';

const RULES = ['host app kept_as_md5 127.0.0.1/32 md5', 'host all all 127.0.0.1/32 scram-sha-256'];

describe('an auth query', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let asSuperuser: RunningProxy;
  let byFunction: RunningProxy;
  let authFile: string;

  before(async () => {
    server = await AuthServer.start(RULES);
    await server.createRole({ name: 'bouncer', password: 'bouncer secret', options: 'SUPERUSER' });
    await server.createRole({ name: 'looker', password: 'looker secret' });
    for (const name of ['app1', 'app2', `o'brien "x"`, 'twofold', 'barred'])
      await server.createRole({ name, password: `secret of ${name}` });
    await server.createRole({ name: 'kept_as_md5', password: 'x', encryption: 'md5' });
    await server.admin.query('CREATE ROLE without_secret LOGIN; ALTER ROLE barred NOLOGIN');
    await server.admin.query(`
      CREATE SCHEMA auth;
      CREATE FUNCTION auth.secret_of(name, OUT role name, OUT secret text)
        LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
        'SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1';
      REVOKE EXECUTE ON FUNCTION auth.secret_of FROM PUBLIC;
      GRANT USAGE ON SCHEMA auth TO looker;
      GRANT EXECUTE ON FUNCTION auth.secret_of TO looker`);
    proxies = await AuthProxies.create(server);
    await proxies.install('app1', 'app2', `o'brien "x"`, 'twofold');
    authFile = await proxies.file(
      'users.txt',
      '"bouncer" "bouncer secret"',
      '"looker" "looker secret"',
    );
    asSuperuser = await proxies.start({ options: optionsOf('bouncer', BOUNCER_QUERY) });
    byFunction = await proxies.start({
      options: optionsOf('looker', 'SELECT role, secret FROM auth.secret_of($1)'),
    });
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  function optionsOf(user: string, query: string, file = authFile): string[] {
    return ['--auth-file', file, '--auth-user', user, '--auth-query', query];
  }
  const secretOf = (role: string) => `secret of ${role}`;

  for (const driver of drivers) {
    it(`of PgBouncer's form logs ${driver.name} and its worker in`, async function () {
      if (!driver.isPresent) this.skip();
      const login = asSuperuser.login('app1', secretOf('app1'));
      expect(await driver.value(login, WHO_LAUNCHES)).to.equal('app1 as app1');
    });

    it(`of a SECURITY DEFINER function logs ${driver.name} and its worker in`, async function () {
      if (!driver.isPresent) this.skip();
      const login = byFunction.login('app2', secretOf('app2'));
      expect(await driver.value(login, WHO_LAUNCHES)).to.equal('app2 as app2');
    });
  }

  it('gets the name as a parameter, whatever is in it', async () => {
    const role = `o'brien "x"`;
    for (const proxy of [asSuperuser, byFunction]) {
      expect(await drivers[1]?.value(proxy.login(role, secretOf(role)), WHO_LAUNCHES)).to.equal(
        `${role} as ${role}`,
      );
      const error = await loginErrorOf(proxy.login(`' OR rolname = 'app1' --`, secretOf('app1')));
      expect(error.code).to.equal('28P01');
    }
  });

  it('sees a password that has been changed', async () => {
    await server.changePassword('app2', 'another');
    expect((await loginErrorOf(byFunction.login('app2', secretOf('app2')))).code).to.equal('28P01');
    expect(await drivers[1]?.value(byFunction.login('app2', 'another'), WHO_LAUNCHES)).to.equal(
      'app2 as app2',
    );
    await server.changePassword('app2', secretOf('app2'));
  });

  it('is not asked for the users of the auth file', async () => {
    const file = await proxies.file(
      'more.txt',
      '"bouncer" "bouncer secret"',
      '"twofold" "only in the file"',
    );
    const proxy = await proxies.start({ options: optionsOf('bouncer', BOUNCER_QUERY, file) });
    // The server would take the other one: it is the proxy that refuses.
    expect((await loginErrorOf(proxy.login('twofold', secretOf('twofold')))).code).to.equal(
      '28P01',
    );
    await server.changePassword('twofold', 'only in the file');
    expect(
      await drivers[1]?.value(proxy.login('twofold', 'only in the file'), WHO_LAUNCHES),
    ).to.equal('twofold as twofold');
    await proxy.process.stop();
  });

  it('is not asked for a user whom the file bars by a secret that is none', async () => {
    const file = await proxies.file(
      'barring.txt',
      '"bouncer" "bouncer secret"',
      '"app1" ""',
      `"app2" "md5${'0123456789abcdef'.repeat(2)}"`,
    );
    const proxy = await proxies.start({ options: optionsOf('bouncer', BOUNCER_QUERY, file) });
    for (const role of ['app1', 'app2'])
      expect((await loginErrorOf(proxy.login(role, secretOf(role)))).code).to.equal('28P01');
    await proxy.process.stop();
  });

  it('that gives the secret of another, or of two, lets nobody in', async () => {
    await server.useRules(['host app app1 127.0.0.1/32 trust', ...RULES]);
    for (const [query, password] of [
      [`SELECT rolname, rolpassword FROM pg_authid WHERE rolname = 'app2' AND $1 <> ''`, 'app2'],
      [`SELECT rolname, rolpassword FROM pg_authid WHERE rolname IN ($1, 'app2')`, 'app1'],
      [`SELECT 'app1', rolpassword FROM pg_authid WHERE rolname IN ($1, 'app2')`, 'app2'],
      [`SELECT rolpassword FROM pg_authid WHERE rolname = $1`, 'app1'],
    ] as const) {
      const proxy = await proxies.start({ options: optionsOf('bouncer', query) });
      expect((await loginErrorOf(proxy.login('app1', secretOf(password)))).code, query).to.equal(
        '28P01',
      );
      await proxy.process.stop();
    }
    await server.useRules(RULES);
  });

  it('gives no way in for a role without a secret, with an md5 one, or that is not there', async () => {
    const words = new Set<string>();
    for (const user of ['without_secret', 'kept_as_md5', 'nobody_here', 'app1']) {
      for (const proxy of [asSuperuser, byFunction]) {
        const error = await loginErrorOf(proxy.login(user, 'x'));
        expect(error.code).to.equal('28P01');
        words.add(`${error.severity} ${error.message.replace(user, '?')} ${error.detail}`);
      }
    }
    expect(words.size).to.equal(1);
  });

  it('leaves it to the server whether a role may log in', async () => {
    const error = await loginErrorOf(asSuperuser.login('barred', secretOf('barred')));
    expect(error.code).to.equal('28000');
    expect(error.message).to.equal('role "barred" is not permitted to log in');
    await server.admin.query(`ALTER ROLE app1 VALID UNTIL '2001-01-01'`);
    const late = await loginErrorOf(asSuperuser.login('app1', secretOf('app1')));
    await server.admin.query(`ALTER ROLE app1 VALID UNTIL 'infinity'`);
    expect(late.code).to.equal('28P01');
  });

  it('runs with nothing of what a client has set', async () => {
    await server.admin.query(`
      CREATE TABLE auth.seen (search_path text, tenant text, timeout text, login text);
      CREATE FUNCTION auth.spy(asked name, OUT role name, OUT secret text) LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
          INSERT INTO auth.seen VALUES (current_setting('search_path'), current_setting('app.tenant', true),
            current_setting('statement_timeout'), session_user);
          SELECT rolname, rolpassword INTO role, secret FROM pg_catalog.pg_authid WHERE rolname = asked;
        END $$`);
    const proxy = await proxies.start({
      options: optionsOf('looker', 'SELECT role, secret FROM auth.spy($1)'),
    });
    const client = new pg.Client({
      ...proxy.login('app1', secretOf('app1')),
      options: '-c search_path=nowhere -c statement_timeout=4711 -c app.tenant=evil',
    });
    await client.connect();
    await client.end();
    await proxy.process.stop();
    const { rows } = await server.admin.query('SELECT * FROM auth.seen');
    expect(rows).to.have.length(1);
    const [seen] = rows as Record<string, string | null>[];
    expect(seen?.['login']).to.equal('looker');
    expect(seen?.['tenant']).to.equal(null);
    expect(seen?.['timeout']).not.to.equal('4711ms');
    expect(seen?.['search_path']).not.to.include('nowhere');
  });

  it('that fails lets nobody in, and does not say why', async () => {
    const proxy = await proxies.start({
      options: optionsOf('looker', 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1'),
    });
    const error = (await rejectionOf(
      new pg.Client(proxy.login('app1', secretOf('app1'))).connect(),
    )) as pg.DatabaseError;
    expect(error.severity).to.equal('FATAL');
    expect(`${error.message} ${error.detail} ${error.hint}`).not.to.include('pg_authid');
    await eventually(() => {
      expect(proxy.process.stderr).to.include('permission denied for table pg_authid');
      return Promise.resolve();
    });
    expect((await loginErrorOf(proxy.login('nobody_here', 'x'))).severity).to.equal('FATAL');
    await proxy.process.stop();
  });

  it('is asked in the database that is named for it', async () => {
    const names = new pg.Client({
      host: server.host,
      port: server.port,
      user: 'postgres',
      database: 'app',
    });
    await names.connect();
    await names.query(`
      CREATE FUNCTION only_here(text) RETURNS TABLE (role text, secret text) LANGUAGE sql
        SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
        'SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1'`);
    await names.end();
    const proxy = await proxies.start({
      options: [
        ...optionsOf('looker', 'SELECT * FROM public.only_here($1)'),
        ...['--auth-dbname', 'app'],
      ],
    });
    expect(
      await drivers[1]?.value(proxy.login('app1', secretOf('app1')), 'SELECT session_user'),
    ).to.equal('app1');
    await proxy.process.stop();
  });

  it('is asked again when its connection was cut', async () => {
    const login = byFunction.login('app1', secretOf('app1'));
    expect(await drivers[1]?.value(login, 'SELECT session_user')).to.equal('app1');
    for (let time = 0; time < 2; time++) {
      await server.admin.query(
        `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'looker'`,
      );
      expect(await drivers[1]?.value(login, WHO_LAUNCHES)).to.equal('app1 as app1');
    }
  });

  it('is asked for many at once, and nobody gets the answer of another', async () => {
    const roles = ['app1', `o'brien "x"`, 'nobody_here'];
    const logins = Array.from({ length: 24 }, (_, index) => roles[index % 3] as string);
    const outcomes = await Promise.all(
      logins.map((role) =>
        drivers[1]
          ?.value(byFunction.login(role, secretOf(role)), 'SELECT session_user')
          .catch((error: pg.DatabaseError) => error.code),
      ),
    );
    expect(outcomes).to.deep.equal(logins.map((role) => (role === 'nobody_here' ? '28P01' : role)));
  });
});
