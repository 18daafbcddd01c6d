import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import type { ClientLimits } from './admission.ts';
import type { AuthType } from './authentication.ts';
import { isLoopback } from './client-connection.ts';
import type { ClientSslMode } from './client-tls.ts';
import type { ConnectionString } from './connection-string.ts';
import { addOptions, type Address } from './options.ts';

/** A fault in what the operator said: its message is one line that names the option. */
export class ConfigError extends Error {}

/** A failure of what an option asks for, with the name of the option. */
export async function naming<T>(option: string, opening: Promise<T>): Promise<T> {
  try {
    return await opening;
  } catch (cause) {
    throw new ConfigError(`${option}: ${(cause as Error).message}`, { cause });
  }
}

/** How to run the proxy. */
export interface ProxyConfig extends ClientLimits {
  readonly listen: Address;
  readonly unixSocketDir: string | undefined;
  /** How many processes serve clients; with one, all is in this. */
  readonly workers: number;
  /** Undefined: start the embedded server. */
  readonly upstream: ConnectionString | undefined;
  readonly dataDirectory: string | undefined;
  readonly authType: AuthType;
  readonly authFile: string | undefined;
  readonly authQuery: string | undefined;
  readonly authUser: string | undefined;
  readonly authDbname: string;
  /** Whether trust is meant where others than this machine can connect. */
  readonly insecureTrust: boolean;
  readonly runAsFile: string | undefined;
  readonly trustedOwners: readonly string[];
  readonly clientTlsSslmode: ClientSslMode;
  readonly clientTlsCertFile: string | undefined;
  readonly clientTlsKeyFile: string | undefined;
  readonly minPoolSize: number;
  readonly maxPoolSize: number;
  readonly serverIdleTimeoutMs: number;
  readonly serverLifetimeMs: number;
  readonly secretFile: string | undefined;
  readonly secret: string | undefined;
  readonly customSettings: readonly string[];
  readonly logLevel: string;
}

/** What `pg-background-proxy sql` prints. */
export interface SqlConfig {
  readonly schema: string | undefined;
  readonly drop: boolean;
  readonly secretFile: string | undefined;
  readonly secret: string | undefined;
  readonly dataDirectory: string | undefined;
  readonly isEmbedded: boolean;
}

const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string };

/** The version of this package. */
export const packageVersion = version;

/** The command line: runs one of the actions; prints help, version and faults itself, and exits then. */
export function commandLine(actions: {
  run(config: ProxyConfig): Promise<void>;
  printConfig(config: ProxyConfig): void;
  printSql(config: SqlConfig): Promise<void>;
  printVerifier(): Promise<void>;
}): Command {
  const program = addOptions(
    new Command('pg-background-proxy')
      .description(
        'A PostgreSQL proxy that gives any server from 14 to 18 the SQL API of pg_background.',
      )
      .version(version)
      .allowExcessArguments(false)
      .configureOutput({ outputError: (text, write) => write(withoutPassword(text)) }),
  ).action(async (options: Options) => {
    const config = toConfig(options);
    if (options['printConfig'] === true) actions.printConfig(config);
    else await actions.run(config);
  });
  program
    .command('verifier')
    .description(
      'read a password from stdin and print a SCRAM verifier for it: for an auth file, and for ALTER ROLE … PASSWORD',
    )
    .action(() => actions.printVerifier());
  program
    .command('sql')
    .description('print the SQL that CREATE EXTENSION pg_background runs; run it through the proxy')
    .option('--schema <name>', 'the schema of the API; without it the first of search_path')
    .option('--drop', 'print what DROP EXTENSION pg_background runs instead')
    .action((options: { schema?: string; drop?: boolean }) => {
      const config = toConfig(program.opts<Options>());
      return actions.printSql({
        ...config,
        isEmbedded: config.upstream === undefined,
        schema: options.schema,
        drop: options.drop === true,
      });
    });
  return program;
}

