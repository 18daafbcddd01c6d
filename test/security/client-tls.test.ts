// TLS between client and proxy: who gets it, who must have it, and how it begins.
import { expect } from 'chai';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { copyFile, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { serialize } from 'pg-protocol';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer } from '../support/auth-server.ts';
import { certificates, hasOpenssl } from '../support/certificates.ts';
import { drivers, psqlEnvironment, WHO_LAUNCHES, type Login } from '../support/drivers.ts';
import { eventually } from '../support/eventually.ts';
import { firstPacket, message, zeroTerminated } from '../support/messages.ts';
import { hasPsql, runPsql } from '../support/psql.ts';
import { rejectionOf } from '../support/rejection.ts';
import {
  askForTls,
  dial,
  dialTls,
  GSSENC_REQUEST,
  nextBytes,
  restOf,
  SSL_REQUEST,
  startTls,
} from '../support/tls-client.ts';
import { fieldsOf, RawClient, type RawMessage } from '../support/wire.ts';

describe('TLS towards the client', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let off: RunningProxy;
  let allow: RunningProxy;
  let require: RunningProxy;
  let certFile: string;
  let keyFile: string;

  before(async function () {
    if (!hasOpenssl) this.skip();
    server = await AuthServer.start(['host all all 127.0.0.1/32 scram-sha-256']);
    await server.createRole({ name: 'app', password: 'secret' });
    proxies = await AuthProxies.create(server);
    await proxies.install('app');
    certFile = join(proxies.folder, 'proxy.crt');
    keyFile = join(proxies.folder, 'proxy.key');
    await copyFile(certificates().server.certFile, certFile);
    await copyFile(certificates().server.keyFile, keyFile);
    const files = ['--client-tls-cert-file', certFile, '--client-tls-key-file', keyFile];
    off = await proxies.start();
    allow = await proxies.start({ options: files });
    require = await proxies.start({ options: [...files, '--client-tls-sslmode', 'require'] });
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  const plain = (proxy: RunningProxy): Login => proxy.login('app', 'secret');
  const secure = (proxy: RunningProxy): Login => {
    const { certFile: caFile, cert: ca } = certificates().authority;
    return proxy.login('app', 'secret', { host: 'localhost', tls: { caFile, ca } });
  };
  const trusting = () => ({ ca: certificates().authority.cert });
  const startup = () => serialize.startup({ user: 'app', database: server.database });

  for (const driver of drivers) {
    it(`lets ${driver.name} choose where TLS is allowed`, async function () {
      if (!driver.isPresent) this.skip();
      expect(await driver.value(plain(allow), WHO_LAUNCHES)).to.equal('app as app');
      expect(await driver.value(secure(allow), WHO_LAUNCHES)).to.equal('app as app');
    });

    it(`takes ${driver.name} only with TLS where it is required`, async function () {
      if (!driver.isPresent) this.skip();
      expect(await driver.value(secure(require), WHO_LAUNCHES)).to.equal('app as app');
      const refusal = await rejectionOf(driver.value(plain(require), 'SELECT 1'));
      expect(refusalText(refusal)).to.match(/^(psql: .*FATAL: |28000$)/);
    });

    it(`gives ${driver.name} no TLS where it is off`, async function () {
      if (!driver.isPresent) this.skip();
      expect(await driver.value(plain(off), WHO_LAUNCHES)).to.equal('app as app');
      await rejectionOf(driver.value(secure(off), 'SELECT 1'));
    });
  }

  it('serves every sslmode of psql but those that ask for more than there is', async function () {
    if (!hasPsql) this.skip();
    const root = certificates().authority.certFile;
    const codes: Record<string, (number | null)[]> = {};
    for (const mode of ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full']) {
      codes[mode] = [];
      for (const proxy of [off, allow, require]) {
        const environment = {
          ...psqlEnvironment(secure(proxy)),
          PGSSLMODE: mode,
          PGSSLROOTCERT: root,
        };
        const { code } = await runPsql('', 'SELECT 1', ['-A', '-t'], environment);
        codes[mode]?.push(code);
      }
    }
    expect(codes).to.deep.equal({
      disable: [0, 0, 2],
      allow: [0, 0, 0],
      prefer: [0, 0, 0],
      require: [2, 0, 0],
      'verify-ca': [2, 0, 0],
      'verify-full': [2, 0, 0],
    });
  });

  it('tells a client without TLS that it is required, and asks it no password', async () => {
    const client = await RawClient.connect(require.port);
    client.listen();
    client.socket.write(startup());
    await client.closed();
    expect(client.messages.map(({ type }) => type)).to.deep.equal(['E']);
    const fields = fieldsOf(client.messages[0] as RawMessage);
    expect([fields['S'], fields['C']]).to.deep.equal(['FATAL', '28000']);
  });

  it('answers a request for GSS encryption with N and goes on', async () => {
    const socket = await dial(allow.port);
    socket.write(GSSENC_REQUEST);
    expect((await nextBytes(socket)).toString('latin1')).to.equal('N');
    expect(await askForTls(socket)).to.equal('S');
    await expectPasswordQuestion(RawClient.over(await startTls(socket, trusting())));
  });

  it('refuses TLS 1.1, and speaks 1.2 and 1.3', async () => {
    await rejectionOf(
      dialTls(allow.port, {
        ...trusting(),
        minVersion: 'TLSv1',
        maxVersion: 'TLSv1.1',
        ciphers: 'DEFAULT@SECLEVEL=0',
      }),
    );
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const socket = await dialTls(allow.port, {
        ...trusting(),
        minVersion: version,
        maxVersion: version,
      });
      expect(socket.getProtocol()).to.equal(version);
      await expectPasswordQuestion(RawClient.over(socket));
    }
  });

  it('begins with TLS at once for a client that names the protocol', async () => {
    for (const ALPNProtocols of [['postgresql'], ['http/1.1', 'postgresql']]) {
      const socket = await startTls(await dial(allow.port), { ...trusting(), ALPNProtocols });
      expect(socket.alpnProtocol).to.equal('postgresql');
      await expectPasswordQuestion(RawClient.over(socket));
    }
  });

  it('names the protocol behind an SSLRequest too, to a client that asks', async () => {
    const socket = await dialTls(allow.port, { ...trusting(), ALPNProtocols: ['postgresql'] });
    expect(socket.alpnProtocol).to.equal('postgresql');
    await expectPasswordQuestion(RawClient.over(socket));
  });

  it('ends a connection that begins with TLS and does not name the protocol', async () => {
    for (const options of [{}, { ALPNProtocols: ['http/1.1'] }]) {
      const dialled = await dial(allow.port);
      const socket = await startTls(dialled, { ...trusting(), ...options }).catch(() => undefined);
      socket?.write(startup());
      const answer = socket === undefined ? Buffer.alloc(0) : await restOf(socket);
      expect(answer[0], 'a question for the password').not.to.equal('R'.charCodeAt(0));
    }
  });

  it('ends a connection that begins with TLS where it is off', async () => {
    const socket = await dial(off.port);
    await rejectionOf(startTls(socket, { ...trusting(), ALPNProtocols: ['postgresql'] }));
  });

  for (const [what, more] of [
    ['a second request for TLS', SSL_REQUEST],
    ['a request for GSS encryption', GSSENC_REQUEST],
  ] as const) {
    it(`ends a connection with ${what} inside TLS`, async () => {
      const socket = await dialTls(allow.port, trusting());
      socket.write(more);
      // Not the N of one who would still negotiate.
      const answer = await nextBytes(socket);
      expect(answer.toString('latin1')).to.match(/^E.*SFATAL\0.*C08P01\0/s);
      expect(await restOf(socket)).to.have.length(0);
    });
  }

  it('ends a connection with the second request of a kind that was answered N', async () => {
    for (const [first, second] of [
      [SSL_REQUEST, SSL_REQUEST],
      [GSSENC_REQUEST, GSSENC_REQUEST],
    ] as const) {
      const socket = await dial(off.port);
      socket.write(first);
      expect((await nextBytes(socket)).toString('latin1')).to.equal('N');
      socket.write(second);
      const answer = await restOf(socket);
      expect(answer.toString('latin1')).to.match(/^E.*SFATAL\0.*C08P01\0/s);
    }
  });

  it('ends a connection with plain bytes behind a request for TLS', async () => {
    for (const behind of [startup(), SSL_REQUEST, Buffer.from('x'), firstPacket(80877102)]) {
      const socket = await dial(allow.port);
      socket.write(Buffer.concat([SSL_REQUEST, behind]));
      const answer = (await restOf(socket)).toString('latin1');
      expect(answer).to.match(/^S?E.*SFATAL\0.*C08P01\0/s);
    }
  });

  it('ends a session in which bytes arrive that are not of its TLS', async () => {
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const dialled = await dial(allow.port);
      expect(await askForTls(dialled)).to.equal('S');
      const versions = { minVersion: version, maxVersion: version };
      const client = RawClient.over(await startTls(dialled, { ...trusting(), ...versions }));
      await logIn(client);
      // As somebody in between can write them: a record that nobody has encrypted.
      dialled.write(Buffer.concat([Buffer.from([0x17, 3, 3, 0, 40]), Buffer.alloc(40, 7)]));
      await eventually(async () => {
        expect(await server.backendsOf('app'), 'sessions that are left').to.deep.equal([]);
      });
      client.socket.destroy();
    }
  });

  it('does not begin a handshake again within TLS 1.2', async () => {
    const socket = await dialTls(allow.port, { ...trusting(), maxVersion: 'TLSv1.2' });
    await logIn(RawClient.over(socket));
    const again = new Promise<void>((resolve, reject) => {
      socket.once('close', () => reject(new Error('closed')));
      socket.once('error', reject);
      socket.renegotiate({}, (error) => (error === null ? resolve() : reject(error)));
    });
    await rejectionOf(again);
    socket.destroy();
  });

  it('shows a certificate that was replaced to the next client, and keeps it before a broken one', async () => {
    const fingerprint = async () => {
      const socket = await dialTls(allow.port, trusting());
      const { fingerprint256 } = socket.getPeerCertificate();
      await expectPasswordQuestion(RawClient.over(socket));
      return fingerprint256;
    };
    const living = RawClient.over(await dialTls(allow.port, trusting()));
    const before = await fingerprint();
    expect(await fingerprint()).to.equal(before);
    const { renewed } = certificates();
    await copyFile(renewed.certFile, certFile);
    // Half of the change is none: the certificate is not that of the old key.
    expect(await fingerprint()).to.equal(before);
    await copyFile(renewed.keyFile, keyFile);
    const after = await fingerprint();
    expect(after).not.to.equal(before);
    for (const broken of ['', 'no certificate', certificates().server.cert]) {
      const logged = allow.process.stderr.length;
      await writeFile(certFile, broken);
      expect(await fingerprint()).to.equal(after);
      await eventually(async () => {
        expect(allow.process.stderr.slice(logged)).to.match(/"level":[45]0.*proxy\.crt/);
      });
    }
    await copyFile(renewed.certFile, certFile);
    expect(await fingerprint()).to.equal(after);
    await expectPasswordQuestion(living);
  });

  it('follows links to a folder of certificates that is exchanged as a whole', async () => {
    // As Kubernetes renews a secret.
    const { server: old, renewed } = certificates();
    for (const [name, pair] of Object.entries({ old, renewed })) {
      const folder = join(proxies.folder, name);
      await mkdir(folder);
      await copyFile(pair.certFile, join(folder, 'tls.crt'));
      await copyFile(pair.keyFile, join(folder, 'tls.key'));
    }
    const link = join(proxies.folder, 'data');
    await symlink('old', link);
    const files = ['--client-tls-cert-file', join(link, 'tls.crt')];
    const proxy = await proxies.start({
      options: [...files, '--client-tls-key-file', join(link, 'tls.key')],
    });
    const shown = async () => {
      const socket = await dialTls(proxy.port, trusting());
      const { raw } = socket.getPeerX509Certificate() ?? {};
      socket.destroy();
      return raw?.toString('base64');
    };
    const derOf = ({ cert }: { cert: string }) => new X509Certificate(cert).raw.toString('base64');
    expect(await shown()).to.equal(derOf(old));
    await symlink('renewed', `${link}.new`);
    await rename(`${link}.new`, link);
    expect(await shown()).to.equal(derOf(renewed));
    await proxy.process.stop();
  });

  it('stops also where a client has gone while its certificate was read', async () => {
    const { cert, certFile: good, keyFile: key } = certificates().server;
    const file = join(proxies.folder, 'slow.crt');
    await copyFile(good, file);
    const { process, port } = await proxies.start({
      options: ['--client-tls-cert-file', file, '--client-tls-key-file', key],
    });
    // Nobody can read it before it is written.
    await rm(file);
    execFileSync('mkfifo', [file]);
    const client = await dial(port);
    expect(await askForTls(client)).to.equal('S');
    const ended = process.stop();
    await restOf(client);
    await writeFile(file, cert);
    const patience = new Promise((resolve) => setTimeout(resolve, 5_000, 'it goes on').unref());
    expect(await Promise.race([ended, patience])).to.equal(0);
  });

  it('does not start with files that are missing, broken or not a pair', async () => {
    const { server: good, renewed } = certificates();
    const broken = await proxies.file('broken.crt', 'no certificate');
    for (const [cert, key] of [
      [join(proxies.folder, 'missing.crt'), good.keyFile],
      [good.certFile, join(proxies.folder, 'missing.key')],
      [broken, good.keyFile],
      [good.certFile, renewed.keyFile],
    ] as const) {
      const process = proxies.launch({
        options: ['--client-tls-cert-file', cert, '--client-tls-key-file', key],
      });
      expect(await process.ended).to.equal(1);
      expect(process.stderr).to.match(/^error: .*--client-tls-/m);
    }
    for (const options of [
      ['--client-tls-sslmode', 'require'],
      ['--client-tls-sslmode', 'allow'],
      ['--client-tls-cert-file', good.certFile],
      ['--client-tls-sslmode', 'nonsense'],
    ]) {
      const process = proxies.launch({ options });
      expect(await process.ended).to.equal(1);
      expect(process.stderr).to.match(/^error: .*client-tls/m);
    }
  });

  async function logIn(client: RawClient): Promise<void> {
    client.listen();
    client.socket.write(startup());
    await client.until('R');
    client.socket.write(message('p', zeroTerminated('secret')));
    await client.until('Z');
  }

  /** Goes as far as the proxy's question, and leaves. */
  async function expectPasswordQuestion(client: RawClient): Promise<void> {
    client.listen();
    client.socket.write(startup());
    const [question] = await client.untilOneOf('RE');
    expect([question?.type, question?.body.readInt32BE(0)]).to.deep.equal(['R', 3]);
    client.socket.destroy();
  }
});

/** What psql has printed, or the code that a driver was given. */
function refusalText(refusal: unknown): string {
  const { code, message } = refusal as Error & { code?: string };
  return code ?? message;
}
