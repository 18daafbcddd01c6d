/*
 * Attacks on rows on their way through the table pgbackground.transfer, while their reader is held in
 * the middle of reading: by other roles that may use the API, and by roles that may read or write all.
 */
import { expect } from 'chai';
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { launch, LIST_COLUMNS } from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { Gate } from '../support/gate.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const ROLES = ['rows_reader', 'rows_thief', 'rows_all'];
const SECRET = 'the rows of another';

/** What each role that may use the API could try, by itself. */
const denied: readonly (readonly [what: string, sql: string])[] = [
  ['reading', 'SELECT * FROM pgbackground.transfer'],
  ['counting', 'SELECT count(*) FROM pgbackground.transfer'],
  ['copying', 'COPY pgbackground.transfer TO STDOUT'],
  ['inserting', `INSERT INTO pgbackground.transfer VALUES (gen_random_uuid(), 1, 1, '{x}', 1)`],
  ['changing', `UPDATE pgbackground.transfer SET vals = '{x}'`],
  ['deleting', 'DELETE FROM pgbackground.transfer'],
  ['emptying', 'TRUNCATE pgbackground.transfer'],
  ['locking', 'DO $$ BEGIN LOCK TABLE pgbackground.transfer IN ACCESS SHARE MODE; END $$'],
  [
    'a trigger',
    'CREATE TRIGGER t BEFORE INSERT ON pgbackground.transfer FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
  ],
  ['a policy', 'CREATE POLICY p ON pgbackground.transfer USING (true)'],
  [
    'a foreign key',
    'CREATE UNLOGGED TABLE rows_thief.r (k uuid, c int, n int, FOREIGN KEY (k, c, n) REFERENCES pgbackground.transfer)',
  ],
  ['statistics', 'CREATE STATISTICS rows_thief.s ON chunk, col FROM pgbackground.transfer'],
  [
    'replacing the function',
    `CREATE OR REPLACE FUNCTION pgbackground.transfer_take(transfer_key uuid, chunk int, col int) RETURNS text[] LANGUAGE sql AS 'SELECT NULL'`,
  ],
];

