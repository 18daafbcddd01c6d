// The proxy is the SCRAM server, and logs in at the real one with what the exchange has shown it.
import { expect } from 'chai';
import { writeFile } from 'node:fs/promises';
import pg from 'pg';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer, loginErrorOf } from '../support/auth-server.ts';
import { certificates, hasOpenssl } from '../support/certificates.ts';
import { drivers, WHO_LAUNCHES } from '../support/drivers.ts';
import { eventually } from '../support/eventually.ts';
import { scramVerifier } from '../support/scram-exchange.ts';

describe('scram with an auth file', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let proxy: RunningProxy;
  let authFile: string;
  let lines: string[];

  const roles = {
    by_verifier: 'secret of the verifier',
    many_rounds: 'secret of many rounds',
    plain_scram: 'secret for scram',
    plain_md5: 'secret for md5',
    plain_cleartext: 'secret for cleartext',
    'we"ird': 'a "quoted" secret',
    umlaut_verifier: 'pässwörd \u00aa',
    umlaut_plain: 'pässwörd \u00aa',
    by_certificate: 'known to the proxy only',
    unasked: 'known to the proxy only, too',
  } as const;
  type Role = keyof typeof roles;

  before(async function () {
    if (!hasOpenssl) this.skip();
    server = await AuthServer.start([]);
    await server.useRules(
      [
        'host app plain_md5 127.0.0.1/32 md5',
        'host app plain_cleartext 127.0.0.1/32 password',
        'host app unasked 127.0.0.1/32 trust',
        'hostssl app by_certificate 127.0.0.1/32 cert map=proxies',
        'host all all 127.0.0.1/32 scram-sha-256',
      ],
      ['proxies proxy by_certificate'],
    );
    for (const [name, password] of Object.entries(roles)) {
      await server.createRole({
        name,
        password,
        encryption: name === 'plain_md5' ? 'md5' : 'scram-sha-256',
      });
    }
    for (const name of ['stranger', 'kept_as_md5', 'latecomer'])
      await server.createRole({ name, password: 'secret of the server' });
    const manyRounds = scramVerifier(roles.many_rounds, 7001);
    await server.admin.query(`ALTER ROLE many_rounds PASSWORD ${pg.escapeLiteral(manyRounds)}`);
    lines = [
      '; roles of the tests',
      `"by_verifier" "${await server.verifierOf('by_verifier')}"`,
      `"many_rounds" "${manyRounds}"`,
      `"umlaut_verifier" "${await server.verifierOf('umlaut_verifier')}"`,
      `"umlaut_plain" "${roles.umlaut_plain}"`,
      `"plain_scram" "${roles.plain_scram}"`,
      `"plain_md5" "${roles.plain_md5}"`,
      `"plain_cleartext" "${roles.plain_cleartext}"`,
      '',
      `"we""ird" "a ""quoted"" secret"`,
      `"by_certificate" "${roles.by_certificate}"`,
      `"unasked" "${scramVerifier(roles.unasked)}"`,
      `"stranger" "${scramVerifier('secret of the server')}"`,
      `"kept_as_md5" "md5${'0123456789abcdef'.repeat(2)}"`,
    ];
    proxies = await AuthProxies.create(server);
    authFile = await proxies.file('users.txt', ...lines);
    await proxies.install(...Object.keys(roles), 'latecomer');
    proxy = await proxies.start({ options: ['--auth-file', authFile] });
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  const login = (role: Role, way = proxy) => way.login(role, roles[role]);

  for (const driver of drivers) {
    it(`logs ${driver.name} and its worker in with the ClientKey of the exchange`, async function () {
      if (!driver.isPresent) this.skip();
      for (const role of ['by_verifier', 'many_rounds'] as const) {
        expect(await driver.value(login(role), WHO_LAUNCHES)).to.equal(`${role} as ${role}`);
      }
    });

    it(`logs ${driver.name} and its worker in with the password of the auth file`, async function () {
      if (!driver.isPresent) this.skip();
      for (const role of ['plain_scram', 'plain_md5', 'plain_cleartext', 'we"ird'] as const) {
        expect(await driver.value(login(role), WHO_LAUNCHES)).to.equal(`${role} as ${role}`);
      }
    });

    it(`logs ${driver.name} in where the server asks no password, for the proxy has asked`, async function () {
      if (!driver.isPresent) this.skip();
      expect(await driver.value(login('unasked'), WHO_LAUNCHES)).to.equal('unasked as unasked');
      expect(await driver.value(login('unasked'), 'SELECT session_user')).to.equal('unasked');
    });
  }

  it('prepares a password of other letters than ASCII as the server does', async () => {
    // postgres.js prepares none, so it cannot log in to the server either.
    for (const driver of drivers.slice(0, 2)) {
      if (!driver.isPresent) continue;
      for (const role of ['umlaut_verifier', 'umlaut_plain'] as const) {
        expect(await driver.value(login(role), WHO_LAUNCHES)).to.equal(`${role} as ${role}`);
      }
    }
  });

  it('logs in again and again with the same ClientKey', async () => {
    for (let time = 0; time < 5; time++) {
      expect(await drivers[1]?.value(login('by_verifier'), WHO_LAUNCHES)).to.equal(
        'by_verifier as by_verifier',
      );
    }
  });

  it('logs in the workers of several sessions at once', async () => {
    const values = Array.from({ length: 6 }, async (_, index) => {
      const client = new pg.Client(login(index % 2 === 0 ? 'by_verifier' : 'plain_scram'));
      await client.connect();
      const { rows } = await client.query<{ who: string }>(
        `SELECT r.who FROM (SELECT pg_background_launch('SELECT session_user::text') AS pid
             FROM generate_series(1, 4)) AS launched,
           LATERAL pg_background_result(pid) AS r (who text)`,
      );
      await client.end();
      return rows.map(({ who }) => who);
    });
    for (const [index, who] of (await Promise.all(values)).entries()) {
      const role = index % 2 === 0 ? 'by_verifier' : 'plain_scram';
      expect(who).to.deep.equal([role, role, role, role]);
    }
  });

  it('logs in to a server that asks for a certificate, with the one of the proxy', async () => {
    const { authority, client } = certificates();
    const { certFile, keyFile } = client('proxy');
    const secured = await proxies.start({
      parameters: {
        sslmode: 'verify-full',
        sslrootcert: authority.certFile,
        sslcert: certFile,
        sslkey: keyFile,
      },
      options: ['--auth-file', authFile],
    });
    for (const driver of drivers) {
      if (!driver.isPresent) continue;
      for (const role of ['by_certificate', 'by_verifier'] as const) {
        expect(await driver.value(login(role, secured), WHO_LAUNCHES)).to.equal(
          `${role} as ${role}`,
        );
      }
    }
    expect((await loginErrorOf(secured.login('by_certificate', 'wrong'))).code).to.equal('28P01');
    await secured.process.stop();
  });

  it('refuses a verifier that is not the one of the server, and logs why', async () => {
    const error = await loginErrorOf(proxy.login('stranger', 'secret of the server'));
    expect([error.severity, error.code]).to.deep.equal(['FATAL', '28P01']);
    await eventually(async () => {
      // At the default log level, for the operator is who has to do something.
      const warning = proxy.process.stderr
        .split('\n')
        .find((line) => /"level":[45]0/.test(line) && line.includes('stranger'));
      expect(warning)
        .to.match(/verifier/)
        .and.match(/pg_authid/);
    });
    expect(proxy.process.stderr).not.to.include('SCRAM-SHA-256$');
  });

  it('refuses a role of which the file has an md5 secret only', async () => {
    const error = await loginErrorOf(proxy.login('kept_as_md5', 'secret of the server'));
    expect(error.code).to.equal('28P01');
  });

  it('refuses a role of the server that is not in the file', async () => {
    const error = await loginErrorOf(proxy.login('latecomer', 'secret of the server'));
    expect(error.code).to.equal('28P01');
    expect(await server.backendsOf('latecomer')).to.deep.equal([]);
  });

  it('takes the file as it is when a client comes, and keeps a good one before a bad one', async () => {
    const added = `"latecomer" "${await server.verifierOf('latecomer')}"`;
    const value = () =>
      drivers[1]?.value(proxy.login('latecomer', 'secret of the server'), WHO_LAUNCHES);
    await writeFile(authFile, [...lines, added, ''].join('\n'));
    expect(await value()).to.equal('latecomer as latecomer');
    const logged = proxy.process.stderr.length;
    await writeFile(authFile, 'latecomer: what is this?\n');
    expect(await value()).to.equal('latecomer as latecomer');
    await eventually(async () => {
      const warnings = proxy.process.stderr.slice(logged).match(/^.*"level":40.*$/gm);
      expect(warnings?.join()).to.include('users.txt');
    });
    await writeFile(authFile, [...lines, ''].join('\n'));
    expect((await loginErrorOf(proxy.login('latecomer', 'secret of the server'))).code).to.equal(
      '28P01',
    );
  });
});
