import { expect } from 'chai';
import { availableParallelism } from 'node:os';
import { readFileSync } from 'node:fs';
import {
  commandLine,
  ConfigError,
  packageVersion,
  printableConfig,
  type ProxyConfig,
  type SqlConfig,
} from '../../proxy/config.ts';
import { rejectionOf } from '../support/rejection.ts';

const variables = () => Object.keys(process.env).filter((name) => name.startsWith('PGBG_'));

/** What the command line makes of these arguments: a configuration, or what it prints before it exits. */
interface Outcome {
  readonly run?: ProxyConfig;
  readonly printSql?: SqlConfig;
  readonly printed: string;
  readonly exitCode?: number;
}

async function read(...given: readonly string[]): Promise<Outcome> {
  let configs = {};
  let printed = '';
  const program = commandLine({
    run: async (run) => void (configs = { run }),
    printConfig: (run) => void (configs = { run }),
    printVerifier: () => Promise.resolve(),
    printSql: async (printSql) => void (configs = { printSql }),
  });
  for (const command of [program, ...program.commands]) {
    const note = (text: string) => (printed += text);
    command.exitOverride().configureOutput({ writeOut: note, writeErr: note });
  }
  try {
    await program.parseAsync(given, { from: 'user' });
  } catch (error) {
    const { exitCode } = error as { exitCode?: number };
    if (exitCode === undefined) throw error;
    return { printed, exitCode };
  }
  return { ...configs, printed };
}

