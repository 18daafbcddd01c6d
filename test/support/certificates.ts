import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';

/** Whether there is an `openssl` command; CI installs one. */
export const hasOpenssl = (() => {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

/** A certificate and its key, as files and as PEM text. */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: string;
  readonly key: string;
}

/** What one certificate authority and its rival have signed, in a temporary folder. */
export interface Certificates {
  readonly folder: string;
  readonly authority: Certificate;
  /** Another authority, which nobody should trust. */
  readonly rival: Certificate;
  /** For localhost and 127.0.0.1. */
  readonly server: Certificate;
  /** For the same, with another key. */
  readonly renewed: Certificate;
  /** For a host of another name. */
  readonly wrongName: Certificate;
  /** For localhost, and over since yesterday. */
  readonly expired: Certificate;
  /** For localhost, signed by the rival. */
  readonly untrusted: Certificate;
  /** For the addresses of this machine that are not loopback. */
  readonly outside: Certificate;
  /** Of a client: its common name is the role. */
  client(role: string, signer?: Certificate): Certificate;
}

let made: Certificates | undefined;

/** The certificates of this test process, made when they are first asked for and removed at its end. */
export function certificates(): Certificates {
  made ??= makeCertificates();
  return made;
}

/** An IPv4 address of this machine that is not loopback, if it has one. */
export const outsideAddress: string | undefined = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;

const LOCAL_NAMES = ['DNS:localhost', 'IP:127.0.0.1'];

function makeCertificates(): Certificates {
  const folder = mkdtempSync(join(tmpdir(), 'pgbg-certificates-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  // The embedded server may run as another user, and reads the authority's certificate here.
  chmodSync(folder, 0o755);
  const authority = makeAuthority(folder, 'authority');
  const rival = makeAuthority(folder, 'rival');
  const clients = new Map<string, Certificate>();
  return {
    folder,
    authority,
    rival,
    server: sign(folder, 'server', authority, LOCAL_NAMES),
    renewed: sign(folder, 'renewed', authority, LOCAL_NAMES),
    wrongName: sign(folder, 'wrong-name', authority, ['DNS:elsewhere.example']),
    expired: sign(folder, 'expired', authority, LOCAL_NAMES, '-1'),
    untrusted: sign(folder, 'untrusted', rival, LOCAL_NAMES),
    outside: sign(folder, 'outside', authority, [`IP:${outsideAddress ?? '192.0.2.1'}`]),
    client(role, signer = authority) {
      const name = `client-${role}-${signer === authority ? 'good' : 'bad'}`;
      const client = clients.get(name) ?? sign(folder, name, signer, [], '2', role);
      clients.set(name, client);
      return client;
    },
  };
}

function makeAuthority(folder: string, name: string): Certificate {
  openssl(folder, [
    ...['req', '-x509', '-nodes', '-days', '2', ...NEW_KEY],
    ...['-subj', `/CN=${name} of the tests`, '-keyout', `${name}.key`, '-out', `${name}.crt`],
    ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
  ]);
  return written(folder, name);
}

function sign(
  folder: string,
  name: string,
  signer: Certificate,
  names: readonly string[],
  days = '2',
  commonName = name,
): Certificate {
  openssl(folder, [
    ...['req', '-new', '-nodes', ...NEW_KEY],
    ...['-subj', `/CN=${commonName}`, '-keyout', `${name}.key`, '-out', `${name}.csr`],
  ]);
  writeFileSync(
    join(folder, `${name}.ext`),
    names.length > 0 ? `subjectAltName=${names.join(',')}\n` : 'basicConstraints=CA:FALSE\n',
  );
  openssl(folder, [
    ...['x509', '-req', '-in', `${name}.csr`, '-out', `${name}.crt`, '-days', days],
    ...['-CA', signer.certFile, '-CAkey', signer.keyFile, '-CAcreateserial'],
    ...['-extfile', `${name}.ext`],
  ]);
  return written(folder, name);
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];

function openssl(folder: string, options: readonly string[]): void {
  execFileSync('openssl', options, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
}

function written(folder: string, name: string): Certificate {
  const certFile = join(folder, `${name}.crt`);
  const keyFile = join(folder, `${name}.key`);
  return {
    certFile,
    keyFile,
    cert: readFileSync(certFile, 'utf8'),
    key: readFileSync(keyFile, 'utf8'),
  };
}
