/*
 * How the SQL of a worker is executed: as one transaction, a single statement at top level, without
 * parameters, with neither transaction control nor COPY from or to the client.
 */
import { expect } from 'chai';
import {
  errorInBackground,
  inBackground,
  launch,
  launchHandle,
  readError,
  readResult,
} from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

describe('the SQL of a worker', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const admin = await proxy.connect();
    await admin.query(`CREATE TABLE t (a int); CREATE SEQUENCE s;
      CREATE PROCEDURE insert_and_commit(b int) LANGUAGE plpgsql AS $$
        BEGIN
          INSERT INTO t VALUES (b);
          COMMIT;
          INSERT INTO t VALUES (b + 1);
          ROLLBACK;
        END $$`);
  });
  beforeEach(async () => {
    client = await proxy.connect();
    await client.query('TRUNCATE t; ALTER SEQUENCE s RESTART');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(() => proxy.stop());

  const contents = async () =>
    (await client.rows('SELECT a FROM t ORDER BY a')).map(([value]) => value);
  const sequenceWasUsed = () => client.value('SELECT is_called FROM s');

  describe('of several statements', () => {
    it('is one transaction, which is committed before the result is there', async () => {
      await inBackground(client, 'INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)');
      expect(await contents()).to.deep.equal([1, 2]);
    });

    it('is undone whole by an error in any of them', async () => {
      const sql = 'INSERT INTO t VALUES (1); SELECT 1/0; INSERT INTO t VALUES (2)';
      expect((await errorInBackground(client, sql)).code).to.equal('22012');
      expect(await contents()).to.deep.equal([]);
    });

    it('has one transaction ID throughout', async () => {
      expect(
        await inBackground(
          client,
          'CREATE TEMP TABLE first AS SELECT pg_current_xact_id() AS x; SELECT x = pg_current_xact_id() FROM first',
          'same bool',
        ),
      ).to.deep.equal([[true]]);
    });

    it('sees its own writes from one statement to the next', async () => {
      expect(
        await inBackground(
          client,
          'INSERT INTO t VALUES (1), (2); UPDATE t SET a = a + 10; DELETE FROM t WHERE a = 11; SELECT * FROM t',
          'a int',
        ),
      ).to.deep.equal([[12]]);
    });

    it('sees its own DDL from one statement to the next', async () => {
      expect(
        await inBackground(
          client,
          'CREATE TABLE made (a int); INSERT INTO made VALUES (1); ALTER TABLE made ADD b int DEFAULT 2; TABLE made; DROP TABLE made',
        ),
      ).to.deep.equal([
        ['CREATE TABLE'],
        ['INSERT 0 1'],
        ['ALTER TABLE'],
        ['SELECT 1'],
        ['DROP TABLE'],
      ]);
    });

    it('may defer constraints to its end', async () => {
      await client.query(
        'CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int REFERENCES parent DEFERRABLE)',
      );
      expect(
        await inBackground(
          client,
          'SET CONSTRAINTS ALL DEFERRED; INSERT INTO child VALUES (1); INSERT INTO parent VALUES (1)',
        ),
      ).to.deep.equal([['SET CONSTRAINTS'], ['INSERT 0 1'], ['INSERT 0 1']]);
      await client.query('DROP TABLE child, parent');
    });

    for (const sql of [
      'VACUUM t; SELECT 1',
      'SELECT 1; VACUUM t',
      'CREATE DATABASE never; SELECT 1',
    ]) {
      it(`may hold nothing that allows no transaction: ${sql}`, async () => {
        expect((await errorInBackground(client, sql)).code).to.equal('25001');
      });
    }

    for (const sql of [
      'CALL insert_and_commit(1); SELECT 1',
      'SELECT 1; CALL insert_and_commit(1)',
      'SELECT 1; DO $$ BEGIN COMMIT; END $$',
    ]) {
      it(`may not commit in a procedure or block: ${sql}`, async () => {
        expect((await errorInBackground(client, sql)).code).to.equal('2D000');
        expect(await contents()).to.deep.equal([]);
      });
    }
  });

  it('fails with an error of its commit, and gives none of its rows', async () => {
    await client.query(
      'CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)',
    );
    for (const sql of [
      'INSERT INTO child VALUES (1)',
      'INSERT INTO child VALUES (1) RETURNING id',
      'INSERT INTO child VALUES (1); SELECT 1',
    ]) {
      const error = await errorInBackground(client, sql);
      expect(error, sql).to.include({ code: '23503', table: 'child', constraint: 'child_id_fkey' });
    }
    expect(await client.value('SELECT count(*)::int FROM child')).to.equal(0);
    await client.query('DROP TABLE child, parent');
  });

  describe('of a single statement stands at top level', () => {
    for (const [sql, tag] of [
      ['VACUUM t', 'VACUUM'],
      ['VACUUM (ANALYZE) t;', 'VACUUM'],
      [' ; /* one */ VACUUM t; ; -- and only', 'VACUUM'],
      ['CALL insert_and_commit(1)', 'CALL'],
      [
        'DO $$ BEGIN INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); ROLLBACK; END $$',
        'DO',
      ],
    ] as const) {
      it(sql, async () => {
        expect(await inBackground(client, sql)).to.deep.equal([[tag]]);
        expect(await contents()).to.deep.equal(tag === 'VACUUM' ? [] : [1]);
      });
    }

    it('CREATE DATABASE, DROP DATABASE', async () => {
      const name = `${proxy.database.name}_made`;
      expect(await inBackground(client, `CREATE DATABASE ${name}`)).to.deep.equal([
        ['CREATE DATABASE'],
      ]);
      expect(await inBackground(client, `DROP DATABASE ${name}`)).to.deep.equal([
        ['DROP DATABASE'],
      ]);
    });

    it('CREATE INDEX CONCURRENTLY, which ends while its session is idle', async () => {
      const handle = await launchHandle(client, 'CREATE INDEX CONCURRENTLY t_a ON t (a)');
      await eventually(async () => {
        expect(
          await client.value('SELECT pg_background_wait_v2_timeout($1, $2, 0)', [...handle]),
        ).to.equal(true);
      });
      expect(await readResult(client, handle[0])).to.deep.equal([['CREATE INDEX']]);
      expect(
        await client.value(`SELECT indisvalid FROM pg_index WHERE indexrelid = 't_a'::regclass`),
      ).to.equal(true);
      await client.query('DROP INDEX t_a');
    });

    it('what a block has committed stays when the block then fails', async () => {
      const error = await errorInBackground(
        client,
        `DO $$ BEGIN INSERT INTO t VALUES (1); COMMIT; RAISE EXCEPTION 'later'; END $$`,
      );
      expect(error).to.include({ code: 'P0001', message: 'later' });
      expect(await contents()).to.deep.equal([1]);
    });

    it('LOCK TABLE, which is useless there and refused', async () => {
      expect(await errorInBackground(client, 'LOCK TABLE t')).to.include({
        code: '25P01',
        message: 'LOCK TABLE can only be used in transaction blocks',
      });
      expect(await inBackground(client, 'LOCK TABLE t; SELECT 1', 'n int')).to.deep.equal([[1]]);
    });
  });

  describe('may not control its transaction', () => {
    for (const sql of [
      'BEGIN',
      'BEGIN ISOLATION LEVEL SERIALIZABLE',
      'START TRANSACTION',
      'COMMIT',
      'COMMIT AND CHAIN',
      'END',
      'ROLLBACK',
      'ROLLBACK AND CHAIN',
      'ABORT',
      'SAVEPOINT p',
      'RELEASE p',
      'ROLLBACK TO p',
      `PREPARE TRANSACTION 'x'`,
      `COMMIT PREPARED 'x'`,
      `ROLLBACK PREPARED 'x'`,
    ]) {
      it(sql, async () => {
        for (const text of [
          sql,
          `INSERT INTO t VALUES (1); ${sql}`,
          `${sql}; INSERT INTO t VALUES (1)`,
        ]) {
          expect(await errorInBackground(client, text), text).to.include({
            code: '0A000',
            message: 'transaction control statements are not allowed in pg_background',
          });
        }
        expect(await contents()).to.deep.equal([]);
      });
    }

    it('however long the text before is', async () => {
      const sql = `SELECT '${'x'.repeat(1024 * 1024)}'; COMMIT`;
      expect((await errorInBackground(client, sql)).code).to.equal('0A000');
    });

    it('but may set its isolation level', async () => {
      expect(
        await inBackground(
          client,
          `SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT current_setting('transaction_isolation')`,
        ),
      ).to.deep.equal([['serializable']]);
    });
  });

  describe('may not', () => {
    for (const sql of [
      'COPY t TO STDOUT',
      'COPY t FROM STDIN',
      'COPY (SELECT 1) TO STDOUT',
      'INSERT INTO t VALUES (1); COPY t TO STDOUT',
      'COPY t TO STDOUT (FORMAT binary); SELECT 1',
    ]) {
      it(`copy from or to the client: ${sql}`, async () => {
        expect(await errorInBackground(client, sql)).to.include({
          code: '0A000',
          message: 'COPY protocol not allowed in pg_background',
        });
        expect(await contents()).to.deep.equal([]);
      });
    }

    for (const sql of ['LISTEN here', 'SELECT 1; LISTEN here']) {
      it(`listen: ${sql}`, async () => {
        expect(await errorInBackground(client, sql)).to.include({
          code: '0A000',
          message: 'cannot execute LISTEN within a background process',
        });
      });
    }

    it('fetch from a binary cursor', async () => {
      expect(
        await errorInBackground(client, 'DECLARE c BINARY CURSOR FOR SELECT 1; FETCH c', 'n int'),
      ).to.include({
        code: '0A000',
        message: 'binary cursors are not supported in pg_background',
      });
    });

    it('hold a backslash while standard_conforming_strings is off', async () => {
      await client.query('SET standard_conforming_strings = off; SET escape_string_warning = off');
      expect(await errorInBackground(client, `SELECT 'a\\', '; COMMIT; --'`)).to.include({
        code: '0A000',
        hint: 'SET standard_conforming_strings = on.',
      });
      expect(await inBackground(client, `SELECT 'no backslash'`)).to.deep.equal([['no backslash']]);
    });

    it('have parameters', async () => {
      expect(await errorInBackground(client, 'SELECT $1')).to.include({
        code: '42P02',
        message: 'there is no parameter $1',
      });
    });
  });

  describe('NOTIFY', () => {
    it("is delivered when the worker has committed, with the worker's pid", async () => {
      const notified = new Promise<unknown>((resolve) =>
        client.on('notification', ({ processId, channel, payload }) =>
          resolve({ processId, channel, payload }),
        ),
      );
      await client.query('LISTEN here');
      const pid = await launch(client, `NOTIFY here, 'done'`);
      await readResult(client, pid);
      expect(await notified).to.deep.equal({ processId: pid, channel: 'here', payload: 'done' });
    });

    it('is not delivered when the worker fails', async () => {
      const heard: unknown[] = [];
      client.on('notification', ({ payload }) => heard.push(payload));
      await client.query('LISTEN here');
      await errorInBackground(client, `NOTIFY here, 'never'; SELECT 1/0`);
      await inBackground(client, `NOTIFY here, 'done'`);
      await eventually(async () => {
        await client.query('SELECT 1');
        expect(heard).to.deep.equal(['done']);
      });
    });
  });

  describe('SET', () => {
    it('is in effect for the rest of the text', async () => {
      expect(
        await inBackground(client, `SET work_mem = '5MB'; SELECT current_setting('work_mem')`),
      ).to.deep.equal([['5MB']]);
    });

    for (const sql of [
      `SET work_mem = '5MB'`,
      `SELECT set_config('work_mem', '5MB', false)`,
      `DO $$ BEGIN PERFORM set_config('work_mem', '5MB', false); END $$`,
    ]) {
      it(`changes neither the session nor a later worker: ${sql}`, async () => {
        const before = await client.value('SHOW work_mem');
        await inBackground(client, sql);
        expect(await client.value('SHOW work_mem')).to.equal(before);
        for (let i = 0; i < 3; i++) {
          expect(await inBackground(client, `SELECT current_setting('work_mem')`)).to.deep.equal([
            [before],
          ]);
        }
      });
    }

    it('of a role lasts for the text only', async () => {
      expect(
        await inBackground(client, 'SET ROLE pgbackground_executor; SELECT current_user::text'),
      ).to.deep.equal([['pgbackground_executor']]);
      expect(await inBackground(client, 'SELECT current_user::text')).to.deep.equal([['postgres']]);
    });
  });

  for (const [what, sql] of [
    ['a temporary table', 'CREATE TEMP TABLE mine (a int)'],
    ['a prepared statement', 'PREPARE mine AS SELECT 1'],
    ['a cursor', 'DECLARE mine CURSOR WITH HOLD FOR SELECT 1'],
    ['an advisory lock', 'SELECT pg_advisory_lock(4711)'],
  ] as const) {
    it(`leaves ${what} to no later worker`, async () => {
      await inBackground(client, sql);
      for (let i = 0; i < 3; i++) {
        expect(
          await inBackground(
            client,
            `SELECT (SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine') + (SELECT count(*) FROM pg_cursors WHERE name = 'mine'),
                    to_regclass('pg_temp.mine')::text, pg_try_advisory_xact_lock(4711)`,
            'n bigint, r text, locked bool',
          ),
        ).to.deep.equal([['0', null, true]]);
      }
    });
  }

  it('is parsed whole before anything of it runs', async () => {
    expect(await errorInBackground(client, `SELECT nextval('s'); SELEC 1`)).to.include({
      code: '42601',
      message: 'syntax error at or near "SELEC"',
    });
    expect(await sequenceWasUsed()).to.equal(false);
  });

  it('is looked up statement by statement, so that earlier ones have run when a name is wrong', async () => {
    expect(
      (
        await errorInBackground(
          client,
          `INSERT INTO t VALUES (nextval('s')); SELECT * FROM nowhere`,
        )
      ).code,
    ).to.equal('42P01');
    expect(await sequenceWasUsed()).to.equal(true);
    expect(await contents()).to.deep.equal([]);
  });

  for (const sql of ['', ' \n\t', ';', ' ; ;; ', '-- nothing', '/* nothing */ ; -- at all']) {
    describe(`that is empty: ${JSON.stringify(sql)}`, () => {
      it('succeeds with no row where one text column is declared', async () => {
        expect(await inBackground(client, sql)).to.deep.equal([]);
      });

      it('is no result set for other column definition lists', async () => {
        expect(await errorInBackground(client, sql, 'n int')).to.include({
          code: '42804',
          message:
            'remote query did not return a result set, but result rowtype is not a single text column',
        });
      });
    });
  }

  it('may hold 5 MB, which hold up no other session', async () => {
    const pid = await launch(client, `SELECT length('${'x'.repeat(1000)}');`.repeat(5000));
    const other = await proxy.connect();
    expect(await inBackground(other, 'SELECT 7', 'n int')).to.deep.equal([[7]]);
    expect(await readResult(client, pid, 'n int')).to.deep.equal([[1000]]);
  });

  it('does not run at all when it is cancelled while it is still being looked at', async () => {
    const handle = await launchHandle(
      client,
      `${`SELECT ${'1 + '.repeat(250)} 1;`.repeat(1500)} INSERT INTO t VALUES (1)`,
    );
    await client.query('SELECT pg_background_cancel_v2_grace($1, $2, 60000)', [...handle]);
    await client.query('SELECT pg_background_wait_v2($1, $2)', [...handle]);
    expect(await contents()).to.deep.equal([]);
    expect((await readError(client, handle[0])).code).to.be.oneOf(['57014', '57P01']);
  });

  it('may be one literal of 5 MB', async () => {
    expect(
      await inBackground(client, `SELECT length('${'x'.repeat(5_000_000)}')`, 'n int'),
    ).to.deep.equal([[5_000_000]]);
  });
});