describe('rows on their way', () => {
  let proxy: TestProxy;
  let reader: TestClient;
  let gate: Gate;
  let pid: number;
  let reading: Promise<unknown[][]>;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    // Reading a value of this type goes through the gate: it holds the reader among its rows.
    await direct.query(`CREATE ROLE rows_reader LOGIN; CREATE ROLE rows_thief LOGIN; CREATE ROLE rows_all LOGIN;
      GRANT pgbackground_executor TO rows_reader, rows_thief; GRANT pg_read_all_data, pg_write_all_data TO rows_all;
      CREATE SCHEMA rows_thief AUTHORIZATION rows_thief;
      CREATE FUNCTION pass_gate(text) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN true; END $$;
      CREATE DOMAIN gated AS text CHECK (pass_gate(VALUE)); CREATE TYPE word AS (said gated)`);
  });
  beforeEach(async () => {
    gate = new Gate(await proxy.database.direct());
    reader = await proxy.connect({ user: 'rows_reader' });
    pid = await launch(
      reader,
      `SELECT n, ROW(repeat('${SECRET} ' || n || ' ', 100))::word FROM generate_series(1, 1000) AS n`,
    );
    await reader.query(
      `SELECT pg_background_wait_v2(pid, cookie) FROM pg_background_list_v2() AS (pid int, cookie bigint)`,
    );
    await gate.close();
    reading = reader.rows(`SELECT n, said FROM pg_background_result($1) AS (n int, said word)`, [
      pid,
    ]);
    reading.catch(() => {});
    await gate.untilWaiting(1);
  });
  afterEach(async () => {
    await gate.open();
    await reading.catch(() => {});
    await proxy.expectNothingLeft();
  });
  after(async () => {
    const direct = await proxy.database.direct();
    await direct.query(`DROP OWNED BY ${ROLES.join(', ')}; DROP ROLE ${ROLES.join(', ')}`);
    await proxy.stop();
  });

  /** How many rows of the table the owner sees; with what is in them. */
  async function stored(): Promise<{ count: number; keys: string[]; text: string }> {
    const direct = await proxy.database.direct();
    const { rows } = await direct.query<{ transfer_key: string; vals: string }>(
      'SELECT transfer_key, vals::text FROM pgbackground.transfer',
    );
    const keys = [...new Set(rows.map(({ transfer_key: key }) => key))];
    return { count: rows.length, keys, text: rows.map(({ vals }) => vals).join() };
  }

  async function expectTheRows(): Promise<void> {
    await gate.open();
    const rows = await reading;
    expect(rows).to.have.length(1000);
    expect(rows[7]).to.deep.equal([8, `("${`${SECRET} 8 `.repeat(100)}")`]);
  }

  const codeOf = async (client: pg.Client, sql: string, values: unknown[] = []) =>
    client.query(sql, values).then(
      () => 'done',
      (error: unknown) => (error as pg.DatabaseError).code,
    );

  it('are there while they are read, or these tests would show nothing', async () => {
    const { count, keys, text } = await stored();
    expect(count).to.be.above(1);
    expect(keys).to.have.length(1);
    expect(text).to.include(SECRET);
    await expectTheRows();
    expect((await stored()).count).to.equal(0);
  });

  for (const [what, sql] of denied) {
    it(`are safe from ${what} by a role that may use the API`, async () => {
      const thief = await proxy.database.direct('rows_thief');
      expect(await codeOf(thief, sql)).to.equal('42501');
      await expectTheRows();
    });
  }

  it('are not given for a key that was guessed', async () => {
    const thief = await proxy.database.direct('rows_thief');
    const [key = ''] = (await stored()).keys;
    const near = [
      randomUUID(),
      '00000000-0000-0000-0000-000000000000',
      null,
      key.replace(/.$/, (c) => (c === '0' ? '1' : '0')),
    ];
    for (const guess of near) {
      const { rows } = await thief.query('SELECT pgbackground.transfer_take($1, 1, 1) AS taken', [
        guess,
      ]);
      expect(rows).to.deep.equal([{ taken: null }]);
      await thief.query('SELECT pgbackground.transfer_drop($1)', [guess]);
    }
    await expectTheRows();
  });

  it('have a key that no other role finds anywhere', async () => {
    const [key = ''] = (await stored()).keys;
    const thief = await proxy.database.direct('rows_thief');
    const { rows } = await thief.query<{ seen: string }>(
      `SELECT a::text AS seen FROM pg_stat_activity AS a UNION ALL SELECT l::text FROM pg_locks AS l
         UNION ALL SELECT p::text FROM pg_prepared_statements AS p UNION ALL SELECT s::text FROM pg_stats AS s`,
    );
    expect(rows.length).to.be.above(10);
    for (const { seen } of rows) expect(seen.includes(key)).to.equal(false);
    await expectTheRows();
  });

  it('are not mixed with rows that another puts under a key of his own', async () => {
    const thief = await proxy.database.direct('rows_thief');
    for (let chunk = 1; chunk <= 20; chunk++) {
      await thief.query(`SELECT pgbackground.transfer_put($1, $2, 1, '{injected}', 1)`, [
        randomUUID(),
        chunk,
      ]);
    }
    await expectTheRows();
    await thief.query('SELECT pgbackground.transfer_drop(NULL)');
  });

  it('are not taken for garbage by another, who calls for its removal', async () => {
    const thief = await proxy.database.direct('rows_thief');
    const { rows } = await thief.query<{ key: string }>(
      `SELECT (classid::bigint << 32 | objid::bigint)::text AS key FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    );
    expect(rows.length, 'locks that everybody sees').to.be.above(1);
    for (const { key } of rows) {
      expect(
        (await thief.query('SELECT pg_try_advisory_lock($1) AS got', [key])).rows,
      ).to.deep.equal([{ got: false }]);
      await thief.query(`SELECT pgbackground.transfer_put($1, 1, 1, '{injected}', $2)`, [
        randomUUID(),
        key,
      ]);
    }
    await thief.query('SELECT pgbackground.transfer_drop(NULL)');
    await expectTheRows();
    // Garbage now: the writers of whose locks he made use let go of them one after the other.
    await eventually(async () => {
      await thief.query('SELECT pgbackground.transfer_drop(NULL)');
      expect((await stored()).count).to.equal(0);
    });
  });

  it('are read as they were when the reading began, even against somebody who knows the key', async () => {
    const [key = ''] = (await stored()).keys;
    const thief = await proxy.database.direct('rows_thief');
    const put = `SELECT pgbackground.transfer_put($1, 2, 1, '{injected}', 1)`;
    expect(await codeOf(thief, put, [key])).to.equal('23505');
    await thief.query('SELECT pgbackground.transfer_drop($1)', [key]);
    expect(await codeOf(thief, put, [key])).to.equal('done');
    expect((await stored()).text).to.equal('{injected}');
    await expectTheRows();
  });

  for (const [what, change] of [
    ['lost', 'RETURN NULL;'],
    ['added', `NEW.vals := NEW.vals || NEW.vals[1:1];`],
    ['cut', `NEW.vals := NEW.vals[2:];`],
  ] as const) {
    it(`are counted: the reader fails, and keeps the result, when some were ${what}`, async () => {
      await gate.open();
      await reading;
      const direct = await proxy.database.direct();
      await direct.query(`CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN IF NEW.chunk = 2 THEN ${change} END IF; RETURN NEW; END $$;
        CREATE TRIGGER spoil BEFORE INSERT ON pgbackground.transfer FOR EACH ROW EXECUTE FUNCTION spoil()`);
      const again = await launch(
        reader,
        `SELECT n, repeat('x', 900) FROM generate_series(1, 1000) AS n`,
      );
      const read = 'SELECT n FROM pg_background_result($1) AS (n int, said text)';
      expect(await reader.error(read, [again])).to.include({
        code: 'XX000',
        message: 'rows of a background worker were lost on their way',
      });
      expect(
        await reader.rows(
          `SELECT state, consumed FROM pg_background_list_v2() AS (${LIST_COLUMNS})`,
        ),
      ).to.deep.equal([['stopped', false]]);
      await direct.query('DROP TRIGGER spoil ON pgbackground.transfer; DROP FUNCTION spoil');
      expect(await reader.rows(read, [again])).to.have.length(1000);
    });
  }

  it('are not read by pg_read_all_data', async () => {
    const all = await proxy.database.direct('rows_all');
    const { rows } = await all.query<{ vals: string }>(
      'SELECT vals::text FROM pgbackground.transfer',
    );
    expect(rows).to.have.length(0);
    await expectTheRows();
  });

  it('are not changed by pg_write_all_data', async () => {
    const all = await proxy.database.direct('rows_all');
    for (const sql of [
      `UPDATE pgbackground.transfer SET vals = vals[1:1]`,
      'DELETE FROM pgbackground.transfer',
    ]) {
      await all.query('BEGIN');
      const result = await all.query(sql);
      await all.query('ROLLBACK');
      expect(result.rowCount, sql).to.equal(0);
    }
    expect(
      await codeOf(
        all,
        `INSERT INTO pgbackground.transfer VALUES (gen_random_uuid(), 1, 1, '{injected}', 1)`,
      ),
    ).to.equal('42501');
    await expectTheRows();
  });
});
