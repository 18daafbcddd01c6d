import { expect } from 'chai';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer } from '../support/auth-server.ts';
import { certificates, hasOpenssl } from '../support/certificates.ts';

/** A server that asks for a password, and a proxy of each kind that does so too, in TLS. */
interface Logins {
  readonly server: AuthServer;
  readonly proxies: AuthProxies;
  readonly byScram: RunningProxy;
  readonly byPassword: RunningProxy;
}

let started: Promise<Logins> | undefined;

/** What a connection string says of TLS; the certificate is that of the authority. */
type TlsParameters = (caFile: string) => string;

const verifyFull: TlsParameters = (caFile) =>
  `sslmode=verify-full&sslrootcert=${encodeURIComponent(caFile)}`;

/** Tests of a client that must log in: in TLS, with what its connection string says of that. */
export function itLogsIn(
  /** Gives the session's user and that of a worker that it has launched. */
  run: (url: string) => Promise<unknown>,
  parameters = verifyFull,
): void {
  const logIn = async (url: string) => {
    expect(Object.values((await run(url)) as object)).to.deep.equal(['app', 'app']);
  };
  itInTls('login by SCRAM-SHA-256, in TLS', 'byScram', parameters, logIn);
  itInTls('login by a password that is passed through, in TLS', 'byPassword', parameters, logIn);
}

/** A test of what a client does in a session in TLS, for which it may open another, with or without TLS. */
export function itCancelsInTls(
  run: (url: string) => Promise<unknown>,
  expected: unknown,
  parameters = verifyFull,
): void {
  itInTls('cancel of a session in TLS', 'byScram', parameters, async (url) => {
    expect(await run(url)).to.deep.equal(expected);
  });
}

function itInTls(
  title: string,
  kind: 'byScram' | 'byPassword',
  parameters: TlsParameters,
  body: (url: string) => Promise<void>,
): void {
  if (!hasOpenssl) {
    it(`${title} (needs openssl)`);
    return;
  }
  it(title, async () => {
    const { port } = (await (started ??= start()))[kind];
    const { certFile } = certificates().authority;
    await body(`postgres://app:secret@localhost:${port}/app?${parameters(certFile)}`);
  });
}

after(async () => {
  const { server, proxies } = (await started) ?? {};
  await proxies?.stop();
  await server?.stop();
});

async function start(): Promise<Logins> {
  const server = await AuthServer.start(['host all all 127.0.0.1/32 scram-sha-256']);
  await server.createRole({ name: 'app', password: 'secret' });
  const proxies = await AuthProxies.create(server);
  await proxies.install('app');
  const { certFile, keyFile } = certificates().server;
  const tls = [
    ...['--client-tls-sslmode', 'require'],
    ...['--client-tls-cert-file', certFile, '--client-tls-key-file', keyFile],
  ];
  const users = await proxies.file('users.txt', `"app" "${await server.verifierOf('app')}"`);
  return {
    server,
    proxies,
    byScram: await proxies.start({ options: [...tls, '--auth-file', users] }),
    byPassword: await proxies.start({ options: tls }),
  };
}
