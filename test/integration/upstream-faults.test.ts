// Servers that cannot be believed or understood, and connection strings that cannot.
import { expect } from 'chai';
import { AuthProxies } from '../support/auth-proxies.ts';
import { MuteServer } from '../support/forwarder.ts';
import { report } from '../support/messages.ts';

/** An SSLRequest, in hex. */
const ASKED_FOR_TLS = '0000000804d2162f';

describe('an upstream', () => {
  let proxies: AuthProxies;

  before(async () => {
    proxies = await AuthProxies.create({ host: '127.0.0.1', port: 1, database: 'app' });
  });
  after(() => proxies.stop());

  /** With what error a proxy ends at its start. */
  async function refusalOf(
    parameters: Record<string, string>,
    more: { upstreamPort?: number } = {},
  ): Promise<string> {
    const process = proxies.launch({ parameters, options: ['--auth-type', 'trust'], ...more });
    expect(await process.ended, process.stdout).to.equal(1);
    expect(process.stderr.trim().split('\n')).to.have.length(1);
    return process.stderr;
  }

  for (const [what, answer, says] of [
    ['has no TLS', Buffer.from('N'), /TLS|SSL/],
    [
      'answers with an error, whose words are not believed',
      report('E', 'SFATAL', 'C28P01', 'Mforged by somebody in between'),
      /TLS|SSL/,
    ],
    ['says more before the handshake', Buffer.from('SEforged'), /TLS|SSL|unencrypted|encrypt/i],
  ] as const) {
    it(`is a clear fault where a server ${what}`, async () => {
      const fake = await MuteServer.start(answer);
      const refusal = await refusalOf({ sslmode: 'require' }, { upstreamPort: fake.port });
      expect(refusal).to.match(says);
      expect(refusal).not.to.include('forged');
      // Nothing but the question: no name, no password.
      for (const received of fake.received)
        expect(received.toString('hex')).to.equal(ASKED_FOR_TLS);
      await fake.stop();
    });
  }

  for (const [what, parameters, says] of [
    ['prefer', { sslmode: 'prefer' }, /prefer/],
    ['allow', { sslmode: 'allow' }, /allow/],
    ['an sslmode that does not exist', { sslmode: 'yes' }, /sslmode/],
    ['a root that is missing', { sslmode: 'verify-ca', sslrootcert: '/nowhere.crt' }, /nowhere/],
    ['a certificate without its key', { sslmode: 'require', sslcert: '/c.crt' }, /sslkey/],
  ] as const) {
    it(`is refused at the start with ${what}`, async () => {
      const refusal = await refusalOf({ ...parameters });
      expect(refusal).to.match(says).and.include('--upstream');
    });
  }

  it('with a password is refused at the start, and the password is not repeated', async () => {
    for (const url of [
      'postgres://app:hush@127.0.0.1/app',
      'postgres://127.0.0.1/app?password=hush',
      'postgres://app:hush@127.0.0.1/app?sslmode=prefer',
      'postgres://app:hush@127.0.0.1:99999/app',
      'postgres://app:hush@/app?host=/tmp',
    ]) {
      for (const fromEnvironment of [false, true]) {
        const process = proxies.launch({
          upstream: fromEnvironment ? null : url,
          environment: fromEnvironment ? { PGBG_UPSTREAM: url } : {},
        });
        expect(await process.ended).to.equal(1);
        expect(process.stderr, url).to.include('pstream');
        expect(process.stderr + process.stdout, url).not.to.include('hush');
      }
    }
  });
});
