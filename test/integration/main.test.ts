import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import pg from 'pg';
import { packageVersion } from '../../proxy/config.ts';
import { createDatabase, type TestDatabase } from '../support/database.ts';
import { EmbeddedScratch } from '../support/embedded-scratch.ts';
import { eventually } from '../support/eventually.ts';
import { ProxyProcess } from '../support/proxy-process.ts';

describe('the command pg-background-proxy', function () {
  this.timeout(60_000);
  let database: TestDatabase;
  let folder: string;
  const running: ProxyProcess[] = [];

  before(async () => {
    database = await createDatabase();
    folder = await mkdtemp(join(tmpdir(), 'pgbg-main-'));
  });
  afterEach(async () => {
    await Promise.all(running.splice(0).map((process) => process.stop('SIGKILL')));
  });
  after(async () => {
    await rm(folder, { recursive: true, force: true });
    await database.drop();
  });

  function start(
    options: readonly string[],
    environment: Record<string, string> = {},
  ): ProxyProcess {
    const process = new ProxyProcess(options, { XDG_STATE_HOME: folder, ...environment });
    running.push(process);
    return process;
  }
  const upstream = () => `postgres://${database.host}:${database.port}/${database.name}`;
  /** Options of a proxy in front of the tests' server, which trusts it. */
  const inFront = () => [
    '--upstream',
    upstream(),
    '--auth-type',
    'trust',
    '--listen',
    '127.0.0.1:0',
  ];

  it('prints its version', async () => {
    const process = start(['--version']);
    expect(await process.ended).to.equal(0);
    expect(process.stdout).to.equal(`${packageVersion}\n`);
  });

  it('explains its options with --help', async () => {
    const process = start(['--help']);
    expect(await process.ended).to.equal(0);
    for (const option of [
      '--listen',
      '--upstream',
      '--data',
      '--secret-file',
      '--version',
      'PGBG_LISTEN',
      'PGBG_UPSTREAM',
      'sql',
    ]) {
      expect(process.stdout).to.include(option);
    }
  });

  const faults: [string, string[], Record<string, string>, RegExp][] = [
    ['an unknown option', ['--nonsense'], {}, /^error: unknown option '--nonsense'$/],
    ['a word too much', ['nonsense'], {}, /^error: (too many arguments|unknown command)/],
    [
      'a listener without a port',
      ['--listen', 'localhost'],
      {},
      /^error: option '--listen <host:port>' argument 'localhost' is invalid. Expected host:port/,
    ],
    [
      'a listener from the environment',
      [],
      { PGBG_LISTEN: 'x:99999' },
      /^error: option '--listen <host:port>' value 'x:99999' from env 'PGBG_LISTEN' is invalid/,
    ],
    [
      'an upstream that is no URL',
      ['--upstream', 'localhost'],
      {},
      /^error: option '--upstream <url>' argument 'localhost' is invalid. Expected postgres:/,
    ],
    [
      'an upstream that nobody serves',
      ['--upstream', 'postgres://127.0.0.1:1'],
      {},
      /^error: --upstream postgres:\/\/127.0.0.1:1: could not connect to the server: connect ECONNREFUSED/,
    ],
    [
      'a secret that is too short',
      ['--upstream', 'UPSTREAM'],
      { PGBG_SECRET: 'short' },
      /^error: PGBG_SECRET: the secret must have at least 16 characters$/,
    ],
    [
      'a secret file that is missing',
      ['--upstream', 'UPSTREAM', '--secret-file', '/nowhere'],
      {},
      /^error: --secret-file: ENOENT/,
    ],
  ];
  for (const [what, options, environment, message] of faults) {
    it(`names the option and exits with 1 for ${what}`, async () => {
      const process = start(
        options.map((option) => option.replace('UPSTREAM', upstream())),
        environment,
      );
      expect(await process.ended).to.equal(1);
      expect(process.stderr.trim()).to.match(message);
      expect(process.stderr.trim().split('\n')).to.have.length(1);
    });
  }

  it('names the option and exits with 1 when the port is taken', async () => {
    const blocker = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => blocker.once('listening', resolve));
    const { port } = blocker.address() as AddressInfo;
    try {
      const process = start([
        '--upstream',
        upstream(),
        '--auth-type',
        'trust',
        '--listen',
        `127.0.0.1:${port}`,
      ]);
      expect(await process.ended).to.equal(1);
      expect(process.stderr).to.equal(`error: --listen 127.0.0.1:${port}: the port is taken\n`);
    } finally {
      blocker.close();
    }
  });

  it('prints the ready line with the user and database of the upstream when clients can connect', async () => {
    const process = start([
      '--upstream',
      upstream().replace('postgres://', 'postgres://somebody@'),
      '--auth-type',
      'trust',
      '--listen',
      '127.0.0.1:0',
    ]);
    expect(await process.ready()).to.match(
      new RegExp(`^postgres://somebody@127\\.0\\.0\\.1:\\d+/${database.name}$`),
    );
    expect(process.stdout).to.include('CREATE EXTENSION pg_background;');
    const client = new pg.Client((await process.ready()).replace('somebody', 'postgres'));
    await client.connect();
    expect((await client.query('SELECT 1 AS one')).rows).to.deep.equal([{ one: 1 }]);
    await client.end();
  });

  it('takes its options from the environment too', async () => {
    const process = start([], {
      PGBG_UPSTREAM: upstream(),
      PGBG_AUTH_TYPE: 'trust',
      PGBG_LISTEN: '127.0.0.1:0',
    });
    await process.ready();
    expect(await process.stop()).to.equal(0);
  });

  it('keeps its secret in a file of mode 0600, so that a restart changes nothing', async () => {
    const file = join(folder, 'pg-background-proxy', 'pg-background-proxy.secret');
    const secrets: string[] = [];
    const options = inFront();
    const run = async (sql: string[]) => {
      const process = start(options);
      const client = new pg.Client(await process.ready());
      await client.connect();
      for (const statement of sql) await client.query(statement);
      await client.end();
      expect(await process.stop()).to.equal(0);
      secrets.push(await readFile(file, 'utf8'));
    };
    await run(['CREATE EXTENSION pg_background']);
    await run([
      `SELECT * FROM pg_background_result(pg_background_launch('SELECT 1')) AS (n int)`,
      'DROP EXTENSION pg_background',
    ]);
    expect((await stat(file)).mode & 0o777).to.equal(0o600);
    expect(secrets[0]).to.equal(secrets[1]);
  });

  it('goes on at a SIGHUP where there is no terminal', async () => {
    const process = start(inFront());
    const client = new pg.Client(await process.ready());
    await client.connect();
    process.child.kill('SIGHUP');
    expect((await client.query('SELECT 1 AS one')).rows).to.deep.equal([{ one: 1 }]);
    await client.end();
    const next = new pg.Client(await process.ready());
    await next.connect();
    await next.end();
    expect(await process.stop()).to.equal(0);
  });

  it('prints a verifier that the server takes for the password', async () => {
    const child = spawn(
      process.execPath,
      [fileURLToPath(new URL('../../proxy/main.js', import.meta.url)), 'verifier'],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    child.stdin.end('hush\n');
    const verifier = (await text(child.stdout)).trim();
    const direct = await database.direct();
    await direct.query(`CREATE ROLE verified PASSWORD ${pg.escapeLiteral(verifier)}`);
    try {
      const { rows } = await direct.query('SELECT rolpassword FROM pg_authid WHERE rolname = $1', [
        'verified',
      ]);
      expect(rows).to.deep.equal([{ rolpassword: verifier }]);
    } finally {
      await direct.query('DROP ROLE verified');
    }
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`ends with exit code 0 on ${signal}, and its sessions with it`, async () => {
      const process = start(inFront());
      const client = new pg.Client(await process.ready());
      const closed = new Promise<void>((resolve) =>
        client.on('error', () => resolve()).on('end', () => resolve()),
      );
      await client.connect();
      await client.query('SELECT 1');
      expect(await process.stop(signal)).to.equal(0);
      await closed;
      const observer = await database.direct();
      await eventually(async () => {
        const { rows } = await observer.query(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'direct'`,
        );
        expect(rows).to.have.length(0);
      });
    });
  }

  it('ends without delay when a client went before it', async function () {
    // The time that a frozen client is given is a minute: it must not be waited for here.
    this.timeout(20_000);
    const process = start(inFront());
    const client = new pg.Client(await process.ready());
    await client.connect();
    await client.end();
    expect(await process.stop()).to.equal(0);
  });

  it('waits for workers that still run, and they commit', async () => {
    const observer = await database.direct();
    await observer.query('CREATE TABLE finished (a int)');
    const process = start(inFront());
    const client = new pg.Client(await process.ready());
    client.on('error', () => {});
    await client.connect();
    await client.query('CREATE EXTENSION pg_background');
    await client.query(
      `SELECT pg_background_launch('SELECT pg_sleep(1); INSERT INTO finished VALUES (1)')`,
    );
    expect(await process.stop()).to.equal(0);
    expect((await observer.query('SELECT a FROM finished')).rows).to.deep.equal([{ a: 1 }]);
    await observer.query('DROP TABLE finished');
  });

  it('starts an embedded server in --data, keeps the data, and leaves nothing running', async () => {
    const scratch = await EmbeddedScratch.create();
    try {
      const options = ['--data', join(scratch.folder, 'data'), '--listen', '127.0.0.1:0'];
      for (const [sql, expected] of [
        ['CREATE TABLE kept AS SELECT 1 AS a; CREATE EXTENSION pg_background', undefined],
        [
          `SELECT a FROM pg_background_result(pg_background_launch('SELECT a FROM kept')) AS (a int)`,
          [{ a: 1 }],
        ],
      ] as const) {
        const process = start(options);
        const client = new pg.Client(await process.ready());
        client.on('error', () => {});
        await client.connect();
        const { rows } = await client.query(sql);
        if (expected !== undefined) expect(rows).to.deep.equal(expected);
        await client.end();
        expect(await process.stop('SIGINT')).to.equal(0);
      }
      const postmaster = await readFile(
        join(scratch.folder, 'data', 'postmaster.pid'),
        'utf8',
      ).catch((error: NodeJS.ErrnoException) => error.code);
      expect(postmaster).to.equal('ENOENT');
      expect(
        (await stat(join(scratch.folder, 'data', 'pg-background-proxy.secret'))).mode & 0o777,
      ).to.equal(0o600);
    } finally {
      await scratch.remove();
    }
  });

  it('prints the script of CREATE and DROP EXTENSION, which works through the proxy', async () => {
    const environment = { PGBG_SECRET: 'a secret of sixteen or more' };
    const process = start(inFront(), environment);
    const client = new pg.Client(await process.ready());
    await client.connect();
    const print = async (...options: string[]) => {
      const printer = start(['sql', ...options], environment);
      expect(await printer.ended).to.equal(0);
      return printer.stdout;
    };
    await client.query('DROP EXTENSION IF EXISTS pg_background; CREATE SCHEMA printed');
    await client.query(await print('--schema', 'printed'));
    expect(
      (
        await client.query(
          `SELECT n FROM printed.pg_background_result(printed.pg_background_launch('SELECT 3')) AS (n int)`,
        )
      ).rows,
    ).to.deep.equal([{ n: 3 }]);
    await client.query(await print('--drop'));
    expect(
      (await client.query(`SELECT to_regnamespace('pgbackground') AS left`)).rows,
    ).to.deep.equal([{ left: null }]);
    await client.query('DROP SCHEMA printed');
    await client.end();
  });
});
