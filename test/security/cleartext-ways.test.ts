// Where a password may be asked for in clear: in TLS, on a Unix socket, on this machine.
import { expect } from 'chai';
import { existsSync, statSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { serialize } from 'pg-protocol';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer, loginErrorOf } from '../support/auth-server.ts';
import { certificates, hasOpenssl, outsideAddress } from '../support/certificates.ts';
import { drivers, psqlEnvironment, WHO_LAUNCHES } from '../support/drivers.ts';
import { Forwarder } from '../support/forwarder.ts';
import { hasPsql, runPsql } from '../support/psql.ts';
import { askForTls, dial, startTls } from '../support/tls-client.ts';
import { fieldsOf, RawClient, type RawMessage } from '../support/wire.ts';

describe('the question for a cleartext password', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let proxy: RunningProxy;
  let socketFolder: string;

  before(async function () {
    if (!hasOpenssl) this.skip();
    server = await AuthServer.start(['host all all 127.0.0.1/32 scram-sha-256']);
    await server.createRole({ name: 'app', password: 'secret' });
    proxies = await AuthProxies.create(server);
    await proxies.install('app');
    socketFolder = join(proxies.folder, 'sockets');
    await mkdir(socketFolder);
    const { outside } = certificates();
    proxy = await proxies.start({
      options: [
        ...['--listen', '0.0.0.0:0', '--unix-socket-dir', socketFolder],
        ...['--client-tls-cert-file', outside.certFile, '--client-tls-key-file', outside.keyFile],
      ],
    });
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  const startup = () => serialize.startup({ user: 'app', database: server.database });

  /** What the proxy says to a startup packet first. */
  async function firstWord(client: RawClient): Promise<RawMessage> {
    client.listen();
    client.socket.write(startup());
    const word = (await client.untilOneOf('RE'))[0] as RawMessage;
    client.socket.destroy();
    return word;
  }

  it('is not asked of another machine without TLS, which is told why', async function () {
    if (outsideAddress === undefined) this.skip(); // this machine has loopback only
    const word = await firstWord(await RawClient.connect(proxy.port, outsideAddress));
    expect(word.type).to.equal('E');
    const { S, C, M, D, H } = fieldsOf(word);
    expect([S, C]).to.deep.equal(['FATAL', '28000']);
    expect(`${M} ${D} ${H}`).to.match(/tls|ssl|encrypt/i);
  });

  it('is asked of another machine in TLS', async function () {
    if (outsideAddress === undefined) this.skip();
    const socket = await dial(proxy.port, outsideAddress);
    expect(await askForTls(socket)).to.equal('S');
    const word = await firstWord(
      RawClient.over(
        await startTls(socket, {
          ca: certificates().authority.cert,
          servername: '',
          host: outsideAddress,
        }),
      ),
    );
    expect([word.type, word.body.readInt32BE(0)]).to.deep.equal(['R', 3]);
    if (!hasPsql) return;
    const { certFile: caFile, cert: ca } = certificates().authority;
    const login = proxy.login('app', 'secret', { host: outsideAddress, tls: { caFile, ca } });
    expect(await drivers[0]?.value(login, WHO_LAUNCHES)).to.equal('app as app');
  });

  it('is asked on loopback without TLS, whatever the proxy listens on', async () => {
    expect(await drivers[1]?.value(proxy.login('app', 'secret'), WHO_LAUNCHES)).to.equal(
      'app as app',
    );
  });

  it('is asked of an IPv4 client of loopback that comes by IPv6, and of no other', async function () {
    const dual = await proxies.start({ options: ['--listen', '[::]:0'] }).catch(() => undefined);
    if (dual === undefined) this.skip(); // no IPv6 here
    const word = await firstWord(await RawClient.connect(dual.port, '127.0.0.1'));
    expect([word.type, word.body.readInt32BE(0)]).to.deep.equal(['R', 3]);
    if (outsideAddress !== undefined) {
      const refusal = await firstWord(await RawClient.connect(dual.port, outsideAddress));
      expect([refusal.type, fieldsOf(refusal)['C']]).to.deep.equal(['E', '28000']);
    }
    await dual.process.stop();
  });

  it('is asked on a Unix socket, which clients find by the port', async function () {
    const path = join(socketFolder, `.s.PGSQL.${proxy.port}`);
    expect(statSync(path).isSocket()).to.equal(true);
    const login = proxy.login('app', 'secret', { host: socketFolder });
    expect(await drivers[1]?.value(login, WHO_LAUNCHES)).to.equal('app as app');
    expect((await loginErrorOf({ ...login, password: 'wrong' })).code).to.equal('28P01');
    if (!hasPsql) return;
    expect(await drivers[0]?.value(login, WHO_LAUNCHES)).to.equal('app as app');
    // libpq asks for no TLS there; one that does is told that there is none.
    const { code } = await runPsql('', 'SELECT 1', ['-A', '-t'], {
      ...psqlEnvironment(login),
      PGSSLMODE: 'prefer',
    });
    expect(code).to.equal(0);
  });

  it('is asked on a Unix socket where TLS is required of the others', async () => {
    const { server: good } = certificates();
    const strict = await proxies.start({
      options: [
        ...['--client-tls-sslmode', 'require', '--unix-socket-dir', socketFolder],
        ...['--client-tls-cert-file', good.certFile, '--client-tls-key-file', good.keyFile],
      ],
    });
    const path = join(socketFolder, `.s.PGSQL.${strict.port}`);
    const login = strict.login('app', 'secret', { host: socketFolder });
    expect(await drivers[1]?.value(login, WHO_LAUNCHES)).to.equal('app as app');
    expect((await loginErrorOf(strict.login('app', 'secret'))).code).to.equal('28000');
    await strict.process.stop();
    expect(existsSync(path), 'the socket of a proxy that has ended').to.equal(false);
  });

  it('is asked on the socket that a killed proxy has left behind', async () => {
    const options = ['--unix-socket-dir', socketFolder];
    const killed = await proxies.start({ options });
    await killed.process.stop('SIGKILL');
    const path = join(socketFolder, `.s.PGSQL.${killed.port}`);
    expect(existsSync(path)).to.equal(true);
    const next = await proxies.start({
      options: [...options, '--listen', `127.0.0.1:${killed.port}`],
    });
    const login = next.login('app', 'secret', { host: socketFolder });
    expect(await drivers[1]?.value(login, 'SELECT session_user')).to.equal('app');
    await next.process.stop();
  });

  it('does not take over the socket of a proxy that lives', async () => {
    const folder = join(proxies.folder, 'taken');
    await mkdir(folder);
    const blocker = await Forwarder.start(server, { host: '127.0.0.1' });
    const { port } = blocker;
    await blocker.stop();
    const other = await Forwarder.start(server, { path: join(folder, `.s.PGSQL.${port}`) });
    const process = proxies.launch({
      options: ['--unix-socket-dir', folder, '--listen', `127.0.0.1:${port}`],
    });
    expect(await process.ended).to.equal(1);
    expect(process.stderr).to.match(/^error: .*unix-socket-dir/m);
    const socket = connectTcp(join(folder, `.s.PGSQL.${port}`));
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    socket.destroy();
    await other.stop();
  });

  it('leaves alone what stands where its socket would be, and is none', async () => {
    const folder = join(proxies.folder, 'occupied');
    await mkdir(folder);
    const blocker = await Forwarder.start(server, { host: '127.0.0.1' });
    const { port } = blocker;
    await blocker.stop();
    const path = join(folder, `.s.PGSQL.${port}`);
    await writeFile(path, 'of somebody');
    const process = proxies.launch({
      options: ['--unix-socket-dir', folder, '--listen', `127.0.0.1:${port}`],
    });
    expect(await process.ended).to.equal(1);
    expect(await readFile(path, 'utf8')).to.equal('of somebody');
  });

  it('has no socket at a path that the system would cut off', async () => {
    const folder = join(proxies.folder, 'x'.repeat(100));
    await mkdir(folder);
    const process = proxies.launch({ options: ['--unix-socket-dir', folder] });
    expect(await process.ended).to.equal(1);
    expect(process.stderr).to.include('the path of a Unix socket may have 103 bytes');
    expect(await readdir(folder)).to.deep.equal([]);
  });
});
