// What is never written anywhere: passwords, verifiers, keys, the signing secret.
import { expect } from 'chai';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { AuthProxies, SIGNING_SECRET, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer, loginErrorOf } from '../support/auth-server.ts';
import { certificates, hasOpenssl } from '../support/certificates.ts';
import { drivers, WHO_LAUNCHES } from '../support/drivers.ts';
import { eventually } from '../support/eventually.ts';
import { rejectionOf } from '../support/rejection.ts';

describe('what is secret', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let authFile: string;
  let runAsFile: string;
  let secrets: string[];

  before(async function () {
    if (!hasOpenssl) this.skip();
    server = await AuthServer.start(['host all all 127.0.0.1/32 scram-sha-256']);
    for (const name of ['by_verifier', 'by_password', 'owner', 'looker'])
      await server.createRole({ name, password: `hush-${name}` });
    proxies = await AuthProxies.create(server);
    await proxies.install('by_verifier', 'by_password', 'owner');
    const verifier = await server.verifierOf('by_verifier');
    authFile = await proxies.file(
      'users.txt',
      `"by_verifier" "${verifier}"`,
      '"by_password" "hush-by_password"',
      '"looker" "hush-looker"',
      '"unusable" "md5aaaabbbbccccddddeeeeffff00001111"',
      '"stranger" "hush-stranger"',
    );
    runAsFile = await proxies.file(
      'run-as.txt',
      'app:owner:hush-run-as-that-is-wrong',
      'app:looker:hush-looker',
    );
    const installer = new pg.Client({
      ...{ host: server.host, port: server.port, user: 'postgres', database: 'app' },
    });
    await installer.connect();
    await installer.query(`
      CREATE FUNCTION as_owner() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS
        $$SELECT pg_background_launch('SELECT ''hush-sql''')$$;
      ALTER FUNCTION as_owner OWNER TO owner`);
    await installer.end();
    secrets = [
      'hush-',
      SIGNING_SECRET,
      ...verifier.split(/[$:]/).slice(2),
      'aaaabbbbccccdddd',
      certificates().server.key.split('\n')[1] ?? '',
    ];
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  function start(...options: string[]): Promise<RunningProxy> {
    const { certFile, keyFile } = certificates().server;
    return proxies.start({
      options: [
        ...['--client-tls-cert-file', certFile, '--client-tls-key-file', keyFile],
        ...['--run-as-file', runAsFile, ...options],
      ],
    });
  }

  async function expectSilence(proxy: RunningProxy): Promise<void> {
    const { child, stdout, stderr } = proxy.process;
    const title = await readFile(`/proc/${child.pid}/cmdline`, 'latin1').catch(() => '');
    const name = await readFile(`/proc/${child.pid}/comm`, 'latin1').catch(() => '');
    for (const [where, text] of Object.entries({ stdout, stderr, title, name })) {
      for (const secret of secrets) {
        expect(text.includes(secret), `${where} holds ${secret}`).to.equal(false);
        const encoded = Buffer.from(secret).toString('base64').replace(/=+$/, '').slice(0, -1);
        expect(text.includes(encoded), `${where} holds ${secret} in base64`).to.equal(false);
      }
    }
  }

  for (const [type, options] of [
    ['passthrough', () => []],
    [
      'scram',
      () => [
        ...['--auth-file', authFile, '--auth-user', 'looker'],
        ...[
          '--auth-query',
          `SELECT rolname, 'hush' FROM pg_roles WHERE rolname = $1 AND 1 / 0 = 1`,
        ],
      ],
    ],
  ] as const) {
    it(`stands in no output of the proxy, whatever happens: ${type}`, async () => {
      const proxy = await start(...options());
      for (const role of ['by_verifier', 'by_password']) {
        for (const driver of drivers) {
          if (!driver.isPresent) continue;
          await driver.value(proxy.login(role, `hush-${role}`), WHO_LAUNCHES);
          await rejectionOf(driver.value(proxy.login(role, `hush-wrong`), 'SELECT 1'));
        }
      }
      for (const role of ['unusable', 'unknown', 'stranger'])
        await loginErrorOf(proxy.login(role, 'hush-whatever'));
      const client = new pg.Client(proxy.login('by_password', 'hush-by_password'));
      await client.connect();
      await client.query('GRANT by_password TO by_password').catch(() => {});
      const error = (await rejectionOf(client.query('SELECT as_owner()'))) as pg.DatabaseError;
      expect(error.code).to.equal('28P01');
      expect(JSON.stringify(error)).not.to.include('hush-run');
      await client.query(`SELECT pg_background_launch('SELECT ''hush-sql'', 1 / 0')`);
      await client.end();
      await expectSilence(proxy);
      expect(await proxy.process.stop()).to.equal(0);
      await expectSilence(proxy);
    });
  }

  it('is not printed with the configuration, which is JSON', async () => {
    const process = proxies.launch({
      options: [
        ...['--auth-file', authFile, '--run-as-file', runAsFile, '--print-config'],
        ...['--max-client-conn', '17'],
      ],
      environment: { PGBG_MAX_LOGINS: '18' },
    });
    expect(await process.ended).to.equal(0);
    const printed = JSON.parse(process.stdout) as Record<string, unknown>;
    expect(Object.values(printed)).to.include(17).and.include(18).and.include(authFile);
    expect(process.stdout).to.include('***');
    for (const secret of secrets)
      expect((process.stdout + process.stderr).includes(secret), secret).to.equal(false);
  });

  it('is warned of when others can read the file', async () => {
    const users = await proxies.file('plain-users.txt', '"app" "hush-app"');
    for (const [option, file] of [
      ['--auth-file', users],
      ['--run-as-file', runAsFile],
    ] as const) {
      await chmod(file, 0o644);
      const proxy = await proxies.start({ options: [option, file] });
      await eventually(() => {
        expect(proxy.process.stderr).to.match(new RegExp(`"level":40.*${file}`));
        return Promise.resolve();
      });
      await proxy.process.stop();
      await chmod(file, 0o600);
      const quiet = await proxies.start({ options: [option, file] });
      expect(quiet.process.stderr).not.to.match(/"level":40/);
      await quiet.process.stop();
    }
  });

  it('is warned of when others can read the key that the proxy shows the server', async () => {
    const { certFile, keyFile } = certificates().server;
    const sslkey = join(proxies.folder, 'upstream.key');
    await copyFile(keyFile, sslkey);
    await chmod(sslkey, 0o644);
    const parameters = { sslmode: 'require', sslcert: certFile, sslkey };
    const proxy = await proxies.start({ parameters });
    await eventually(() => {
      expect(proxy.process.stderr).to.match(new RegExp(`"level":40.*${sslkey}`));
      return Promise.resolve();
    });
    await proxy.process.stop();
  });

  it('is warned of when it would be lost with the container', async function () {
    if (!existsSync('/dev/shm')) this.skip();
    const folder = await mkdtemp('/dev/shm/pgbg-secret-');
    try {
      const proxy = await proxies.start({
        environment: { PGBG_SECRET: '', XDG_STATE_HOME: folder },
        options: ['--log-level', 'warn'],
      });
      await eventually(() => {
        expect(proxy.process.stderr).to.match(new RegExp(`"level":40.*${folder}`));
        return Promise.resolve();
      });
      await proxy.process.stop();
      const [file] = (await readdir(folder, { recursive: true })).filter((name) =>
        name.endsWith('.secret'),
      );
      const secret = await readFile(join(folder, file ?? ''), 'utf8');
      expect(proxy.process.stderr.includes(secret.trim()), 'the log holds the secret').to.equal(
        false,
      );
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('of an auth file with a fault is not repeated', async () => {
    for (const line of ['"app" "hush-1', 'hush-2', '"app" hush-3', '"app" "a" "hush-4"']) {
      const file = await proxies.file('faulty.txt', '"good" "one"', line);
      const process = proxies.launch({ options: ['--auth-file', file] });
      const ended = process.ended.then(() => 'ended');
      await Promise.race([ended, process.ready().catch(() => 'ended')]);
      expect(process.stderr + process.stdout, line).not.to.include('hush-');
      if (process.child.exitCode === null) await process.stop();
    }
  });
});
