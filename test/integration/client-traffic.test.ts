// What a session in TLS carries: cancels, many bytes, and a peer that does not read.
import { expect } from 'chai';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import pg from 'pg';
import { serialize } from 'pg-protocol';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer } from '../support/auth-server.ts';
import { certificates, hasOpenssl } from '../support/certificates.ts';
import { psqlEnvironment, type Login } from '../support/drivers.ts';
import { eventually } from '../support/eventually.ts';
import { message, zeroTerminated } from '../support/messages.ts';
import { hasPsql, runPsql } from '../support/psql.ts';
import { rejectionOf } from '../support/rejection.ts';
import { dial, dialTls, restOf, startTls } from '../support/tls-client.ts';
import { RawClient } from '../support/wire.ts';

const MEGABYTE = 1024 * 1024;

describe('a session in TLS', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let proxy: RunningProxy;

  before(async function () {
    if (!hasOpenssl) this.skip();
    server = await AuthServer.start(['host all all 127.0.0.1/32 scram-sha-256']);
    await server.createRole({ name: 'app', password: 'secret', options: 'SUPERUSER' });
    proxies = await AuthProxies.create(server);
    await proxies.install('app');
    const { certFile, keyFile } = certificates().server;
    const { authority, client } = certificates();
    proxy = await proxies.start({
      // TLS on both sides: each has buffers of its own.
      parameters: {
        sslmode: 'verify-full',
        sslrootcert: authority.certFile,
        sslcert: client('proxy').certFile,
        sslkey: client('proxy').keyFile,
      },
      options: [
        ...['--client-tls-sslmode', 'require'],
        ...['--client-tls-cert-file', certFile, '--client-tls-key-file', keyFile],
      ],
    });
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  const trusting = () => ({ ca: certificates().authority.cert });
  const secure = (): Login => {
    const { certFile: caFile, cert: ca } = certificates().authority;
    return proxy.login('app', 'secret', { host: 'localhost', tls: { caFile, ca } });
  };

  async function connect(): Promise<pg.Client> {
    const { tls, ...login } = secure();
    const client = new pg.Client({ ...login, ssl: { ca: tls?.ca } });
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  /** Logs in with raw messages, in TLS. */
  async function loginRaw(): Promise<RawClient> {
    const client = RawClient.over(await dialTls(proxy.port, trusting()));
    client.listen();
    client.socket.write(serialize.startup({ user: 'app', database: server.database }));
    await client.until('R');
    client.socket.write(message('p', zeroTerminated('secret')));
    await client.until('Z');
    return client;
  }

  /** The CancelRequest for a session. */
  function cancelOf(client: RawClient): Buffer {
    const key = client.messages.find(({ type }) => type === 'K')?.body as Buffer;
    return serialize.cancel(key.readInt32BE(0), key.readInt32BE(4));
  }

  /** A statement that runs until it is cancelled, once it runs. */
  async function sleeping(client: RawClient): Promise<void> {
    client.socket.write(serialize.query('SELECT pg_sleep(600)'));
    await eventually(async () => {
      const { rows } = await server.admin.query(
        `SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'`,
        [client.pid],
      );
      expect(rows).to.have.length(1);
    });
  }

  for (const [how, send] of [
    ['in the clear, though TLS is required of sessions', () => dial(proxy.port)],
    ['in TLS behind an SSLRequest', () => dialTls(proxy.port, trusting())],
    [
      'in TLS from the first byte on',
      async () =>
        startTls(await dial(proxy.port), { ...trusting(), ALPNProtocols: ['postgresql'] }),
    ],
  ] as const) {
    it(`is cancelled by a request ${how}, which has worked when its connection ends`, async () => {
      const client = await loginRaw();
      await sleeping(client);
      const socket = await send();
      socket.write(cancelOf(client));
      expect(await restOf(socket)).to.have.length(0);
      const answer = await client.until('Z');
      expect(answer.find(({ type }) => type === 'E')?.body.toString()).to.include('C57014');
      // The next statement is not hit.
      expect((await client.query('SELECT 1')).map(({ type }) => type).join('')).to.equal('TDCZ');
      await client.end();
    });
  }

  it('is not cancelled by a request with another key', async () => {
    const client = await loginRaw();
    const socket = await dialTls(proxy.port, trusting());
    const wrong = Buffer.from(cancelOf(client));
    wrong.writeInt32BE(wrong.readInt32BE(12) ^ 1, 12);
    await sleeping(client);
    socket.write(wrong);
    await restOf(socket);
    const { rows } = await server.admin.query(
      `SELECT wait_event FROM pg_stat_activity WHERE pid = $1`,
      [client.pid],
    );
    expect(rows).to.deep.equal([{ wait_event: 'PgSleep' }]);
    client.socket.destroy();
    await server.admin.query('SELECT pg_terminate_backend($1)', [client.pid]);
  });

  it('carries 16 MB each way, byte for byte', async () => {
    const client = await connect();
    const bytes = Buffer.alloc(16 * MEGABYTE);
    for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE((at * 2654435761) >>> 0, at);
    const { rows } = await client.query<{ hash: Buffer; same: Buffer }>(
      'SELECT sha256($1) AS hash, $1::bytea AS same',
      [bytes],
    );
    expect(rows[0]?.hash.equals(createHash('sha256').update(bytes).digest())).to.equal(true);
    expect(rows[0]?.same.equals(bytes)).to.equal(true);
    await client.end();
  });

  it('copies several MB in and out through psql, line for line', async function () {
    if (!hasPsql) this.skip();
    const lines = Array.from(
      { length: 60_000 },
      (_, index) => `${index}\t${'añ€😀'.repeat(index % 12)}x\t\\N`,
    );
    const script = [
      'CREATE TABLE copied (a int, b text, c text);',
      'COPY copied FROM STDIN;',
      ...lines,
      '\\.',
      'COPY (SELECT * FROM copied ORDER BY a) TO STDOUT;',
      'DROP TABLE copied;',
      '',
    ].join('\n');
    const { stdout, stderr, code } = await runPsql(
      '',
      script,
      ['-A', '-t', '-v', 'ON_ERROR_STOP=1'],
      psqlEnvironment(secure()),
    );
    expect([code, stderr]).to.deep.equal([0, '']);
    expect(stdout === `${lines.join('\n')}\n`, 'what came back is what was sent').to.equal(true);
  });

  it('gives a result of a worker of several MB', async () => {
    const client = await connect();
    const { rows } = await client.query<{ n: number; size: number }>(
      `SELECT count(*)::int AS n, sum(length(x))::int AS size
         FROM pg_background_result(pg_background_launch(
           'SELECT repeat(''x'', 1000) FROM generate_series(1, 8000)')) AS (x text)`,
    );
    expect(rows).to.deep.equal([{ n: 8000, size: 8_000_000 }]);
    await client.end();
  });

  it('makes the server wait for a client that does not read, and not the memory of the proxy', async () => {
    const client = await loginRaw();
    client.socket.removeAllListeners('data');
    client.socket.pause();
    const before = proxy.process.peakMemory;
    client.socket.write(
      serialize.query(`SELECT repeat('y', 1000) FROM generate_series(1, 200000)`),
    );
    await eventually(async () => {
      const { rows } = await server.admin.query(
        `SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'ClientWrite'`,
        [client.pid],
      );
      expect(rows).to.have.length(1);
    });
    let received = 0;
    const tail = new Promise<void>((resolve) => {
      client.socket.on('data', (chunk: Buffer) => {
        received += chunk.length;
        // ReadyForQuery, behind the tag.
        if (chunk.subarray(-6).equals(Buffer.from('5a0000000549', 'hex'))) resolve();
      });
    });
    client.socket.resume();
    await tail;
    expect(received).to.be.greaterThan(200 * 1000 * 1000);
    expect(proxy.process.peakMemory - before).to.be.lessThan(64 * MEGABYTE);
    client.socket.destroy();
  });

  it('makes a client wait for a server that does not read, and not the memory of the proxy', async () => {
    const blocker = await connect();
    await blocker.query('CREATE TABLE locked (a text)');
    await blocker.query('BEGIN; LOCK TABLE locked');
    const client = await loginRaw();
    const before = proxy.process.peakMemory;
    client.socket.write(serialize.query('COPY locked FROM STDIN'));
    const chunk = message('d', Buffer.from(`${'z'.repeat(65_000)}\n`));
    const total = 1600;
    let sent = 0;
    const sending = (async () => {
      while (sent < total) {
        sent++;
        if (!client.socket.write(chunk)) await once(client.socket, 'drain');
      }
    })();
    // The lock is opened when nothing moves any more.
    let seen = -1;
    await eventually(async () => {
      const earlier = seen;
      seen = sent;
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(sent).to.equal(earlier);
    });
    const hasSwallowedAll = sent === total;
    await blocker.query('COMMIT');
    await sending;
    client.socket.write(message('c'));
    await client.until('Z');
    expect(hasSwallowedAll, 'all of it went somewhere though nobody read').to.equal(false);
    expect(proxy.process.peakMemory - before).to.be.lessThan(64 * MEGABYTE);
    const { rows } = await blocker.query('SELECT count(*)::int AS n FROM locked');
    expect(rows).to.deep.equal([{ n: total }]);
    await blocker.query('DROP TABLE locked');
    await client.end();
    await blocker.end();
  });

  it('that is cut off in the middle ends its backend', async () => {
    const client = await loginRaw();
    client.socket.write(serialize.query('SELECT 1; BEGIN'));
    await client.until('Z');
    const { pid } = client;
    client.socket.destroy();
    await eventually(async () => {
      const { rows } = await server.admin.query('SELECT FROM pg_stat_activity WHERE pid = $1', [
        pid,
      ]);
      expect(rows).to.have.length(0);
    });
    await rejectionOf(client.until('Z'));
  });
});
