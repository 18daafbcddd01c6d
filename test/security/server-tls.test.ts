// TLS between proxy and server: whom the proxy believes, and what it says of those it does not.
import { expect } from 'chai';
import { join } from 'node:path';
import pg from 'pg';
import { serialize } from 'pg-protocol';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer, loginErrorOf, wordsOf } from '../support/auth-server.ts';
import {
  certificates,
  hasOpenssl,
  outsideAddress,
  type Certificate,
} from '../support/certificates.ts';
import { drivers, WHO_LAUNCHES } from '../support/drivers.ts';
import { eventually } from '../support/eventually.ts';
import { Forwarder } from '../support/forwarder.ts';
import { RawClient } from '../support/wire.ts';

/** The beginning of an SSLRequest, in hex. */
const ASKED_FOR_TLS = '0000000804d2162f';

describe('TLS towards the server', () => {
  let server: AuthServer;
  let proxies: AuthProxies;

  before(async function () {
    if (!hasOpenssl) this.skip();
    server = await AuthServer.start([
      'hostssl app by_certificate 127.0.0.1/32 cert',
      'hostssl app only_tls 127.0.0.1/32 trust',
      'hostnossl app only_plain 127.0.0.1/32 trust',
      'host all asked 127.0.0.1/32 scram-sha-256',
    ]);
    for (const name of ['by_certificate', 'only_tls', 'only_plain', 'asked'])
      await server.createRole({ name, password: 'secret' });
    proxies = await AuthProxies.create(server);
    await proxies.install('by_certificate', 'only_tls', 'only_plain', 'asked');
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  /** A proxy that trusts its clients, so that what is seen is the server's own side. */
  const start = (
    parameters: Record<string, string>,
    more: { upstreamHost?: string; upstreamPort?: number } = {},
  ): Promise<RunningProxy> =>
    proxies.start({ parameters, options: ['--auth-type', 'trust'], ...more });

  /** With what error a proxy ends at its start, or else a client's login through it. */
  async function refusalOf(
    parameters: Record<string, string>,
    more: { upstreamHost?: string; upstreamPort?: number } = {},
  ): Promise<string> {
    const process = proxies.launch({ parameters, options: ['--auth-type', 'trust'], ...more });
    const code = await process.ended;
    expect(code, process.stdout).to.equal(1);
    expect(process.stderr.trim().split('\n')).to.have.length(1);
    return process.stderr;
  }

  const roots = () => ({
    good: certificates().authority.certFile,
    bad: certificates().rival.certFile,
  });

  it('is not there with disable, and the server says what it thinks of that', async () => {
    const proxy = await start({ sslmode: 'disable' });
    expect(await drivers[1]?.value(proxy.login('only_plain', ''), WHO_LAUNCHES)).to.equal(
      'only_plain as only_plain',
    );
    const own = await server.refusalOf({ user: 'only_tls' });
    const error = await loginErrorOf(proxy.login('only_tls', ''));
    expect(error.code).to.equal('28000');
    expect(wordsOf(error)).to.deep.equal(wordsOf(own));
    await proxy.process.stop();
  });

  it('is not there without an sslmode where the server is on loopback', async () => {
    const proxy = await start({});
    expect(await drivers[1]?.value(proxy.login('only_plain', ''), WHO_LAUNCHES)).to.equal(
      'only_plain as only_plain',
    );
    await proxy.process.stop();
  });

  it('is there for session, control link and workers with require', async () => {
    const proxy = await start({ sslmode: 'require' });
    for (const driver of drivers) {
      if (!driver.isPresent) continue;
      expect(await driver.value(proxy.login('only_tls', ''), WHO_LAUNCHES)).to.equal(
        'only_tls as only_tls',
      );
    }
    const own = await server.refusalOf({ user: 'only_plain', ssl: { rejectUnauthorized: false } });
    const error = await loginErrorOf(proxy.login('only_plain', ''));
    expect(wordsOf(error)).to.deep.equal(wordsOf(own));
    const client = new pg.Client(proxy.login('only_tls', ''));
    await client.connect();
    await client.query(WHO_LAUNCHES);
    const { rows } = await server.admin.query(
      `SELECT ssl, version >= 'TLSv1.2' AS modern FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE usename = 'only_tls'`,
    );
    expect(rows.length).to.be.at.least(3);
    for (const row of rows) expect(row).to.deep.equal({ ssl: true, modern: true });
    await client.end();
    await proxy.process.stop();
  });

  const cases: [
    string,
    keyof ReturnType<typeof shown>,
    Record<string, () => string>,
    RegExp | undefined,
  ][] = [
    ['require and no root: any certificate', 'untrusted', { sslmode: () => 'require' }, undefined],
    ['require and no root: an expired one', 'expired', { sslmode: () => 'require' }, undefined],
    [
      'require and the right root: a wrong name',
      'wrongName',
      { sslmode: () => 'require', sslrootcert: () => roots().good },
      undefined,
    ],
    [
      'require and another root',
      'server',
      { sslmode: () => 'require', sslrootcert: () => roots().bad },
      /certificate/,
    ],
    [
      'verify-ca and the right root: a wrong name',
      'wrongName',
      { sslmode: () => 'verify-ca', sslrootcert: () => roots().good },
      undefined,
    ],
    [
      'verify-ca and another root',
      'server',
      { sslmode: () => 'verify-ca', sslrootcert: () => roots().bad },
      /certificate/,
    ],
    [
      'verify-ca: an expired certificate',
      'expired',
      { sslmode: () => 'verify-ca', sslrootcert: () => roots().good },
      /certificate.*expired/,
    ],
    [
      'verify-full and the right root',
      'server',
      { sslmode: () => 'verify-full', sslrootcert: () => roots().good },
      undefined,
    ],
    [
      'verify-full: a wrong name',
      'wrongName',
      { sslmode: () => 'verify-full', sslrootcert: () => roots().good },
      /certificate|altnames/,
    ],
    [
      'verify-full and another root',
      'server',
      { sslmode: () => 'verify-full', sslrootcert: () => roots().bad },
      /certificate/,
    ],
    [
      'verify-full: an expired certificate',
      'expired',
      { sslmode: () => 'verify-full', sslrootcert: () => roots().good },
      /certificate.*expired/,
    ],
    ['verify-full without a root', 'server', { sslmode: () => 'verify-full' }, /certificate/],
    [
      'verify-full with the roots of the system',
      'server',
      { sslmode: () => 'verify-full', sslrootcert: () => 'system' },
      /certificate/,
    ],
  ];
  const shown = (): Record<'server' | 'wrongName' | 'expired' | 'untrusted', Certificate> =>
    certificates();

  for (const [what, certificate, parameters, message] of cases) {
    it(`${message === undefined ? 'comes about' : 'is refused'} with ${what}`, async () => {
      await server.useCertificate(shown()[certificate]);
      const given = Object.fromEntries(
        Object.entries(parameters).map(([name, value]) => [name, value()]),
      );
      try {
        if (message !== undefined) {
          const refusal = await refusalOf(given);
          expect(refusal).to.match(message);
          expect(refusal).to.include('--upstream');
        } else {
          const proxy = await start(given);
          expect(await drivers[1]?.value(proxy.login('only_tls', ''), WHO_LAUNCHES)).to.equal(
            'only_tls as only_tls',
          );
          await proxy.process.stop();
        }
      } finally {
        await server.useCertificate(certificates().server);
      }
    });
  }

  it('tells a client in words of the proxy that the certificate is not to be believed any more', async () => {
    const proxy = await start({ sslmode: 'verify-full', sslrootcert: roots().good });
    await server.useCertificate(certificates().untrusted);
    try {
      const error = await loginErrorOf(proxy.login('only_tls', ''));
      expect([error.severity, error.code?.slice(0, 2)]).to.deep.equal(['FATAL', '08']);
      expect(`${error.message} ${error.detail}`).to.match(/certificate/);
      expect(error.file).to.equal(undefined);
    } finally {
      await server.useCertificate(certificates().server);
    }
    expect(await drivers[1]?.value(proxy.login('only_tls', ''), WHO_LAUNCHES)).to.equal(
      'only_tls as only_tls',
    );
    await proxy.process.stop();
  });

  it('is verify-full without an sslmode where the server is not on loopback', async function () {
    if (outsideAddress === undefined) this.skip(); // this machine has loopback only
    const forwarder = await Forwarder.start(server, { host: outsideAddress });
    const away = { upstreamHost: outsideAddress, upstreamPort: forwarder.port };
    try {
      expect(await refusalOf({ sslrootcert: roots().good }, away)).to.match(/certificate|altnames/);
      expect(await refusalOf({}, away)).to.match(/certificate/);
      await server.useCertificate(certificates().outside);
      const proxy = await start({ sslrootcert: roots().good }, away);
      expect(await drivers[1]?.value(proxy.login('only_tls', ''), WHO_LAUNCHES)).to.equal(
        'only_tls as only_tls',
      );
      await proxy.process.stop();
      expect(new Set(forwarder.beginnings)).to.deep.equal(new Set([ASKED_FOR_TLS]));
    } finally {
      await server.useCertificate(certificates().server);
      await forwarder.stop();
    }
  });

  it('brings the certificate of the proxy, which a role may be known by', async () => {
    const { certFile: sslcert, keyFile: sslkey } = certificates().client('by_certificate');
    const files = { sslmode: 'verify-full', sslrootcert: roots().good };
    const proxy = await start({ ...files, sslcert, sslkey });
    expect(await drivers[1]?.value(proxy.login('by_certificate', ''), WHO_LAUNCHES)).to.equal(
      'by_certificate as by_certificate',
    );
    await proxy.process.stop();
    for (const config of [
      {},
      { role: 'only_tls' }, // another name than that of the role
    ] as { role?: string }[]) {
      const other = config.role === undefined ? undefined : certificates().client(config.role);
      const without = await start({
        ...files,
        ...(other && { sslcert: other.certFile, sslkey: other.keyFile }),
      });
      const own = await server.refusalOf({
        user: 'by_certificate',
        ssl: {
          ca: certificates().authority.cert,
          ...(other && { cert: other.cert, key: other.key }),
        },
      });
      const error = await loginErrorOf(without.login('by_certificate', ''));
      expect(error.code).to.match(/^28/);
      expect(wordsOf(error)).to.deep.equal(wordsOf(own));
      await without.process.stop();
    }
  });

  it('is there for a CancelRequest too, and cancels', async () => {
    const forwarder = await Forwarder.start(server, { host: '127.0.0.1' });
    const proxy = await start({ sslmode: 'require' }, { upstreamPort: forwarder.port });
    const client = await RawClient.login(proxy.port, { user: 'only_tls', database: 'app' });
    client.socket.write(serialize.query('SELECT pg_sleep(600)'));
    await eventually(async () => {
      const { rows } = await server.admin.query(
        `SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'`,
        [client.pid],
      );
      expect(rows).to.have.length(1);
    });
    const before = forwarder.beginnings.length;
    const key = client.messages.find(({ type }) => type === 'K')?.body as Buffer;
    const canceller = await RawClient.connect(proxy.port);
    canceller.listen();
    canceller.socket.write(serialize.cancel(key.readInt32BE(0), key.readInt32BE(4)));
    await canceller.closed();
    const answer = await client.until('Z');
    expect(answer.find(({ type }) => type === 'E')?.body.toString()).to.include('C57014');
    expect(forwarder.beginnings.slice(before)).to.deep.equal([ASKED_FOR_TLS]);
    await client.end();
    await proxy.process.stop();
    await forwarder.stop();
  });

  it('is never used on a Unix socket', async () => {
    const path = join(proxies.folder, '.s.PGSQL.5432');
    const forwarder = await Forwarder.start(server, { path });
    for (const sslmode of ['', '&sslmode=verify-full']) {
      const process = proxies.launch({
        upstream: `postgres:///app?host=${encodeURIComponent(proxies.folder)}&port=5432${sslmode}`,
        options: ['--auth-type', 'trust'],
      });
      const port = Number(new URL(await process.ready()).port);
      const login = { host: '127.0.0.1', port, user: 'only_plain', password: '', database: 'app' };
      expect(await drivers[1]?.value(login, WHO_LAUNCHES)).to.equal('only_plain as only_plain');
      await process.stop();
    }
    expect(forwarder.beginnings).not.to.include(ASKED_FOR_TLS);
    await forwarder.stop();
  });
});
