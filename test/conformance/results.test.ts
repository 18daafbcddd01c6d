/*
 * Reading results: what pg_background_result and pg_background_result_v2 refuse, in which order they
 * look, what comes back for each kind of SQL, and when a result is consumed.
 */
import { expect } from 'chai';
import {
  errorInBackground,
  heldPids,
  inBackground,
  launch,
  launchHandle,
  readError,
  readResult,
  type Handle,
} from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const WRONG_COLUMNS = {
  code: '42804',
  message: 'remote query result rowtype does not match the specified FROM clause rowtype',
};
const NO_RESULT_SET = {
  code: '42804',
  message:
    'remote query did not return a result set, but result rowtype is not a single text column',
};
const IN_SELECT_LIST = {
  code: '0A000',
  message: 'function returning record called in context that cannot accept type record',
  hint: 'Call it in FROM with a column definition list.',
};
const notAttached = (pid: number) => ({
  code: '42704',
  message: `PID ${pid} is not attached to this session`,
});

describe('a result', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const admin = await proxy.connect();
    await admin.query(`CREATE ROLE results_app LOGIN; CREATE ROLE results_weak;
      GRANT results_weak TO results_app; GRANT pgbackground_executor TO results_app, results_weak;
      CREATE TABLE t (a int, b text);
      CREATE PROCEDURE add_one(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN n := n + 1; END $$;
      CREATE PROCEDURE nothing() LANGUAGE sql AS ''`);
  });
  beforeEach(async () => {
    client = await proxy.connect();
    await client.query('TRUNCATE t');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const admin = await proxy.connect();
    await admin.query(
      'DROP OWNED BY results_app, results_weak; DROP ROLE results_app; DROP ROLE results_weak',
    );
    await proxy.stop();
  });

  const READ_V2 = 'SELECT * FROM pg_background_result_v2($1, $2) AS (n int)';
  const otherCookie = ([pid, cookie]: Handle) => [pid, cookie === '1' ? '2' : '1'];

  describe('is refused', () => {
    for (const call of ['pg_background_result(4711)', 'pg_background_result_v2(4711, 1)']) {
      it(`for a PID that the session does not know: ${call}`, async () => {
        expect(await client.error(`SELECT * FROM ${call} AS (n int)`)).to.include(
          notAttached(4711),
        );
        expect(await client.error(`SELECT ${call}`)).to.include(notAttached(4711));
      });
    }

    it('to another session of the same user', async () => {
      const handle = await launchHandle(client, 'SELECT 1');
      const other = await proxy.connect();
      expect(await readError(other, handle[0], 'n int')).to.include(notAttached(handle[0]));
      expect(await other.error(READ_V2, [...handle])).to.include(notAttached(handle[0]));
    });

    it('for a wrong cookie', async () => {
      const handle = await launchHandle(client, 'SELECT 1');
      expect(await client.error(READ_V2, otherCookie(handle))).to.include({
        code: '42704',
        message: `PID ${handle[0]} is not attached to this session (cookie mismatch)`,
      });
      expect(await client.rows(READ_V2, [...handle])).to.deep.equal([[1]]);
    });

    it('for a submitted worker, which keeps its handle', async () => {
      const handle = await launchHandle(client, 'SELECT 1', 'submit_v2');
      const refusal = {
        code: '0A000',
        message: `results are disabled for PID ${handle[0]} (submitted via submit_v2)`,
      };
      expect(await client.error(READ_V2, [...handle])).to.include(refusal);
      expect(await readError(client, handle[0], 'n int')).to.include(refusal);
      expect(await heldPids(client)).to.deep.equal([handle[0]]);
    });

    it('for a submitted worker at once, though it still runs', async () => {
      const handle = await launchHandle(client, 'SELECT pg_sleep(60)', 'submit_v2');
      expect((await client.error(READ_V2, [...handle])).code).to.equal('0A000');
      await client.query('SELECT pg_background_cancel_v2($1, $2)', [...handle]);
    });

    for (const read of ['pg_background_result($1)', 'pg_background_result_v2($1, $2)']) {
      it(`in the select list, and stays: ${read}`, async () => {
        const handle = await launchHandle(client, 'SELECT 1');
        const values = read.includes('v2') ? [...handle] : [handle[0]];
        expect(await client.error(`SELECT ${read}`, values)).to.include(IN_SELECT_LIST);
        expect(await readResult(client, handle[0], 'n int')).to.deep.equal([[1]]);
      });

      it(`without a column definition list, and stays: ${read}`, async () => {
        const handle = await launchHandle(client, 'SELECT 1');
        const values = read.includes('v2') ? [...handle] : [handle[0]];
        expect(await client.error(`SELECT * FROM ${read}`, values)).to.include({
          code: '42601',
          message: 'a column definition list is required for functions returning "record"',
        });
        expect(await readResult(client, handle[0], 'n int')).to.deep.equal([[1]]);
      });
    }

    for (const columns of ['n bigint', 'n int, m int', 'n int, m text', 'n varchar', 'n int[]']) {
      it(`for a wrong column definition list, and stays: AS (${columns})`, async () => {
        const pid = await launch(client, 'SELECT 1');
        expect(await readError(client, pid, columns)).to.include(WRONG_COLUMNS);
        expect(await readResult(client, pid, 'n int')).to.deep.equal([[1]]);
      });
    }

    for (const columns of ['n int', 'a text, b text', 'v varchar', 'j json']) {
      it(`for a list that is not one text column where there is no result set, and stays: AS (${columns})`, async () => {
        const pid = await launch(client, 'INSERT INTO t VALUES (1)');
        expect(await readError(client, pid, columns)).to.include(NO_RESULT_SET);
        expect(await readResult(client, pid)).to.deep.equal([['INSERT 0 1']]);
      });
    }

    it('for a column list of another type although it has no rows', async () => {
      expect(await errorInBackground(client, 'SELECT 1 WHERE false', 'n bigint')).to.include(
        WRONG_COLUMNS,
      );
      expect(await inBackground(client, 'SELECT 1 WHERE false', 'n int')).to.deep.equal([]);
    });

    it('for a result without columns, which no list describes', async () => {
      for (const columns of ['n int', 'r text']) {
        expect(
          await errorInBackground(client, 'SELECT FROM generate_series(1, 3)', columns),
        ).to.include(WRONG_COLUMNS);
      }
    });
  });

  describe('is looked at in the order', () => {
    it('rights, then cookie, then submit, then the place of the call', async () => {
      const app = await proxy.connect({ user: 'results_app' });
      const handle = await launchHandle(app, 'SELECT 1', 'submit_v2');
      const inList = 'SELECT pg_background_result_v2($1, $2)';
      await app.query('SET ROLE results_weak');
      expect(await app.error(inList, otherCookie(handle))).to.include({
        code: '42501',
        message: `permission denied for background worker with PID "${handle[0]}"`,
      });
      await app.query('RESET ROLE');
      expect((await app.error(inList, otherCookie(handle))).message).to.match(/cookie mismatch/);
      expect((await app.error(inList, [...handle])).message).to.match(/submitted via submit_v2/);
    });

    it('the place of the call, then the types', async () => {
      const pid = await launch(client, 'INSERT INTO t VALUES (1)');
      expect(await client.error('SELECT pg_background_result($1)', [pid])).to.include(
        IN_SELECT_LIST,
      );
    });

    it("the worker's error, then the types", async () => {
      expect((await errorInBackground(client, 'SELECT 1/0', 'a bigint, b json')).code).to.equal(
        '22012',
      );
    });
  });

  describe('holds the rows of the last statement:', () => {
    for (const [sql, columns, rows] of [
      ['SELECT 1', 'n int', [[1]]],
      [
        `SELECT 1, 'a' UNION ALL SELECT 2, NULL ORDER BY 1`,
        'n int, t text',
        [
          [1, 'a'],
          [2, null],
        ],
      ],
      ['VALUES (1), (2)', 'n int', [[1], [2]]],
      ['WITH w AS (SELECT 3 AS n) TABLE w', 'n int', [[3]]],
      [
        `INSERT INTO t VALUES (1, 'x'), (2, 'y') RETURNING a, b`,
        'a int, b text',
        [
          [1, 'x'],
          [2, 'y'],
        ],
      ],
      [`INSERT INTO t VALUES (1); UPDATE t SET a = 5 RETURNING a`, 'a int', [[5]]],
      [`INSERT INTO t VALUES (1); DELETE FROM t RETURNING a`, 'a int', [[1]]],
      [`WITH i AS (INSERT INTO t VALUES (7) RETURNING a) SELECT a FROM i`, 'a int', [[7]]],
      ['SHOW server_encoding', 'e text', [['UTF8']]],
      ['EXPLAIN (COSTS OFF) SELECT 1', 'plan text', [['Result']]],
      ['EXPLAIN (COSTS OFF, FORMAT json) SELECT 1 WHERE false', 'plan json', undefined],
      ['DECLARE c CURSOR FOR SELECT generate_series(1, 5); FETCH 2 FROM c', 'n int', [[1], [2]]],
      [
        'DECLARE c CURSOR FOR SELECT generate_series(1, 3); MOVE 1 FROM c; FETCH ALL FROM c',
        'n int',
        [[2], [3]],
      ],
      ['PREPARE p(int) AS SELECT $1 + 1; EXECUTE p(4)', 'n int', [[5]]],
      ['CALL add_one(1)', 'n int', [[2]]],
      ['SELECT 1; SELECT 2, 3; SELECT 4', 'n int', [[4]]],
      [`INSERT INTO t VALUES (1); SELECT count(*) FROM t; SELECT 'last'`, 'r text', [['last']]],
      ['SELECT 1 WHERE false', 'n int', []],
      ['DELETE FROM t RETURNING a', 'a int', []],
    ] as readonly (readonly [string, string, unknown[][] | undefined])[]) {
      it(sql, async () => {
        const found = await inBackground(client, sql, columns);
        if (rows === undefined) expect(found).to.have.length(1);
        else expect(found).to.deep.equal(rows);
      });
    }
  });

  describe('holds the tags of all statements when the last returns no rows:', () => {
    for (const [sql, tags] of [
      ['INSERT INTO t VALUES (1), (2)', ['INSERT 0 2']],
      [
        'INSERT INTO t VALUES (1); UPDATE t SET a = 2; DELETE FROM t',
        ['INSERT 0 1', 'UPDATE 1', 'DELETE 1'],
      ],
      ['SELECT 1; INSERT INTO t VALUES (1)', ['SELECT 1', 'INSERT 0 1']],
      ['INSERT INTO t VALUES (1) RETURNING a; TRUNCATE t', ['INSERT 0 1', 'TRUNCATE TABLE']],
      ['CREATE TEMP TABLE x AS SELECT generate_series(1, 3)', ['SELECT 3']],
      ['SELECT 1 AS n INTO TEMP x', ['SELECT 1']],
      ['SHOW work_mem; SET work_mem = 64', ['SHOW', 'SET']],
      ['EXPLAIN SELECT 1; RESET ALL', ['EXPLAIN', 'RESET']],
      [
        'DECLARE c CURSOR FOR SELECT 1; MOVE ALL FROM c; CLOSE c',
        ['DECLARE CURSOR', 'MOVE 1', 'CLOSE CURSOR'],
      ],
      ['PREPARE p AS INSERT INTO t VALUES (1); EXECUTE p', ['PREPARE', 'INSERT 0 1']],
      ['CALL nothing()', ['CALL']],
      ['DO $$ BEGIN END $$', ['DO']],
      ['CREATE ROLE results_made; DROP ROLE results_made', ['CREATE ROLE', 'DROP ROLE']],
    ] as const) {
      it(sql, async () => {
        expect(await inBackground(client, sql)).to.deep.equal(tags.map((tag) => [tag]));
      });
    }
  });

  it('comes in order, complete, and again in order through an outer query', async () => {
    const numbers = Array.from({ length: 5000 }, (_, i) => [i + 1]);
    expect(await inBackground(client, 'SELECT generate_series(1, 5000)', 'n int')).to.deep.equal(
      numbers,
    );
    expect(
      await client.rows(
        `SELECT ordinality::int FROM ROWS FROM (pg_background_result(pg_background_launch('SELECT generate_series(1, 5000)')) AS (n int)) WITH ORDINALITY WHERE n = ordinality`,
      ),
    ).to.deep.equal(numbers);
  });

  describe('is consumed', () => {
    it('by a read, and the handle with it', async () => {
      const pid = await launch(client, 'SELECT 1');
      expect(await readResult(client, pid, 'n int')).to.deep.equal([[1]]);
      expect(await heldPids(client)).to.deep.equal([]);
      expect(await readError(client, pid, 'n int')).to.include(notAttached(pid));
      expect((await client.error('SELECT pg_background_detach($1)', [pid])).code).to.equal('42704');
    });

    it('by the read of a result without rows', async () => {
      const pid = await launch(client, 'SELECT 1 WHERE false');
      expect(await readResult(client, pid, 'n int')).to.deep.equal([]);
      expect(await readError(client, pid, 'n int')).to.include(notAttached(pid));
    });

    it("by the read of a worker's error", async () => {
      const pid = await launch(client, 'SELECT 1/0');
      expect((await readError(client, pid)).code).to.equal('22012');
      expect(await heldPids(client)).to.deep.equal([]);
      expect(await readError(client, pid)).to.include(notAttached(pid));
    });

    it("by the read of a worker's error that an EXCEPTION block catches", async () => {
      const pid = await launch(client, 'SELECT 1/0');
      await client.query(`DO $$
        BEGIN
          PERFORM FROM pg_background_result(${pid}) AS (n int);
        EXCEPTION WHEN division_by_zero THEN
        END $$`);
      expect(await readError(client, pid)).to.include(notAttached(pid));
    });

    it('whole by a query with LIMIT', async () => {
      const pid = await launch(client, 'SELECT generate_series(1, 10)');
      expect(
        await client.rows('SELECT * FROM pg_background_result($1) AS (n int) LIMIT 2', [pid]),
      ).to.deep.equal([[1], [2]]);
      expect(await readError(client, pid, 'n int')).to.include(notAttached(pid));
    });

    it("whole by a cursor's first FETCH", async () => {
      const pid = await launch(client, 'SELECT generate_series(1, 10)');
      await client.query(
        `BEGIN; DECLARE c CURSOR FOR SELECT * FROM pg_background_result(${pid}) AS (n int)`,
      );
      expect(await heldPids(client)).to.deep.equal([pid]);
      expect(await client.rows('FETCH 1 FROM c')).to.deep.equal([[1]]);
      expect(await heldPids(client)).to.deep.equal([]);
      expect(await client.rows('FETCH 2 FROM c')).to.deep.equal([[2], [3]]);
      await client.query('COMMIT');
    });

    it('for good, though its transaction or savepoint rolls back', async () => {
      const [first, second] = [await launch(client, 'SELECT 1'), await launch(client, 'SELECT 2')];
      await client.query('BEGIN; SAVEPOINT s');
      await readResult(client, first, 'n int');
      await client.query('ROLLBACK TO s');
      await readResult(client, second, 'n int');
      await client.query('ROLLBACK');
      expect(await heldPids(client)).to.deep.equal([]);
    });

    it('once, also within one statement', async () => {
      const pid = await launch(client, 'SELECT 1');
      expect(
        await client.error(
          'SELECT FROM pg_background_result($1) AS a(n int), pg_background_result($1) AS b(n int)',
          [pid],
        ),
      ).to.include(notAttached(pid));
    });
  });

  describe('stays for another read', () => {
    const afterGate = `${WAIT_AT_GATE}, 5`;
    let gate: Gate;
    beforeEach(async () => {
      gate = new Gate(await proxy.database.direct());
      await gate.close();
    });
    afterEach(() => gate.open());

    it('when the reader runs into its statement_timeout', async () => {
      const pid = await launch(client, afterGate);
      await client.query(`SET statement_timeout = '50ms'`);
      expect((await readError(client, pid, 's text, n int')).code).to.equal('57014');
      await client.query('RESET statement_timeout');
      await gate.open();
      expect(await readResult(client, pid, 's text, n int')).to.deep.equal([['', 5]]);
    });

    it('when the reader is cancelled', async () => {
      const pid = await launch(client, afterGate);
      const reader = await client.value('SELECT pg_backend_pid()');
      const read = readError(client, pid, 's text, n int');
      const admin = await proxy.database.direct();
      await eventually(async () => {
        const { rows } = await admin.query<{ wait_event: string }>(
          'SELECT wait_event FROM pg_stat_activity WHERE pid = $1',
          [reader],
        );
        expect(rows).to.deep.equal([{ wait_event: 'advisory' }]);
      });
      await admin.query('SELECT pg_cancel_backend($1)', [reader]);
      expect(await read).to.include({
        code: '57014',
        message: 'canceling statement due to user request',
      });
      await gate.open();
      expect(await readResult(client, pid, 's text, n int')).to.deep.equal([['', 5]]);
    });

    it('when a value does not fit the type modifier', async () => {
      const pid = await launch(client, `SELECT 'xyz'::varchar`);
      expect((await readError(client, pid, 'v varchar(2)')).code).to.equal('22001');
      expect(await readResult(client, pid, 'v varchar(3)')).to.deep.equal([['xyz']]);
    });

    it('when a wrong list is caught by an EXCEPTION block', async () => {
      const pid = await launch(client, 'SELECT 5');
      await client.query(`DO $$
        BEGIN
          PERFORM FROM pg_background_result(${pid}) AS (n bigint);
        EXCEPTION WHEN datatype_mismatch THEN
          PERFORM pg_background_detach(${pid});
        END $$`);
      expect(await heldPids(client)).to.deep.equal([]);
    });
  });

  describe('can be read where it is launched:', () => {
    for (const query of [
      `SELECT a FROM pg_background_result(pg_background_launch('SELECT 5')) AS (a int)`,
      `SELECT r.a FROM pg_background_launch_v2('SELECT 5') l, LATERAL pg_background_result_v2(l.pid, l.cookie) AS r(a int)`,
      `SELECT r.a FROM pg_background_launch_v2('SELECT 5') l CROSS JOIN LATERAL pg_background_result(l.pid) AS r(a int)`,
      `WITH h AS MATERIALIZED (SELECT * FROM pg_background_launch_v2('SELECT 5')) SELECT r.a FROM h, LATERAL pg_background_result_v2(pid, cookie) AS r(a int)`,
      `SELECT (SELECT a FROM pg_background_result(pg_background_launch('SELECT 5')) AS (a int))`,
    ]) {
      it(query, async () => {
        expect(await client.rows(query)).to.deep.equal([[5]]);
      });
    }

    it('once for each row', async () => {
      expect(
        await client.rows(
          `SELECT i, r.a FROM generate_series(1, 3) i, LATERAL pg_background_result(pg_background_launch('SELECT 10 * ' || i)) AS r(a int) ORDER BY i`,
        ),
      ).to.deep.equal([
        [1, 10],
        [2, 20],
        [3, 30],
      ]);
    });
  });

  it('of one prepared statement may have other values, pids and workers each time', async () => {
    await client.query('PREPARE r(int) AS SELECT a FROM pg_background_result($1) AS (a text)');
    for (const [sql, value] of [
      [`SELECT 'one'`, 'one'],
      ['SELECT 2', '2'],
      ['INSERT INTO t VALUES (1)', 'INSERT 0 1'],
    ] as const) {
      const pid = await launch(client, sql);
      expect(await client.rows(`EXECUTE r(${pid})`)).to.deep.equal([[value]]);
    }
  });
});
