import { InvalidArgumentError, Option, type Command } from 'commander';
import { availableParallelism } from 'node:os';
import { defaultEngineSettings, isCustomSetting } from '../src/index.ts';
import { defaultClientLimits } from './admission.ts';
import { MAX_SECONDS, parseConnectionString, type ConnectionString } from './connection-string.ts';

/** An address to listen on. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Machines have so many processors at most; a mistake must not start thousands of processes. */
const MAX_WORKERS = 1024;

/** An option that a variable of the environment may give as well: PGBG_ and its name. */
function option(flags: string, description: string): Option {
  const built = new Option(flags, description);
  return built.env(`PGBG_${built.name().toUpperCase().replaceAll('-', '_')}`);
}

/** What the command line and the environment may say. */
export function addOptions(program: Command): Command {
  return program
    .addOption(
      option('--listen <host:port>', 'where clients connect')
        .default(parseAddress('127.0.0.1:6432'), '127.0.0.1:6432')
        .argParser(parseAddress),
    )
    .addOption(
      option('--unix-socket-dir <folder>', 'where clients connect as well: .s.PGSQL.<port> in it'),
    )
    .addOption(
      option(
        '--upstream <url>',
        'an existing server, postgres://host:port?sslmode=…&sslrootcert=…&sslcert=…&sslkey=…; ' +
          'without it an embedded PostgreSQL 18 is started',
      ).argParser(parseUpstream),
    )
    .addOption(
      option('--data <folder>', "the embedded server's data folder, made when it is missing"),
    )
    .addOption(
      option(
        '--auth-type <type>',
        'how clients show who they are (default: scram with a list or a query of users, else passthrough; ' +
          'trust for the embedded server)',
      ).choices(['scram', 'passthrough', 'trust']),
    )
    .addOption(
      option(
        '--auth-file <file>',
        'users and their SCRAM verifiers or passwords, in the format of PgBouncer',
      ),
    )
    .addOption(
      option(
        '--auth-query <sql>',
        'gives name and SCRAM verifier of the user $1 who is not in the list',
      ),
    )
    .addOption(
      option(
        '--auth-user <role>',
        'who asks the auth query; a password is taken from the auth file',
      ),
    )
    .addOption(
      option('--auth-dbname <database>', 'where the auth query is asked').default('postgres'),
    )
    .addOption(
      option(
        '--run-as-file <file>',
        'database:role:password on each line: as whom SECURITY DEFINER functions launch workers',
      ),
    )
    .addOption(
      option(
        '--trusted-owners <roles>',
        'owners of the extension, no superusers, whom superusers trust; separated by commas',
      ).argParser(parseNames),
    )
    .addOption(
      option(
        '--client-tls-sslmode <mode>',
        'TLS with clients (default: allow where there is a certificate)',
      ).choices(['off', 'allow', 'require']),
    )
    .addOption(
      option('--client-tls-cert-file <file>', 'certificate for clients, PEM; read again on change'),
    )
    .addOption(option('--client-tls-key-file <file>', 'its key, PEM; read again on change'))
    .addOption(
      option('--client-login-timeout <seconds>', 'how long a login may take in all')
        .default(defaultClientLimits.clientLoginTimeoutMs / 1_000)
        .argParser(parseSeconds),
    )
    .addOption(
      option('--workers <n>', 'how many processes serve clients')
        .default(availableParallelism(), 'one for each processor')
        .argParser(parseWorkers),
    )
    .addOption(
      option('--max-client-conn <n>', 'how many clients there may be')
        .default(defaultClientLimits.maxClientConn)
        .argParser(parseCount),
    )
    .addOption(
      option('--max-logins <n>', 'how many of them may log in at the same time; others wait')
        .default(defaultClientLimits.maxLogins)
        .argParser(parseCount),
    )
    .addOption(
      option(
        '--min-pool-size <n>',
        'server connections kept ready for the next session that launches, for each role and database',
      )
        .default(defaultEngineSettings.minPoolSize)
        .argParser(parseCountFromZero),
    )
    .addOption(
      option('--max-pool-size <n>', 'idle server connections for each role and database')
        .default(defaultEngineSettings.maxPoolSize)
        .argParser(parseCountFromZero),
    )
    .addOption(
      option('--server-idle-timeout <seconds>', 'how long a server connection may be idle')
        .default(defaultEngineSettings.serverIdleTimeoutMs / 1_000)
        .argParser(parseSeconds),
    )
    .addOption(
      option('--server-lifetime <seconds>', 'how old a server connection may be for its next use')
        .default(defaultEngineSettings.serverLifetimeMs / 1_000)
        .argParser(parseSeconds),
    )
    .addOption(
      option(
        '--secret-file <file>',
        'holds the secret that signs requests; every proxy of a server needs the same (or PGBG_SECRET: the secret itself)',
      ),
    )
    .addOption(
      option(
        '--custom-settings <names>',
        'settings like app.tenant that background workers inherit, separated by commas',
      ).argParser(parseCustomSettings),
    )
    .addOption(
      option('--log-level <level>', 'what is logged on stderr')
        .choices(['debug', 'info', 'warn', 'error', 'silent'])
        .default('warn'),
    )
    .addOption(
      new Option(
        '--insecure-trust',
        'allow --auth-type trust where others than this machine can connect (or PGBG_INSECURE_TRUST=1)',
      ),
    )
    .addOption(new Option('--print-config', 'print what would be in force, and end'));
}

function parseAddress(text: string): Address {
  const [, host, port] = /^(?:(\[[0-9a-f:.]+\]|[^:]+):)?(\d{1,5})$/i.exec(text) ?? [];
  if (port === undefined || Number(port) > 65535) {
    throw new InvalidArgumentError('Expected host:port, for instance 127.0.0.1:6432.');
  }
  return { host: (host ?? '127.0.0.1').replace(/^\[|\]$/g, ''), port: Number(port) };
}

function parseUpstream(text: string): ConnectionString {
  try {
    return parseConnectionString(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

function parseCount(text: string): number {
  return parseNumber(text, 1);
}

function parseCountFromZero(text: string): number {
  return parseNumber(text, 0);
}

function parseNumber(text: string, least: number): number {
  if (!/^\d{1,7}$/.test(text) || Number(text) < least)
    throw new InvalidArgumentError(`Expected a whole number from ${least}.`);
  return Number(text);
}

function parseWorkers(text: string): number {
  const workers = parseCount(text);
  if (workers > MAX_WORKERS)
    throw new InvalidArgumentError(`Expected ${MAX_WORKERS} processes at most.`);
  return workers;
}

function parseSeconds(text: string): number {
  const seconds = parseCount(text);
  if (seconds > MAX_SECONDS)
    throw new InvalidArgumentError(`Expected ${MAX_SECONDS} seconds at most.`);
  return seconds;
}

function parseNames(text: string): readonly string[] {
  return text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
}

function parseCustomSettings(text: string): readonly string[] {
  const names = parseNames(text);
  const wrong = names.find((name) => !isCustomSetting(name));
  if (wrong !== undefined) {
    throw new InvalidArgumentError(
      `"${wrong}" is no custom setting: expected names with a dot, for instance app.tenant,app.user.`,
    );
  }
  return names;
}
