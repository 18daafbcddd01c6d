// Trust: nobody is asked anything, neither by the proxy nor by the server; and where that is allowed.
import { expect } from 'chai';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer, loginErrorOf } from '../support/auth-server.ts';
import { drivers, WHO_LAUNCHES } from '../support/drivers.ts';

describe('trust', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let proxy: RunningProxy;

  before(async () => {
    server = await AuthServer.start([
      'host app unasked 127.0.0.1/32 trust',
      'host app asked_md5 127.0.0.1/32 md5',
      'host app asked_cleartext 127.0.0.1/32 password',
      'host app asked_scram 127.0.0.1/32 scram-sha-256',
    ]);
    await server.createRole({ name: 'asked_md5', password: 'secret', encryption: 'md5' });
    for (const name of ['unasked', 'asked_cleartext', 'asked_scram'])
      await server.createRole({ name, password: 'secret' });
    proxies = await AuthProxies.create(server);
    await proxies.install('unasked');
    proxy = await proxies.start({ options: ['--auth-type', 'trust'] });
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  for (const driver of drivers) {
    it(`lets ${driver.name} and its worker in where the server asks nothing`, async function () {
      if (!driver.isPresent) this.skip();
      expect(await driver.value(proxy.login('unasked', ''), WHO_LAUNCHES)).to.equal(
        'unasked as unasked',
      );
    });
  }

  it('has no answer for a server that asks, and says what to do', async () => {
    for (const role of ['asked_md5', 'asked_cleartext', 'asked_scram']) {
      const error = await loginErrorOf(proxy.login(role, 'secret'));
      expect([error.severity, error.code]).to.deep.equal(['FATAL', '28000']);
      expect(error.hint)
        .to.match(/scram/)
        .and.match(/passthrough/);
      expect(await server.backendsOf(role)).to.deep.equal([]);
    }
  });

  for (const listen of ['0.0.0.0:0', '[::]:0', '192.0.2.77:0', 'db.example.com:0']) {
    it(`is refused at the start on ${listen}, unless somebody insists`, async () => {
      const refused = proxies.launch({ options: ['--auth-type', 'trust', '--listen', listen] });
      expect(await refused.ended).to.equal(1);
      expect(refused.stderr).to.match(/^error: .*--insecure-trust/m);
    });
  }

  it('is taken on another address from somebody who insists', async () => {
    const insistent = await proxies.start({
      options: ['--auth-type', 'trust', '--listen', '0.0.0.0:0', '--insecure-trust'],
    });
    expect(await drivers[1]?.value(insistent.login('unasked', ''), WHO_LAUNCHES)).to.equal(
      'unasked as unasked',
    );
    await insistent.process.stop();
  });

  it('is taken on every name of loopback', async () => {
    for (const listen of ['localhost:0', '127.0.0.1:0', '127.0.0.2:0', '[::1]:0']) {
      const started = await proxies.start({
        options: ['--auth-type', 'trust', '--listen', listen],
      });
      await started.process.stop();
    }
  });

  it('is not what a proxy falls back to', async () => {
    for (const options of [
      ['--auth-type', 'scram'],
      ['--auth-type', 'passthrough', '--auth-file', '/nowhere'],
      ['--auth-type', 'trust', '--auth-file', '/nowhere'],
      ['--auth-file', '/nowhere'],
      ['--auth-query', 'SELECT 1, 2'],
      ['--auth-type', 'any'],
    ]) {
      const process = proxies.launch({ options });
      expect(await process.ended, options.join(' ')).to.equal(1);
      expect(process.stderr).to.match(/^error: .*--auth-/m);
    }
  });
});