/** A complaint of commander's repeats the value that is wrong; a connection string may hold a password. */
function withoutPassword(complaint: string): string {
  const named = complaint.replace(/(?<=unknown option '[^=']*=).*(?=')/s, '***');
  return named.replace(/(?<=(?:argument|value) ').*(?=' (?:is invalid|from env))/s, (value) =>
    /@|password/i.test(value) ? '***' : value,
  );
}

type Options = Readonly<Record<string, unknown>>;

/** @throws ConfigError where options do not go together */
function toConfig(options: Options): ProxyConfig {
  const text = (name: string) => (typeof options[name] === 'string' ? options[name] : undefined);
  const upstream = options['upstream'] as ConnectionString | undefined;
  const [authFile, authQuery, authUser] = [text('authFile'), text('authQuery'), text('authUser')];
  const hasUsers = authFile !== undefined || authQuery !== undefined;
  const [certFile, keyFile] = [text('clientTlsCertFile'), text('clientTlsKeyFile')];
  const secret = process.env['PGBG_SECRET'];
  const config: ProxyConfig = {
    listen: options['listen'] as Address,
    unixSocketDir: text('unixSocketDir'),
    workers: Number(options['workers']),
    upstream,
    dataDirectory: text('data'),
    authType:
      (options['authType'] as AuthType | undefined) ??
      (hasUsers ? 'scram' : upstream === undefined ? 'trust' : 'passthrough'),
    authFile,
    authQuery,
    authUser,
    authDbname: text('authDbname') ?? 'postgres',
    insecureTrust: options['insecureTrust'] === true || isSwitchedOn('PGBG_INSECURE_TRUST'),
    runAsFile: text('runAsFile'),
    trustedOwners: (options['trustedOwners'] as readonly string[] | undefined) ?? [],
    clientTlsSslmode:
      (options['clientTlsSslmode'] as ClientSslMode | undefined) ??
      (certFile === undefined ? 'off' : 'allow'),
    clientTlsCertFile: certFile,
    clientTlsKeyFile: keyFile,
    clientLoginTimeoutMs: Number(options['clientLoginTimeout']) * 1_000,
    maxClientConn: Number(options['maxClientConn']),
    maxLogins: Number(options['maxLogins']),
    minPoolSize: Number(options['minPoolSize']),
    maxPoolSize: Number(options['maxPoolSize']),
    serverIdleTimeoutMs: Number(options['serverIdleTimeout']) * 1_000,
    serverLifetimeMs: Number(options['serverLifetime']) * 1_000,
    secretFile: text('secretFile'),
    secret: secret === '' ? undefined : secret,
    customSettings: (options['customSettings'] as readonly string[] | undefined) ?? [],
    logLevel: text('logLevel') ?? 'warn',
  };
  checkAuthentication(config);
  checkClientTls(config);
  return Object.freeze(config);
}

function checkAuthentication(config: ProxyConfig): void {
  const { authType, authFile, authQuery, authUser, listen, insecureTrust } = config;
  if (authType === 'scram' && authFile === undefined && authQuery === undefined)
    throw new ConfigError('--auth-type scram needs users: --auth-file or --auth-query');
  if (authType !== 'scram' && (authFile !== undefined || authQuery !== undefined))
    throw new ConfigError(
      `--auth-file and --auth-query are for --auth-type scram, not ${authType}`,
    );
  if (authQuery !== undefined && !authQuery.includes('$1'))
    throw new ConfigError(
      '--auth-query has no $1, the name of the user: a shell leaves it alone in single quotes',
    );
  if ((authQuery === undefined) !== (authUser === undefined))
    throw new ConfigError('--auth-query and --auth-user belong together');
  if (authType === 'trust' && !isLoopback(listen.host) && !insecureTrust) {
    throw new ConfigError(
      `--auth-type trust lets everybody in who can reach ${listen.host}: listen on 127.0.0.1, or insist with --insecure-trust`,
    );
  }
}

/** A variable of the environment that is a switch: a word for no is no yes. */
function isSwitchedOn(name: string): boolean {
  const value = process.env[name] ?? '';
  if (/^(1|true|yes|on)$/i.test(value)) return true;
  if (/^(0|false|no|off|)$/i.test(value)) return false;
  throw new ConfigError(`${name}: expected 1 or 0`);
}

function checkClientTls(config: ProxyConfig): void {
  const { clientTlsSslmode, clientTlsCertFile, clientTlsKeyFile } = config;
  if ((clientTlsCertFile === undefined) !== (clientTlsKeyFile === undefined))
    throw new ConfigError('--client-tls-cert-file and --client-tls-key-file belong together');
  if (clientTlsSslmode !== 'off' && clientTlsCertFile === undefined) {
    throw new ConfigError(
      `--client-tls-sslmode ${clientTlsSslmode} needs --client-tls-cert-file and --client-tls-key-file`,
    );
  }
}

/** A configuration as JSON, without what is secret. */
export function printableConfig(config: ProxyConfig): string {
  const { secret, ...rest } = config;
  return JSON.stringify({ ...rest, ...(secret !== undefined && { secret: '***' }) }, null, 2);
}
