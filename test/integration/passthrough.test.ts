// The proxy asks for the cleartext password and uses it at the server, whatever that asks for.
import { expect } from 'chai';
import pg from 'pg';
import { serialize } from 'pg-protocol';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer, loginErrorOf, wordsOf } from '../support/auth-server.ts';
import { certificates, hasOpenssl } from '../support/certificates.ts';
import { drivers, WHO_LAUNCHES } from '../support/drivers.ts';
import { eventually } from '../support/eventually.ts';
import { message, zeroTerminated } from '../support/messages.ts';
import { fieldsOf, RawClient, type RawMessage } from '../support/wire.ts';

/** As RDS makes them: a URL with a signature. */
const TOKEN = `db.example.com:5432/?Action=connect&DBUser=app&X-Amz-Signature=${'0123456789abcdef'.repeat(54)}`;

describe('passthrough', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let proxy: RunningProxy;
  let overTls: RunningProxy;

  const roles = {
    asked_scram: 'scram secret',
    asked_md5: 'md5 secret',
    asked_cleartext: 'cleartext secret',
    over_tls_only: 'secret of TLS',
    long_scram: TOKEN,
    long_md5: 'm'.repeat(5000),
    long_cleartext: 'p'.repeat(5000),
    umlaut: 'pässwörd',
    prepared: 'x\u00aay\u00a0z',
    forbidden: 'bell\u0007 and \u00aa',
    unprepared_md5: 'pässwörd \u00aa',
  } as const;
  type Role = keyof typeof roles;

  before(async function () {
    if (!hasOpenssl) this.skip();
    server = await AuthServer.start([
      'host app asked_md5,long_md5,unprepared_md5 127.0.0.1/32 md5',
      'host app asked_cleartext,long_cleartext 127.0.0.1/32 password',
      'host app unasked 127.0.0.1/32 trust',
      'hostssl app by_certificate 127.0.0.1/32 cert',
      'hostssl app over_tls_only 127.0.0.1/32 scram-sha-256',
      'hostnossl app over_tls_only 127.0.0.1/32 reject',
      'host app unlisted 127.0.0.1/32 reject',
      'host all all 127.0.0.1/32 scram-sha-256',
    ]);
    for (const [name, password] of Object.entries(roles)) {
      await server.createRole({
        name,
        password,
        encryption: name.includes('md5') ? 'md5' : 'scram-sha-256',
      });
    }
    for (const name of ['unasked', 'by_certificate', 'unlisted'])
      await server.createRole({ name, password: 'never asked for' });
    proxies = await AuthProxies.create(server);
    await proxies.install(...Object.keys(roles), 'unasked', 'by_certificate');
    proxy = await proxies.start();
    const { authority, client } = certificates();
    const { certFile, keyFile } = client('by_certificate');
    overTls = await proxies.start({
      parameters: {
        sslmode: 'verify-full',
        sslrootcert: authority.certFile,
        sslcert: certFile,
        sslkey: keyFile,
      },
    });
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  const login = (role: Role, way = proxy) => way.login(role, roles[role]);

  for (const driver of drivers) {
    const methods = { asked_scram: 'scram-sha-256', asked_md5: 'md5', asked_cleartext: 'password' };
    for (const [role, method] of Object.entries(methods)) {
      it(`logs ${driver.name} and its worker in where the server asks for ${method}`, async function () {
        if (!driver.isPresent) this.skip();
        expect(await driver.value(login(role as Role), WHO_LAUNCHES)).to.equal(
          `${role} as ${role}`,
        );
      });
    }

    it(`logs ${driver.name} and its worker in where the server insists on TLS`, async function () {
      if (!driver.isPresent) this.skip();
      expect(await driver.value(login('over_tls_only', overTls), WHO_LAUNCHES)).to.equal(
        'over_tls_only as over_tls_only',
      );
    });

    it(`passes a token and a password of 5,000 bytes of ${driver.name} on`, async function () {
      if (!driver.isPresent) this.skip();
      for (const role of ['long_scram', 'long_md5', 'long_cleartext'] as const) {
        expect(await driver.value(login(role), WHO_LAUNCHES)).to.equal(`${role} as ${role}`);
      }
    });

    it(`passes a password of ${driver.name} with other letters than ASCII on`, async function () {
      if (!driver.isPresent) this.skip();
      for (const role of ['umlaut', 'prepared', 'forbidden', 'unprepared_md5'] as const) {
        expect(await driver.value(login(role), WHO_LAUNCHES)).to.equal(`${role} as ${role}`);
      }
    });
  }

  it('takes two passwords for one that SASLprep makes one', async () => {
    const [, driver] = drivers;
    expect(await driver?.value(proxy.login('prepared', 'xay z'), WHO_LAUNCHES)).to.equal(
      'prepared as prepared',
    );
  });

  it('does not prepare a password for md5', async () => {
    const error = await loginErrorOf(proxy.login('unprepared_md5', 'pässwörd a'));
    expect(error.code).to.equal('28P01');
  });

  it('logs in by md5 and password over TLS too', async () => {
    const [, driver] = drivers;
    for (const role of ['asked_scram', 'asked_md5', 'asked_cleartext'] as const) {
      expect(await driver?.value(login(role, overTls), WHO_LAUNCHES)).to.equal(
        `${role} as ${role}`,
      );
    }
  });

  for (const role of ['asked_scram', 'asked_md5', 'asked_cleartext'] as const) {
    it(`refuses a wrong password in the server's own words, and remembers none: ${role}`, async () => {
      const own = await server.refusalOf({ user: role, password: 'wrong' });
      for (const password of ['wrong', `${roles[role]} `, roles[role].toUpperCase()]) {
        const error = await loginErrorOf(proxy.login(role, password));
        expect(error.code).to.equal('28P01');
        expect(wordsOf(error)).to.deep.equal(wordsOf(own));
        expect(await drivers[1]?.value(login(role), WHO_LAUNCHES)).to.equal(`${role} as ${role}`);
      }
    });
  }

  it('logs who was refused by the server, and where he comes from', async () => {
    await loginErrorOf(proxy.login('asked_md5', 'wrong'));
    await eventually(async () => {
      expect(proxy.process.stderr).to.match(
        /"code":"28P01","user":"asked_md5","address":"127\.0\.0\.1","msg":"login refused by the server/,
      );
    });
  });

  it('refuses a wrong password while a session with the right one lives', async () => {
    const client = new pg.Client(login('asked_scram'));
    await client.connect();
    await client.query(WHO_LAUNCHES);
    expect((await loginErrorOf(proxy.login('asked_scram', 'wrong'))).code).to.equal('28P01');
    expect((await client.query(WHO_LAUNCHES)).rows).to.deep.equal([
      { who: 'asked_scram as asked_scram' },
    ]);
    await client.end();
  });

  it('refuses an empty password', async () => {
    for (const user of ['asked_scram', 'asked_md5', 'asked_cleartext']) {
      const client = await RawClient.connect(proxy.port);
      client.listen();
      client.socket.write(serialize.startup({ user, database: server.database }));
      await client.until('R');
      client.socket.write(message('p', zeroTerminated('')));
      const refusal = (await client.untilOneOf('EZ')).at(-1) as RawMessage;
      expect(refusal.type).to.equal('E');
      expect(fieldsOf(refusal)['C']).to.equal('28P01');
      await client.closed();
    }
  });

  it('refuses a session of which the server asks no password', async () => {
    for (const [way, role] of [
      [proxy, 'unasked'],
      [overTls, 'unasked'],
      [overTls, 'by_certificate'],
    ] as const) {
      const error = await loginErrorOf(way.login(role, 'never asked for'));
      expect(error.code).to.equal('28000');
      expect(error.severity).to.equal('FATAL');
      expect(error.hint)
        .to.match(/--auth-type/)
        .and.match(/trust/)
        .and.match(/scram/);
    }
    await eventually(async () => {
      expect(await server.backendsOf('unasked')).to.deep.equal([]);
    });
  });

  it('tells in the words of the server that a database does not exist', async () => {
    const config = { user: 'asked_scram', password: roles.asked_scram, database: 'nowhere' };
    const own = await server.refusalOf(config);
    const error = await loginErrorOf({ ...login('asked_scram'), database: 'nowhere' });
    expect(error.code).to.equal('3D000');
    expect(wordsOf(error)).to.deep.equal(wordsOf(own));
  });

  it('tells in the words of the server that a role does not exist', async () => {
    const own = await server.refusalOf({ user: 'nobody_here', password: 'x' });
    const error = await loginErrorOf(proxy.login('nobody_here', 'x'));
    expect(error.code).to.equal('28P01');
    expect(wordsOf(error)).to.deep.equal(wordsOf(own));
  });

  it('tells in the words of the server that pg_hba.conf rejects a role', async () => {
    const own = await server.refusalOf({ user: 'unlisted', password: 'x' });
    const error = await loginErrorOf(proxy.login('unlisted', 'never asked for'));
    expect(error.code).to.equal('28000');
    expect(wordsOf(error)).to.deep.equal(wordsOf(own));
  });

  it('tells in the words of the server that a role has no connection left', async () => {
    await server.admin.query('ALTER ROLE asked_md5 CONNECTION LIMIT 0');
    const own = await server.refusalOf({ user: 'asked_md5', password: roles.asked_md5 });
    const error = await loginErrorOf(login('asked_md5'));
    await server.admin.query('ALTER ROLE asked_md5 CONNECTION LIMIT -1');
    expect(error.code).to.equal('53300');
    expect(wordsOf(error)).to.deep.equal(wordsOf(own));
  });

  it('logs a session of several workers at once in', async () => {
    const client = new pg.Client(login('asked_scram'));
    await client.connect();
    const { rows } = await client.query(
      `SELECT pg_background_launch('SELECT session_user::text') AS pid FROM generate_series(1, 8)`,
    );
    expect(new Set(rows.map(({ pid }: { pid: number }) => pid)).size).to.equal(8);
    for (const { pid } of rows as { pid: number }[]) {
      const result = await client.query(
        `SELECT who FROM pg_background_result(${pid}) AS (who text)`,
      );
      expect(result.rows).to.deep.equal([{ who: 'asked_scram' }]);
    }
    await client.end();
  });
});
