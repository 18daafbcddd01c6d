import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import { isCustomSetting } from '../src/index.ts';

/** A fault in what the operator said: its message is one line that names the option. */
export class ConfigError extends Error {}

/** An address to listen on or to connect to. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** A server that runs already, and what its ready line says. */
export interface Upstream extends Address {
  readonly user: string;
  readonly database: string;
}

/** How to run the proxy. */
export interface ProxyConfig {
  readonly listen: Address;
  /** Undefined: start the embedded server. */
  readonly upstream: Upstream | undefined;
  readonly dataDirectory: string | undefined;
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

/** The command line: runs one of the two actions; prints help, version and faults itself, and exits then. */
export function commandLine(actions: {
  run(config: ProxyConfig): Promise<void>;
  printSql(config: SqlConfig): Promise<void>;
}): Command {
  const program = new Command('pg-background-proxy')
    .description(
      'A PostgreSQL proxy that gives any server from 14 to 18 the SQL API of pg_background.',
    )
    .version(version)
    .allowExcessArguments(false)
    .addOption(
      new Option('--listen <host:port>', 'where clients connect')
        .env('PGBG_LISTEN')
        .default('127.0.0.1:6432')
        .argParser(parseAddress),
    )
    .addOption(
      new Option(
        '--upstream <url>',
        'an existing server, postgres://host:port; without it an embedded PostgreSQL 18 is started',
      )
        .env('PGBG_UPSTREAM')
        .argParser(parseUpstream),
    )
    .addOption(
      new Option(
        '--data <folder>',
        "the embedded server's data folder, made when it is missing",
      ).env('PGBG_DATA'),
    )
    .addOption(
      new Option(
        '--secret-file <file>',
        'holds the secret that signs requests; every proxy of a server needs the same (or PGBG_SECRET: the secret itself)',
      ),
    )
    .addOption(
      new Option(
        '--custom-settings <names>',
        'settings like app.tenant that background workers inherit, separated by commas',
      )
        .env('PGBG_CUSTOM_SETTINGS')
        .argParser(parseCustomSettings),
    )
    .addOption(
      new Option('--log-level <level>', 'what is logged on stderr')
        .env('PGBG_LOG_LEVEL')
        .choices(['debug', 'info', 'warn', 'error', 'silent'])
        .default('warn'),
    )
    .action((options: Record<string, unknown>) => actions.run(toConfig(options)));
  program
    .command('sql')
    .description('print the SQL that CREATE EXTENSION pg_background runs; run it through the proxy')
    .option('--schema <name>', 'the schema of the API; without it the first of search_path')
    .option('--drop', 'print what DROP EXTENSION pg_background runs instead')
    .action((options: { schema?: string; drop?: boolean }) => {
      const common = program.opts<Record<string, unknown>>();
      const config = toConfig(common);
      return actions.printSql({
        ...config,
        isEmbedded: config.upstream === undefined,
        schema: options.schema,
        drop: options.drop === true,
      });
    });
  return program;
}

function toConfig(options: Record<string, unknown>): ProxyConfig {
  const text = (name: string) => (typeof options[name] === 'string' ? options[name] : undefined);
  const listen = options['listen'];
  const secret = process.env['PGBG_SECRET'];
  return Object.freeze({
    listen: typeof listen === 'string' ? parseAddress(listen) : (listen as Address),
    upstream: options['upstream'] as Upstream | undefined,
    dataDirectory: text('data'),
    secretFile: text('secretFile'),
    secret: secret === '' ? undefined : secret,
    customSettings: (options['customSettings'] as readonly string[] | undefined) ?? [],
    logLevel: text('logLevel') ?? 'warn',
  });
}

function parseAddress(text: string): Address {
  const [, host, port] = /^(?:(\[[0-9a-f:.]+\]|[^:]+):)?(\d{1,5})$/i.exec(text) ?? [];
  if (port === undefined || Number(port) > 65535) {
    throw new InvalidArgumentError('Expected host:port, for instance 127.0.0.1:6432.');
  }
  return { host: (host ?? '127.0.0.1').replace(/^\[|\]$/g, ''), port: Number(port) };
}

function parseCustomSettings(text: string): readonly string[] {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  const wrong = names.find((name) => !isCustomSetting(name));
  if (wrong !== undefined) {
    throw new InvalidArgumentError(
      `"${wrong}" is no custom setting: expected names with a dot, for instance app.tenant,app.user.`,
    );
  }
  return names;
}

function parseUpstream(text: string): Upstream {
  try {
    const url = new URL(text);
    if (!/^postgres(ql)?:$/.test(url.protocol) || url.hostname === '')
      throw new Error('no address');
    const user = decodeURIComponent(url.username) || 'postgres';
    if (url.password === '' && url.search === '') {
      return {
        host: url.hostname.replace(/^\[|\]$/g, ''),
        port: url.port === '' ? 5432 : Number(url.port),
        user,
        database: decodeURIComponent(url.pathname.slice(1)) || user,
      };
    }
  } catch {
    throw new InvalidArgumentError('Expected postgres://host:port.');
  }
  throw new InvalidArgumentError(
    'Passwords and parameters cannot be used here yet: sessions bring their own, background connections need trust.',
  );
}