describe('commandLine', () => {
  let environment: Map<string, string | undefined>;

  beforeEach(() => {
    environment = new Map(variables().map((name) => [name, process.env[name]]));
    for (const name of variables()) delete process.env[name];
  });

  afterEach(() => {
    for (const name of variables()) delete process.env[name];
    for (const [name, value] of environment) process.env[name] = value;
  });

  it('has a default for everything', async () => {
    expect((await read()).run).to.deep.equal({
      listen: { host: '127.0.0.1', port: 6432 },
      unixSocketDir: undefined,
      workers: availableParallelism(),
      upstream: undefined,
      dataDirectory: undefined,
      authType: 'trust',
      authFile: undefined,
      authQuery: undefined,
      authUser: undefined,
      authDbname: 'postgres',
      insecureTrust: false,
      runAsFile: undefined,
      trustedOwners: [],
      clientTlsSslmode: 'off',
      clientTlsCertFile: undefined,
      clientTlsKeyFile: undefined,
      clientLoginTimeoutMs: 60_000,
      maxClientConn: 1_000,
      maxLogins: 100,
      minPoolSize: 1,
      maxPoolSize: 20,
      serverIdleTimeoutMs: 600_000,
      serverLifetimeMs: 3_600_000,
      secretFile: undefined,
      secret: undefined,
      customSettings: [],
      logLevel: 'warn',
    });
  });

  const db = ['--upstream', 'postgres://db'];
  const files = ['--client-tls-cert-file', 'c', '--client-tls-key-file', 'k'];
  const authTypes: readonly (readonly [options: readonly string[], authType: string])[] = [
    [db, 'passthrough'],
    [[...db, '--auth-file', 'users'], 'scram'],
    [[...db, '--auth-query', 'SELECT $1', '--auth-user', 'a'], 'scram'],
    [[...db, '--auth-type', 'trust'], 'trust'],
    [['--auth-type', 'passthrough'], 'passthrough'],
  ];
  for (const [options, authType] of authTypes) {
    it(`takes --auth-type ${authType} for ${options.join(' ')}`, async () => {
      expect((await read(...options)).run?.authType).to.equal(authType);
    });
  }

  it('takes --client-tls-sslmode allow where there is a certificate', async () => {
    expect((await read(...files)).run?.clientTlsSslmode).to.equal('allow');
  });

  const contradictions: readonly (readonly [options: readonly string[], message: RegExp])[] = [
    [['--auth-type', 'scram'], /--auth-type scram needs users/],
    [['--auth-type', 'trust', '--auth-file', 'f'], /--auth-file and --auth-query are for/],
    [[...db, '--auth-query', 'SELECT $1'], /--auth-query and --auth-user belong together/],
    [[...db, '--auth-query', 'SELECT ', '--auth-user', 'a'], /--auth-query has no \$1/],
    [[...db, '--auth-user', 'a'], /--auth-query and --auth-user belong together/],
    [['--listen', '0.0.0.0:1'], /--auth-type trust .* 0\.0\.0\.0: .* --insecure-trust/],
    [files.slice(0, 2), /--client-tls-cert-file and --client-tls-key-file belong together/],
    [files.slice(2), /--client-tls-cert-file and --client-tls-key-file belong together/],
    [['--client-tls-sslmode', 'require'], /--client-tls-sslmode require needs/],
  ];
  for (const [options, message] of contradictions) {
    it(`refuses ${options.join(' ')}`, async () => {
      const error = await rejectionOf(read(...options));
      expect(error).to.be.instanceOf(ConfigError).with.property('message').that.matches(message);
    });
  }

  it('lets --insecure-trust trust where others can connect', async () => {
    expect((await read('--listen', '0.0.0.0:1', '--insecure-trust')).run?.authType).to.equal(
      'trust',
    );
  });

  for (const [value, isOn] of [
    ['1', true],
    ['true', true],
    ['YES', true],
    ['0', false],
    ['false', false],
    ['off', false],
    ['', false],
  ] as const) {
    it(`reads PGBG_INSECURE_TRUST='${value}' as ${isOn}`, async () => {
      process.env['PGBG_INSECURE_TRUST'] = value;
      expect((await read()).run?.insecureTrust).to.equal(isOn);
    });
  }

  it('refuses a PGBG_INSECURE_TRUST that is neither yes nor no', async () => {
    process.env['PGBG_INSECURE_TRUST'] = 'perhaps';
    expect(await rejectionOf(read())).to.be.instanceOf(ConfigError);
  });

  for (const count of ['0', '-1', '1.5', 'many', '']) {
    it(`refuses --max-client-conn '${count}'`, async () => {
      expect((await read('--max-client-conn', count)).printed).to.include('--max-client-conn');
    });
  }

  it('prints a configuration as JSON without its secret', async () => {
    process.env['PGBG_SECRET'] = 'a secret that is long enough';
    const { run } = await read(...db, '--print-config');
    const printed = printableConfig(run as ProxyConfig);
    expect(printed).not.to.include('long enough');
    expect(JSON.parse(printed)).to.deep.include({ secret: '***', authType: 'passthrough' });
  });

  it('reads a list of custom settings', async () => {
    const { run } = await read('--custom-settings', 'app.tenant, app.user');
    expect(run?.customSettings).to.deep.equal(['app.tenant', 'app.user']);
  });

  it('refuses a custom setting without a dot, and names it', async () => {
    const { printed } = await read('--custom-settings', 'app.tenant,work_mem');
    expect(printed).to.include('--custom-settings').and.include('"work_mem" is no custom setting');
  });

  it('freezes what it gives', async () => {
    expect((await read()).run).to.satisfy(Object.isFrozen);
  });

  const addresses: readonly (readonly [text: string, host: string, port: number])[] = [
    ['0.0.0.0:5432', '0.0.0.0', 5432],
    ['localhost:0', 'localhost', 0],
    ['7777', '127.0.0.1', 7777],
    ['[::1]:65535', '::1', 65535],
  ];
  for (const [text, host, port] of addresses) {
    it(`reads --listen ${text}`, async () => {
      expect((await read(...db, '--listen', text)).run?.listen).to.deep.equal({ host, port });
    });
  }

  for (const text of ['localhost', 'localhost:', 'localhost:65536', ':::5432', 'a:b', '']) {
    it(`refuses --listen '${text}' and names the option`, async () => {
      const { exitCode, printed } = await read('--listen', text);
      expect(exitCode).to.equal(1);
      expect(printed).to.match(/--listen.*Expected host:port/);
    });
  }

  const upstreams: readonly (readonly [url: string, upstream: object])[] = [
    ['postgres://db', { host: 'db', port: 5432, user: 'postgres', database: 'postgres' }],
    ['postgresql://db:5433', { host: 'db', port: 5433, user: 'postgres', database: 'postgres' }],
    ['postgres://ann@db', { host: 'db', port: 5432, user: 'ann', database: 'ann' }],
    ['postgres://ann@db/sales', { host: 'db', port: 5432, user: 'ann', database: 'sales' }],
    ['postgres://a%40b@db/s%20d', { host: 'db', port: 5432, user: 'a@b', database: 's d' }],
    ['postgres://[::1]:5433', { host: '::1', port: 5433, user: 'postgres', database: 'postgres' }],
  ];
  for (const [url, upstream] of upstreams) {
    it(`reads --upstream ${url}`, async () => {
      expect((await read('--upstream', url)).run?.upstream).to.deep.include(upstream);
    });
  }

  for (const url of [
    'db:5432',
    'http://db',
    'postgres://',
    'postgres:///name',
    'postgres://db:99999',
    'postgres://%zz@db',
    'postgres://db/%ff',
    '',
  ]) {
    it(`refuses --upstream '${url}' and names the option`, async () => {
      const { exitCode, printed } = await read('--upstream', url);
      expect(exitCode).to.equal(1);
      expect(printed).to.match(/--upstream.*Expected postgres:\/\/host:port/);
    });
  }

  it('reads the files that options name', async () => {
    const { run } = await read('--data', '/some/data', '--secret-file', '/some/secret');
    expect(run).to.deep.include({ dataDirectory: '/some/data', secretFile: '/some/secret' });
  });

  it('reads the log level', async () => {
    expect((await read('--log-level', 'debug')).run?.logLevel).to.equal('debug');
  });

  it('refuses an unknown log level and names the known ones', async () => {
    const { exitCode, printed } = await read('--log-level', 'loud');
    expect(exitCode).to.equal(1);
    expect(printed).to.match(/--log-level.*debug, info, warn, error, silent/);
  });

  it('refuses an unknown option', async () => {
    const { exitCode, printed } = await read('--lisen', '1');
    expect(exitCode).to.equal(1);
    expect(printed).to.include("unknown option '--lisen'");
  });

  it('repeats no password of an option that is misspelt', async () => {
    const { exitCode, printed } = await read('--upstrem=postgres://ann:hush@db.example');
    expect(exitCode).to.equal(1);
    expect(printed).to.include("unknown option '--upstrem").and.not.include('hush');
  });

  it('refuses a time that no timer can measure, which would be over at once', async () => {
    const longest = 2_147_483;
    const { run } = await read('--client-login-timeout', `${longest}`);
    expect(run?.clientLoginTimeoutMs).to.equal(longest * 1_000);
    expect(await read('--client-login-timeout', `${longest + 1}`)).to.have.property('exitCode', 1);
  });

  it('refuses an argument that belongs to nothing', async () => {
    expect(await read('start')).to.have.property('exitCode', 1);
  });

  it('prints the version of the package', async () => {
    const { version } = JSON.parse(
      readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
    ) as { version: string };
    expect(packageVersion).to.equal(version);
    expect(await read('--version')).to.deep.equal({ printed: `${version}\n`, exitCode: 0 });
  });

  describe('environment', () => {
    it('stands in for options', async () => {
      Object.assign(process.env, {
        PGBG_LISTEN: '0.0.0.0:7000',
        PGBG_UPSTREAM: 'postgres://db',
        PGBG_DATA: '/some/data',
        PGBG_LOG_LEVEL: 'error',
      });
      expect((await read()).run).to.deep.include({
        listen: { host: '0.0.0.0', port: 7000 },
        authType: 'passthrough',
        dataDirectory: '/some/data',
        logLevel: 'error',
      });
    });

    it('yields to options', async () => {
      process.env['PGBG_LISTEN'] = '0.0.0.0:7000';
      expect((await read('--listen', '7001')).run?.listen.port).to.equal(7001);
    });

    it('is refused by the name of its variable', async () => {
      process.env['PGBG_LISTEN'] = 'nowhere';
      expect((await read()).printed).to.include('PGBG_LISTEN');
    });

    it('holds the secret', async () => {
      process.env['PGBG_SECRET'] = 'a secret that is long enough';
      expect((await read()).run?.secret).to.equal('a secret that is long enough');
    });

    it('holds no secret when the variable is empty', async () => {
      process.env['PGBG_SECRET'] = '';
      expect((await read()).run?.secret).to.equal(undefined);
    });
  });

  describe('sql', () => {
    it('prints what CREATE EXTENSION runs', async () => {
      expect((await read('sql')).printSql).to.deep.include({
        schema: undefined,
        drop: false,
        isEmbedded: true,
      });
    });

    it('reads the schema', async () => {
      expect((await read('sql', '--schema', 'tools')).printSql?.schema).to.equal('tools');
    });

    it('reads that DROP EXTENSION is meant', async () => {
      expect((await read('sql', '--drop')).printSql?.drop).to.equal(true);
    });

    it('knows the options before it', async () => {
      const { printSql } = await read('--upstream', 'postgres://db', '--secret-file', 'x', 'sql');
      expect(printSql).to.deep.include({ isEmbedded: false, secretFile: 'x' });
    });
  });
});
