/*
 * Attacks on the signing key: by those who read whatever a server shows, logs, counts, dumps or
 * copies, on a server that logs all that it can.
 */
import { expect } from 'chai';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { inBackground } from '../support/background.ts';
import { EmbeddedScratch } from '../support/embedded-scratch.ts';
import { launchOf, sign } from '../support/forgery.ts';
import { int32 } from '../support/messages.ts';
import { TEST_SECRET, TestProxy, type TestClient } from '../support/proxy.ts';
import { serverPackage } from '../support/server.ts';

interface Key {
  readonly key_id: string;
  readonly inner_key: Buffer;
  readonly outer_key: Buffer;
}

describe('the signing key', () => {
  let scratch: EmbeddedScratch;
  let proxy: TestProxy;
  let admin: TestClient;
  const keys: Key[] = [];

  const readKey = async (client: pg.Client): Promise<Key> => {
    const { rows } = await client.query<Key>('TABLE pgbackground.installation');
    const [key] = rows;
    if (key === undefined) throw new Error('no key is stored');
    return key;
  };

  before(async function () {
    this.timeout(60_000);
    scratch = await EmbeddedScratch.create();
    const packageName = serverPackage();
    const server = await scratch.start({
      ...(packageName === undefined ? {} : { packageName }),
      settings: {
        shared_preload_libraries: 'pg_stat_statements',
        log_statement: 'all',
        log_min_duration_statement: '0',
        log_min_messages: 'debug1',
        'pg_stat_statements.track': 'all',
      },
    });
    const root = new pg.Client({
      host: server.host,
      port: server.port,
      user: 'postgres',
      database: 'postgres',
    });
    await root.connect();
    await root.query('CREATE DATABASE leaking');
    await root.end();
    proxy = await TestProxy.inFrontOf({ host: server.host, port: server.port, name: 'leaking' });
    const direct = await proxy.database.direct();
    await direct.query(`CREATE ROLE leak_all LOGIN IN ROLE pg_read_all_data, pg_write_all_data, pg_monitor;
      CREATE ROLE leak_member LOGIN; CREATE TABLE taken (by text); GRANT INSERT ON taken TO PUBLIC;
      CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pageinspect`);
    const installer = await proxy.connect();
    await installer.query('CREATE EXTENSION pg_background');
    keys.push(await readKey(installer));
    await installer.query('GRANT pgbackground_executor TO leak_member, leak_all');
    await installer.query('ALTER EXTENSION pg_background UPDATE');
    keys.push(await readKey(installer));
    // The key is used in each way: by functions, by hand, in packets of both kinds, for large results.
    for (const user of ['postgres', 'leak_member']) {
      const client = await proxy.connect({ user });
      await inBackground(client, `SELECT repeat('x', 900) FROM generate_series(1, 100)`);
      await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE');
      await inBackground(client, `SELECT repeat('x', 900) FROM generate_series(1, 20)`);
      await client.query('COMMIT');
      await sign(client, launchOf('SELECT 1'));
    }
    await installer.query('ANALYZE; ANALYZE pgbackground.installation');
    await proxy.disconnectAll();
  });
  beforeEach(async () => {
    admin = await proxy.connect();
    await (await proxy.database.direct()).query('TRUNCATE taken');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    await proxy.stop();
    await scratch.remove();
  });

  /** Fails where a text holds a key, as it is stored or as it is, in a way in which bytes are written. */
  function expectNoKey(shown: string): void {
    // The server breaks the lines of plans.
    const text = shown.replace(/\s+/g, ' ');
    for (const { inner_key: inner, outer_key: outer } of keys) {
      const raw = Buffer.from(inner.subarray(0, 32).map((byte) => byte ^ 0x36));
      for (const bytes of [inner, outer, raw]) {
        // Whatever stands around it: the bytes themselves begin and end base64 in any of three places.
        const forms = [
          bytes.toString('hex'),
          bytes.toString('hex').toUpperCase(),
          ...base64Forms(bytes),
          listed(bytes),
        ];
        for (const form of forms) expect(text.includes(form)).to.equal(false);
      }
    }
    expect(text.includes(TEST_SECRET.toString())).to.equal(false);
    expect(text.includes(TEST_SECRET.toString('hex'))).to.equal(false);
  }

  const everything = async (client: pg.Client, sql: string) =>
    (await client.query<{ row: string }>(`SELECT row::text AS row FROM (${sql}) AS row`)).rows
      .map(({ row }) => row)
      .join('\n');
  const codeOf = (client: pg.Client, sql: string) =>
    client.query(sql).then(
      ({ rowCount }) => `${rowCount} rows`,
      (error: unknown) => String((error as pg.DatabaseError).code),
    );

  it('would be found where it is shown, or these tests would show nothing', async () => {
    const [{ inner_key: inner } = { inner_key: Buffer.alloc(0) }] = keys;
    for (const text of [
      inner.toString('hex'),
      `..${Buffer.concat([Buffer.from('ab'), inner]).toString('base64')}`,
    ]) {
      expect(() => expectNoKey(text)).to.throw();
    }
    const shown = await everything(
      await proxy.database.direct(),
      `SELECT encode(inner_key, 'hex') FROM pgbackground.installation`,
    );
    expect(() => expectNoKey(shown)).to.throw();
  });

  const readLog = () => readFile(join(scratch.folder, 'data', 'server.log'), 'latin1');

  it('is not in the log of a server that logs all statements, parameters and durations', async () => {
    const log = await readLog();
    for (const vehicle of [
      'CREATE TABLE pgbackground.installation',
      'transfer_put',
      'set_config',
    ]) {
      expect(log).to.include(vehicle);
    }
    expect(log).to.match(/pgbg:[A-Za-z0-9+/]{16}:/);
    expectNoKey(log);
  });

  for (const [what, settings, vehicle] of [
    ['plans', 'SET debug_print_plan = on; SET debug_pretty_print = off', /:planTree|{PLANNEDSTMT/],
    [
      'statements inside functions, with plans and parameters',
      `LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on; SET auto_explain.log_verbose = on`,
      /Query Text: INSERT INTO pgbackground.installation|UPDATE pgbackground.installation/,
    ],
  ] as const) {
    it(`is not in the log of a session that logs ${what}`, async () => {
      const before = (await readLog()).length;
      await admin.query(settings);
      await admin.query('ALTER EXTENSION pg_background UPDATE');
      const log = (await readLog()).slice(before);
      keys.push(await readKey(await proxy.database.direct()));
      expect(log).to.match(vehicle);
      expectNoKey(log);
    });
  }

  it('is not to be had from a log that shows requests as well as answers', async () => {
    const log = await readLog();
    const requests = [
      ...log.matchAll(/\bI \S+ ([A-Za-z0-9+/]{16}),([0-9a-f]{64}),[01],-?[0-9]+ /g),
    ];
    expect(requests.length, 'requests for a key').to.be.above(0);
    for (const [, nonce = '', seed = ''] of requests) {
      const shown = [...log.matchAll(/pgbg:([A-Za-z0-9+/]{16}):([A-Za-z0-9+/]+=*)/g)];
      const packets = new Set(shown.filter(([, of]) => of === nonce).map(([, , packet]) => packet));
      expect(packets.size, 'packets of the answer').to.be.above(0);
      expectNoKey([...packets].map((packet, at) => unmask(String(packet), seed, at + 1)).join(''));
    }
  });

  it('is not in pg_stat_statements', async () => {
    const seen = await everything(
      await proxy.database.direct('leak_all'),
      'TABLE pg_stat_statements',
    );
    expect(seen).to.include('pgbackground').and.include('installation');
    expectNoKey(seen);
  });

  it('is not in what pg_monitor sees of the session that installs it', async () => {
    const watcher = await proxy.database.direct('leak_all');
    const texts = new Set<string>();
    let isOver = false;
    const watching = (async () => {
      while (!isOver) {
        texts.add(
          await everything(watcher, `SELECT application_name, query FROM pg_stat_activity`),
        );
      }
    })();
    try {
      for (let i = 0; i < 10; i++) {
        await admin.query('ALTER EXTENSION pg_background UPDATE');
        keys.push(await readKey(admin));
      }
    } finally {
      isOver = true;
      await watching;
    }
    const seen = [...texts].join();
    expect(seen).to.include('pgbg:');
    expectNoKey(seen);
  });

  it('is not shown to pg_read_all_data, in rows, statistics or copies', async () => {
    const all = await proxy.database.direct('leak_all');
    expect(await codeOf(all, 'TABLE pgbackground.installation')).to.equal('0 rows');
    expect(
      await codeOf(all, 'SELECT i FROM pgbackground.installation AS i WHERE i IS NOT NULL'),
    ).to.equal('0 rows');
    for (const sql of [
      `SELECT table_to_xml('pgbackground.installation', true, false, '')`,
      `SELECT * FROM pg_statistic WHERE starelid = 'pgbackground.installation'::regclass`,
      `SELECT * FROM pg_stats WHERE tablename = 'installation'`,
      'SELECT * FROM pgbackground.free_signature',
      'SELECT * FROM pg_prepared_statements',
      `SELECT * FROM pg_description`,
      `SELECT * FROM pg_proc WHERE pronamespace = 'pgbackground'::regnamespace`,
      `SELECT pg_get_viewdef('pgbackground.free_signature'::regclass)`,
    ]) {
      const code = await codeOf(all, sql);
      if (code.endsWith('rows')) expectNoKey(await everything(all, sql));
    }
  });

  for (const [sql, code] of [
    [`SELECT * FROM get_raw_page('pgbackground.installation', 0)`, '42501'],
    [`SELECT pg_read_binary_file('base')`, '42501'],
    ['SET row_security = off; TABLE pgbackground.installation', '42501'],
    ['SET row_security = off; COPY pgbackground.installation TO STDOUT', '42501'],
    [`INSERT INTO pgbackground.installation VALUES (gen_random_uuid(), '', '')`, '42501'],
    [`UPDATE pgbackground.installation SET inner_key = ''`, '0 rows'],
    ['DELETE FROM pgbackground.installation', '0 rows'],
    ['CREATE TEMP TABLE r (LIKE pgbackground.installation INCLUDING ALL)', 'null rows'],
    ['CREATE INDEX ON pgbackground.installation (inner_key)', '42501'],
  ] as const) {
    it(`is safe from roles that may read and write all data: ${sql}`, async () => {
      expect(await codeOf(await proxy.database.direct('leak_all'), sql)).to.equal(code);
      await admin.query('SELECT * FROM pgbackground.free_signature');
    });
  }

  it('is not dumped by a lesser role', async () => {
    // What pg_dump sends, which asks for no less than all rows.
    for (const user of ['leak_member', 'leak_all']) {
      const client = await proxy.database.direct(user);
      await client.query('SET row_security = off');
      expect(
        await codeOf(
          client,
          'COPY pgbackground.installation (key_id, inner_key, outer_key) TO stdout',
        ),
      ).to.equal('42501');
    }
  });
});

/** What a packet says to somebody who knows the seed, and its number. */
function unmask(packet: string, seed: string, number: number): string {
  const sealed = Buffer.from(packet, 'base64').subarray(8);
  const salt = Buffer.concat([Buffer.from(seed, 'hex'), int32(number)]);
  const open = sealed.map((byte, at) => {
    const block = Math.floor(at / 32);
    const mask = createHash('sha256').update(salt).update(int32(block)).digest();
    return byte ^ (mask[at % 32] ?? 0);
  });
  return Buffer.from(open.subarray(1)).toString('latin1');
}

/** How bytes look in a plan that the server prints. */
function listed(bytes: Buffer): string {
  return [...bytes].map((byte) => (byte > 127 ? byte - 256 : byte)).join(' ');
}

/** How bytes look in base64, wherever in a longer text they stand; without their first and last few. */
function base64Forms(bytes: Buffer): string[] {
  return [0, 1, 2].map((shift) => {
    const text = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64');
    return text.slice(4, Math.floor((bytes.length + shift) / 3) * 4);
  });
}
