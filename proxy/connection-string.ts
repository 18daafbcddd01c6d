import { readFile } from 'node:fs/promises';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import type { ServerEndpoint, ServerTls } from '../src/index.ts';
import { isLoopback } from './client-connection.ts';

/** What a connection string says, by libpq's names. */
export interface ConnectionString {
  /** A name, an address, or the folder of a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  readonly sslmode: 'disable' | ServerTls['sslmode'];
  readonly sslrootcert: string | undefined;
  readonly sslcert: string | undefined;
  readonly sslkey: string | undefined;
  readonly connectTimeoutMs: number | undefined;
}

const PARAMETERS: readonly string[] = [
  ...['host', 'port', 'user', 'dbname', 'connect_timeout'],
  ...['sslmode', 'sslrootcert', 'sslcert', 'sslkey'],
];

/** What changes nothing here, with the values with which that is true. */
const OF_NO_EFFECT: Readonly<Record<string, RegExp>> = {
  application_name: /./,
  channel_binding: /^(disable|prefer)$/,
  gssencmode: /^(disable|prefer)$/,
  sslsni: /^1$/,
  target_session_attrs: /^any$/,
};

/** What a timer can measure: a longer time would be over at once. */
export const MAX_SECONDS = 2_147_483;

const EXPECTED = 'Expected postgres://host:port, or ?host=/folder of a Unix socket.';

/**
 * Reads `postgres://user@host:port/database?sslmode=…`. Without an sslmode, a server that is not on
 * this machine's loopback must show a certificate for its name.
 * @throws Error that says in one sentence what is wrong; it repeats no password
 * @see https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
 */
export function parseConnectionString(text: string): ConnectionString {
  try {
    return read(parseUrl(text));
  } catch (error) {
    throw error instanceof URIError ? new Error(EXPECTED) : error;
  }
}

function read(url: URL): ConnectionString {
  if (url.password !== '' || url.searchParams.has('password')) {
    throw new Error(
      'Leave the password out: it would stand in the list of processes, and sessions bring their own.',
    );
  }
  for (const [name, value] of url.searchParams) {
    if (PARAMETERS.includes(name) || OF_NO_EFFECT[name]?.test(value) === true) continue;
    throw new Error(
      name in OF_NO_EFFECT
        ? `${name}=${value} is not to be had.`
        : `The parameter "${name}" is none of ${PARAMETERS.join(', ')}.`,
    );
  }
  const parameter = (name: string) => url.searchParams.get(name) || undefined;
  const host = parameter('host') ?? decodeURIComponent(url.hostname).replace(/^\[|\]$/g, '');
  if (host === '' || host === NO_HOST) throw new Error(EXPECTED);
  const port = Number(parameter('port') ?? (url.port || 5432));
  if (!Number.isInteger(port) || port < 1 || port > 65535)
    throw new Error(`${port} is no port of a server.`);
  const timeout = Number(parameter('connect_timeout') ?? 0);
  if (!Number.isInteger(timeout) || timeout < 0 || timeout > MAX_SECONDS)
    throw new Error('Expected a number of seconds as connect_timeout.');
  const user = parameter('user') ?? (decodeURIComponent(url.username) || 'postgres');
  const database = parameter('dbname') ?? (decodeURIComponent(url.pathname.slice(1)) || user);
  const [sslcert, sslkey] = [parameter('sslcert'), parameter('sslkey')];
  if ((sslcert === undefined) !== (sslkey === undefined))
    throw new Error('sslcert and sslkey belong together.');
  return {
    host,
    port,
    user,
    database,
    sslmode: sslModeOf(
      parameter('sslmode'),
      parameter('sslrootcert'),
      host,
      sslcert !== undefined || parameter('sslrootcert') !== undefined,
    ),
    sslrootcert: parameter('sslrootcert'),
    sslcert,
    sslkey,
    connectTimeoutMs: timeout === 0 ? undefined : timeout * 1_000,
  };
}

/** Reads the files that a connection string names. @throws Error that names the file */
export async function openEndpoint(connection: ConnectionString): Promise<ServerEndpoint> {
  const { host, port, sslmode, sslrootcert, sslcert, sslkey } = connection;
  if (sslmode === 'disable' || host.startsWith('/')) return { host, port };
  const options: SecureContextOptions = { minVersion: 'TLSv1.2' };
  // Without it, or with "system", the roots that Node.js brings along.
  if (sslrootcert !== undefined && sslrootcert !== 'system')
    options.ca = await readFile(sslrootcert);
  if (sslcert !== undefined && sslkey !== undefined) {
    options.cert = await readFile(sslcert);
    options.key = await readFile(sslkey);
  }
  return { host, port, tls: { sslmode, secureContext: createSecureContext(options) } };
}

function parseUrl(text: string): URL {
  if (/^postgres(ql)?:\/\//.test(text)) {
    try {
      // A user without a host, which a URL cannot have: the host stands in the parameters.
      return new URL(text.replace(/^([^/]+:\/\/[^/?]*@)(?=[/?]|$)/, `$1${NO_HOST}`));
    } catch {
      // falls through
    }
  }
  throw new Error(EXPECTED);
}

const NO_HOST = '-';

function sslModeOf(
  sslmode: string | undefined,
  sslrootcert: string | undefined,
  host: string,
  namesFile: boolean,
): ConnectionString['sslmode'] {
  // As libpq: public authorities vouch for names, and give a certificate to everybody who has one.
  if (sslrootcert === 'system' && (sslmode === 'require' || sslmode === 'verify-ca'))
    throw new Error(
      `sslmode=${sslmode} with sslrootcert=system takes anybody's certificate: use sslmode=verify-full.`,
    );
  if (sslrootcert === undefined && sslmode === 'verify-ca')
    throw new Error('sslmode=verify-ca needs sslrootcert.');
  switch (sslmode) {
    case undefined:
      // Whoever names a file for TLS means TLS.
      return host.startsWith('/') || (isLoopback(host) && !namesFile) ? 'disable' : 'verify-full';
    case 'require':
      // As libpq: whoever names a root wants it looked at.
      return sslrootcert === undefined ? 'require' : 'verify-ca';
    case 'disable':
    case 'verify-ca':
    case 'verify-full':
      return sslmode;
    case 'allow':
    case 'prefer':
      throw new Error(
        `sslmode=${sslmode} would go on in the clear without a word: use disable, require, verify-ca or verify-full.`,
      );
    default:
      throw new Error('Expected disable, require, verify-ca or verify-full as sslmode.');
  }
}
