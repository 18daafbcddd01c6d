/*
 * Errors of a worker, as the reader of its result gets them: every field as the server said it, one
 * line of context for the worker, and the place of the error in the worker's SQL.
 */
import { expect } from 'chai';
import type pg from 'pg';
import {
  errorInBackground,
  inBackground,
  launch,
  launchHandle,
  readError,
} from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';
import { testedVersion } from '../support/server.ts';

describe("a worker's error", () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const admin = await proxy.connect();
    await admin.query(`CREATE DOMAIN positive AS int CONSTRAINT must_be_positive CHECK (VALUE > 0);
      CREATE TABLE keyed (id int PRIMARY KEY, needed int NOT NULL DEFAULT 0, size positive, CHECK (needed < 100));
      CREATE TABLE referring (id int REFERENCES keyed);
      INSERT INTO keyed VALUES (1);
      CREATE FUNCTION divide(a int, b int) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN
          RETURN a / b;
        END $$;
      CREATE FUNCTION raise_all() RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
          RAISE EXCEPTION USING ERRCODE = 'P0042', MESSAGE = 'message', DETAIL = 'detail', HINT = 'hint',
            SCHEMA = 'schema', TABLE = 'table', COLUMN = 'column', DATATYPE = 'datatype', CONSTRAINT = 'constraint';
        END $$`);
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(() => proxy.stop());

  /** All that an error says but its context and its place, which are other ones in the background. */
  const told = (error: pg.DatabaseError) => {
    const { severity, code, message, detail, hint } = error;
    const { schema, table, column, dataType, constraint, file, line, routine } = error;
    return {
      ...{ severity, code, message, detail, hint },
      ...{ schema, table, column, dataType, constraint, file, line, routine },
    };
  };

  describe('has every field that it has in a session of its own:', () => {
    for (const [what, sql, some] of [
      ['division', 'SELECT 1/0', { code: '22012', routine: 'int4div' }],
      [
        'unique constraint',
        'INSERT INTO keyed VALUES (1)',
        {
          code: '23505',
          detail: 'Key (id)=(1) already exists.',
          schema: 'public',
          table: 'keyed',
          constraint: 'keyed_pkey',
        },
      ],
      ['NOT NULL', 'INSERT INTO keyed VALUES (2, NULL)', { code: '23502', column: 'needed' }],
      ['CHECK', 'INSERT INTO keyed VALUES (2, 100)', { code: '23514', table: 'keyed' }],
      [
        'domain',
        'SELECT (-1)::positive',
        { code: '23514', dataType: 'positive', constraint: 'must_be_positive' },
      ],
      ['foreign key', 'INSERT INTO referring VALUES (7)', { code: '23503', table: 'referring' }],
      ['hint', 'SELECT nothing FROM keyed, LATERAL (SELECT ide) x', { code: '42703' }],
      ['syntax', 'SELECT nope nope nope', { code: '42601', routine: 'scanner_yyerror' }],
      [
        'RAISE',
        'SELECT raise_all()',
        {
          code: 'P0042',
          message: 'message',
          detail: 'detail',
          hint: 'hint',
          schema: 'schema',
          table: 'table',
          column: 'column',
          dataType: 'datatype',
          constraint: 'constraint',
        },
      ],
      [
        'RAISE without fields',
        `DO $$ BEGIN RAISE 'only this'; END $$`,
        { code: 'P0001', detail: undefined, hint: undefined, schema: undefined },
      ],
      [
        'RAISE with the code of a terminated worker',
        `DO $$ BEGIN RAISE 'of mine' USING ERRCODE = '57P01'; END $$`,
        { code: '57P01', message: 'of mine' },
      ],
      [
        'RAISE with the code of a cancelled statement',
        `DO $$ BEGIN RAISE 'of mine' USING ERRCODE = '57014'; END $$`,
        { code: '57014', message: 'of mine' },
      ],
      [
        'RAISE with the code of the callback channel',
        `DO $$ BEGIN RAISE 'of mine' USING ERRCODE = 'PGBG0'; END $$`,
        { code: 'PGBG0', message: 'of mine' },
      ],
      [
        'text that is not ASCII, in several lines',
        `DO $$ BEGIN RAISE E'größer\\nals €' USING DETAIL = 'ünd 𝄞', HINT = 'ß'; END $$`,
        { message: 'größer\nals €', detail: 'ünd 𝄞', hint: 'ß' },
      ],
    ] as const) {
      it(what, async () => {
        const here = await client.error(sql);
        expect(here).to.include(some);
        expect(told(await errorInBackground(client, sql))).to.deep.equal(told(here));
      });
    }
  });

  describe('has as its context', () => {
    it('the worker, once', async () => {
      const pid = await launch(client, 'SELECT 1/0');
      expect((await readError(client, pid)).where).to.equal(`background worker, pid ${pid}`);
    });

    it('the worker, once, for an error of its commit', async () => {
      await client.query(
        'CREATE TABLE late (id int REFERENCES keyed DEFERRABLE INITIALLY DEFERRED)',
      );
      const pid = await launch(client, 'INSERT INTO late VALUES (7)');
      expect((await readError(client, pid)).where).to.equal(`background worker, pid ${pid}`);
      await client.query('DROP TABLE late');
    });

    it('the worker, once, for SQL that is refused', async () => {
      const pid = await launch(client, 'COMMIT');
      expect((await readError(client, pid)).where).to.equal(`background worker, pid ${pid}`);
    });

    for (const sql of [
      'SELECT divide(1, 0)',
      `DO $$ BEGIN PERFORM divide(1, 0); END $$`,
      `SELECT raise_all()`,
    ]) {
      it(`its own context before that: ${sql}`, async () => {
        const here = await client.error(sql);
        expect(here.where).to.match(/^PL\/pgSQL function/);
        const pid = await launch(client, sql);
        expect((await readError(client, pid)).where).to.equal(
          `${here.where}\nbackground worker, pid ${pid}`,
        );
      });
    }

    it('the functions that read it behind that', async () => {
      await client.query(`CREATE FUNCTION read_it(pid int) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
          PERFORM FROM pg_background_result(pid) AS (n int);
        END $$`);
      const pid = await launch(client, 'SELECT 1/0');
      expect((await client.error('SELECT read_it($1)', [pid])).where).to.match(
        new RegExp(
          `^background worker, pid ${pid}\nSQL statement "SELECT .*"\nPL/pgSQL function read_it\\(integer\\) line 3 at PERFORM$`,
        ),
      );
      await client.query('DROP FUNCTION read_it');
    });

    it('every worker that passed it on, innermost first, and nothing of how they did', async () => {
      const pid = await launch(
        client,
        `SELECT n FROM pg_background_result(pg_background_launch('SELECT 1/0')) AS (n int)`,
      );
      const error = await readError(client, pid);
      expect(error).to.include({ code: '22012', message: 'division by zero' });
      const [inner, outer, ...more] = error.where?.split('\n') ?? [];
      expect(inner).to.match(/^background worker, pid \d+$/);
      expect(outer).to.equal(`background worker, pid ${pid}`);
      expect(inner).not.to.equal(outer);
      expect(more).to.deep.equal([]);
    });
  });

  it('of a worker within a worker has every field', async () => {
    const here = await client.error('SELECT raise_all()');
    const error = await errorInBackground(
      client,
      `SELECT n FROM pg_background_result(pg_background_launch('SELECT raise_all()')) AS (n int)`,
    );
    expect(told(error)).to.deep.equal(told(here));
  });

  describe('has its place in the SQL of the worker, not in that of the reader:', () => {
    for (const sql of [
      'SELECT nope nope nope',
      'SELECT 1; SELECT * FROM nowhere',
      `SELECT 'äöü€𝄞', nowhere`,
      'SELECT\n  1,\n  nowhere',
    ]) {
      it(sql, async () => {
        const here = await client.error(sql);
        const error = await errorInBackground(client, sql);
        expect(error.position).to.equal(undefined);
        expect(error.internalPosition).to.equal(here.position);
        expect(error.internalQuery).to.equal(sql);
      });
    }

    it('and in the query within it where that is known', async () => {
      const sql = `DO $$ BEGIN EXECUTE 'SELECT * FROM nowhere'; END $$`;
      const error = await errorInBackground(client, sql);
      expect(error).to.include({
        position: undefined,
        internalPosition: '15',
        internalQuery: 'SELECT * FROM nowhere',
      });
    });

    it('and nowhere where it has none', async () => {
      const error = await errorInBackground(client, 'SELECT 1/0');
      expect(error).to.include({
        position: undefined,
        internalPosition: undefined,
        internalQuery: undefined,
      });
    });
  });

  describe('leaves the session', () => {
    it('able to go on', async () => {
      await errorInBackground(client, 'SELECT 1/0');
      expect(await inBackground(client, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
    });

    it('in a failed transaction, from which a savepoint saves it', async () => {
      await client.query('BEGIN; SAVEPOINT s');
      await errorInBackground(client, 'SELECT 1/0');
      expect((await client.error('SELECT 1')).code).to.equal('25P02');
      await client.query('ROLLBACK TO s');
      expect(await client.value('SELECT 1')).to.equal(1);
      await client.query('COMMIT');
    });
  });

  it('can be told from others by an EXCEPTION block, with all its fields', async () => {
    await client.query(`DO $$
      DECLARE
        message text; detail text; hint text; schema text; tab text; col text; type text; con text;
      BEGIN
        PERFORM FROM pg_background_result(pg_background_launch('SELECT raise_all()')) AS (n text);
      EXCEPTION WHEN SQLSTATE 'P0042' THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
          schema = SCHEMA_NAME, tab = TABLE_NAME, col = COLUMN_NAME, type = PG_DATATYPE_NAME, con = CONSTRAINT_NAME;
        RAISE NOTICE '%', concat_ws(' ', message, detail, hint, schema, tab, col, type, con);
      END $$`);
    expect(client.notices.map(({ message }) => message)).to.deep.equal([
      'message detail hint schema table column datatype constraint',
    ]);
  });

  describe('that ends the worker is an ERROR to the reader, who goes on:', () => {
    const TERMINATED = {
      severity: 'ERROR',
      code: '57P01',
      message: 'terminating background worker "pg_background" due to administrator command',
      detail: undefined,
      hint: undefined,
    };
    const CANCELED = {
      severity: 'ERROR',
      code: '57014',
      message: 'canceling statement due to user request',
    };

    /** A worker that sleeps, and is known to do so. */
    async function launchSleeper(): Promise<number> {
      const [pid] = await launchHandle(client, 'SELECT pg_sleep(60)');
      await eventually(async () => {
        expect(
          await client.value('SELECT wait_event FROM pg_stat_activity WHERE pid = $1', [pid]),
        ).to.equal('PgSleep');
      });
      return pid;
    }

    it('pg_background_cancel_v2', async () => {
      const handle = await launchHandle(client, 'SELECT pg_sleep(60)');
      await client.query('SELECT pg_background_cancel_v2($1, $2)', [...handle]);
      expect(await readError(client, handle[0])).to.include(TERMINATED);
      expect(await client.value('SELECT 1')).to.equal(1);
    });

    it('pg_terminate_backend by the session', async () => {
      const pid = await launchSleeper();
      await client.query('SELECT pg_terminate_backend($1)', [pid]);
      const error = await readError(client, pid);
      expect(error).to.include(TERMINATED);
      expect(error.where).to.equal(`background worker, pid ${pid}`);
    });

    it('pg_terminate_backend by anybody else', async () => {
      const pid = await launchSleeper();
      const admin = await proxy.database.direct();
      await admin.query('SELECT pg_terminate_backend($1)', [pid]);
      expect(await readError(client, pid)).to.include(TERMINATED);
    });

    it('pg_terminate_backend by the worker itself', async () => {
      expect(
        await errorInBackground(client, 'SELECT pg_terminate_backend(pg_backend_pid())'),
      ).to.include(TERMINATED);
    });

    it('pg_cancel_backend by the session', async () => {
      const pid = await launchSleeper();
      await client.query('SELECT pg_cancel_backend($1)', [pid]);
      expect(await readError(client, pid)).to.include(CANCELED);
    });

    it('pg_cancel_backend by the worker itself', async () => {
      expect(
        await errorInBackground(client, 'SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)'),
      ).to.include(CANCELED);
    });

    if (testedVersion >= 17) {
      it('transaction_timeout', async () => {
        expect(
          await errorInBackground(client, `SET transaction_timeout = '50ms'; SELECT pg_sleep(60)`),
        ).to.include({
          severity: 'ERROR',
          code: '25P04',
          message: 'terminating connection due to transaction timeout',
        });
        expect(await client.value('SELECT 1')).to.equal(1);
      });
    }
  });
});
