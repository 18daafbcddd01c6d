/*
 * Launching: what pg_background_launch, pg_background_launch_v2 and pg_background_submit_v2 refuse,
 * what counts against pg_background.max_workers, and what pid and cookie are.
 */
import { expect } from 'chai';
import {
  cancelAll,
  heldPids,
  launch,
  launchHandle,
  LIST_COLUMNS,
  readError,
  readResult,
} from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const LAUNCHERS = ['pg_background_launch', 'pg_background_launch_v2', 'pg_background_submit_v2'];

const TOO_SMALL = {
  code: '22023',
  message: 'queue size must be at least 64 bytes',
  detail: undefined,
  hint: undefined,
};
const TOO_BIG = {
  code: '22023',
  message: 'queue size must not exceed 268435456 bytes',
  detail: undefined,
  hint: 'Large result sets should be written to a table instead.',
};
const tooMany = (limit: number) => ({
  code: '53400',
  message: 'too many background workers',
  detail: `Current limit is ${limit} concurrent workers per session.`,
  hint: 'Wait for existing workers to complete, or increase pg_background.max_workers.',
});

describe('launching', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const admin = await proxy.connect();
    await admin.query(`CREATE ROLE launching_app LOGIN; CREATE ROLE launching_weak;
      GRANT launching_weak TO launching_app; GRANT pgbackground_executor TO launching_app, launching_weak;
      CREATE TABLE t (a int)`);
  });
  beforeEach(async () => {
    client = await proxy.connect();
    await client.query('TRUNCATE t');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const admin = await proxy.connect();
    await admin.query(
      'DROP OWNED BY launching_app, launching_weak; DROP ROLE launching_app; DROP ROLE launching_weak',
    );
    await proxy.stop();
  });

  const countRows = () => client.value('SELECT count(*)::int FROM t');

  describe('queue_size', () => {
    for (const launcher of LAUNCHERS) {
      for (const [size, refusal] of [
        [1, TOO_SMALL],
        [63, TOO_SMALL],
        [268435457, TOO_BIG],
        [2147483647, TOO_BIG],
      ] as const) {
        it(`of ${size} is refused by ${launcher}`, async () => {
          expect(await client.error(`SELECT ${launcher}('SELECT 1', ${size})`)).to.include(refusal);
          expect(
            await client.value('SELECT workers_launched FROM pg_background_stats_v2()'),
          ).to.equal('0');
        });
      }

      for (const [size, used] of [
        [0, 65536],
        [-1, 65536],
        [-2147483648, 65536],
        [64, 64],
        [65, 65],
        [268435456, 268435456],
      ] as const) {
        it(`of ${size} means ${used} bytes to ${launcher}`, async () => {
          await client.query(`SELECT ${launcher}('SELECT 1', ${size})`);
          expect(
            await client.value(
              `SELECT queue_size FROM pg_background_list_v2() AS (${LIST_COLUMNS})`,
            ),
          ).to.equal(used);
        });
      }
    }

    it('of 64 is enough for a result of any size', async () => {
      const pid = await client.value(
        `SELECT pg_background_launch('SELECT repeat(''x'', 100000)', 64)`,
      );
      expect(await readResult(client, pid as number, 't text')).to.deep.equal([
        ['x'.repeat(100000)],
      ]);
    });

    it('is checked before the number of workers', async () => {
      await client.query('SET pg_background.max_workers = 1');
      await launch(client, 'SELECT 1');
      expect(await client.error(`SELECT pg_background_launch('SELECT 2', 63)`)).to.include(
        TOO_SMALL,
      );
      expect(await client.error(`SELECT pg_background_launch('SELECT 2', 268435457)`)).to.include(
        TOO_BIG,
      );
      expect(await client.error(`SELECT pg_background_launch('SELECT 2', 64)`)).to.include(
        tooMany(1),
      );
    });
  });

  describe('pg_background.max_workers', () => {
    const refusal = (launcher = 'pg_background_launch', by = client) =>
      by.error(`SELECT ${launcher}('SELECT 1')`);

    it('allows 16 handles in a session by default', async () => {
      await client.query(
        `SELECT pg_background_launch('SELECT ' || i) FROM generate_series(1, 16) i`,
      );
      expect(await refusal()).to.include(tooMany(16));
    });

    for (const launcher of LAUNCHERS) {
      it(`limits ${launcher}`, async () => {
        await client.query('SET pg_background.max_workers = 1');
        await launch(client, 'SELECT 1');
        expect(await refusal(launcher)).to.include(tooMany(1));
      });
    }

    it('does not count a launch that was refused', async () => {
      await client.query('SET pg_background.max_workers = 1');
      await launch(client, 'SELECT 1');
      await refusal();
      expect(
        await client.rows('SELECT workers_launched, workers_active FROM pg_background_stats_v2()'),
      ).to.deep.equal([['1', 1]]);
    });

    it('counts a worker that has ended until its result is read', async () => {
      await client.query('SET pg_background.max_workers = 1');
      const handle = await launchHandle(client, 'SELECT 1');
      await client.query('SELECT pg_background_wait_v2($1, $2)', [...handle]);
      expect(await refusal()).to.include(tooMany(1));
      await readResult(client, handle[0], 'n int');
      await launch(client, 'SELECT 1');
    });

    it('counts a worker that has failed until its error is read', async () => {
      await client.query('SET pg_background.max_workers = 1');
      const handle = await launchHandle(client, 'SELECT 1/0');
      await client.query('SELECT pg_background_wait_v2($1, $2)', [...handle]);
      expect(await refusal()).to.include(tooMany(1));
      await readError(client, handle[0]);
      await launch(client, 'SELECT 1');
    });

    it('does not count a worker that was detached, though it still runs', async () => {
      await client.query('SET pg_background.max_workers = 1');
      const handle = await launchHandle(client, 'SELECT pg_sleep(0.5)');
      await client.query('SELECT pg_background_detach_v2($1, $2)', [...handle]);
      await launch(client, 'SELECT 1');
    });

    it('counts a submitted worker while it runs, and no longer when it has ended', async () => {
      await client.query('SET pg_background.max_workers = 1');
      const handle = await launchHandle(client, 'SELECT pg_sleep(60)', 'submit_v2');
      expect(await refusal('pg_background_submit_v2')).to.include(tooMany(1));
      await client.query('SELECT pg_background_cancel_v2($1, $2)', [...handle]);
      await client.query('SELECT pg_background_wait_v2($1, $2)', [...handle]);
      await launchHandle(client, 'SELECT 1', 'submit_v2');
    });

    it('counts the workers of all roles of a session', async () => {
      const app = await proxy.connect({ user: 'launching_app' });
      await app.query('SET pg_background.max_workers = 1');
      await launch(app, 'SELECT 1');
      await app.query('SET ROLE launching_weak');
      expect(await refusal('pg_background_launch', app)).to.include(tooMany(1));
    });

    it('does not count the workers of another session', async () => {
      await client.query('SET pg_background.max_workers = 1');
      await launch(client, 'SELECT 1');
      const other = await proxy.connect();
      await other.query('SET pg_background.max_workers = 1');
      await launch(other, 'SELECT 1');
    });

    it('blocks only new launches when it is lowered', async () => {
      const first = await launch(client, 'SELECT 1');
      const second = await launch(client, 'SELECT 2');
      await client.query('SET pg_background.max_workers = 1');
      expect(await refusal()).to.include(tooMany(1));
      expect(await readResult(client, first, 'n int')).to.deep.equal([[1]]);
      expect(await refusal()).to.include(tooMany(1));
      expect(await readResult(client, second, 'n int')).to.deep.equal([[2]]);
      await launch(client, 'SELECT 3');
    });

    it('holds within one statement, too', async () => {
      await client.query('SET pg_background.max_workers = 3');
      expect(
        await client.error(
          `SELECT pg_background_launch('INSERT INTO t VALUES (' || i || ')') FROM generate_series(1, 4) i`,
        ),
      ).to.include(tooMany(3));
      expect(await heldPids(client)).to.have.length(3);
      await eventually(async () => {
        expect(await countRows()).to.equal(3);
      });
    });
  });

  it('says which limit is in the way when the server gives no connection', async () => {
    await client.query('ALTER ROLE launching_app CONNECTION LIMIT 3');
    const app = await proxy.connect({ user: 'launching_app' });
    // One connection is the session's, one the control link's, one this worker's.
    await launch(app, 'SELECT pg_sleep(60)');
    const error = await app.error(`SELECT pg_background_launch('SELECT 1')`);
    await client.query('ALTER ROLE launching_app CONNECTION LIMIT -1');
    await cancelAll(app);
    expect(error).to.include({
      code: '53000',
      message: 'could not register background process',
      detail: 'too many connections for role "launching_app"',
    });
    expect(error.hint).to.include('CONNECTION LIMIT');
  });

  describe('the SQL', () => {
    it('is not waited for', async () => {
      await client.query('BEGIN; LOCK TABLE t');
      const pid = await launch(client, 'INSERT INTO t VALUES (1)');
      await client.query('COMMIT');
      expect(await readResult(client, pid)).to.deep.equal([['INSERT 0 1']]);
    });

    for (const [sql, code] of [
      ['SELEC 1', '42601'],
      ['SELECT 1/0', '22012'],
      ['SELECT * FROM nowhere', '42P01'],
      ['COMMIT', '0A000'],
      ['COPY t TO STDOUT', '0A000'],
    ] as const) {
      it(`fails at the result, not at the launch: ${sql}`, async () => {
        const pid = await launch(client, sql);
        expect((await readError(client, pid)).code).to.equal(code);
      });
    }

    it('runs whole when it comes from a column of a table', async () => {
      await client.query(`CREATE TABLE jobs (id int, sql text)`);
      await client.query(
        `INSERT INTO jobs VALUES (1, 'SELECT 42'), (2, 'SELECT length(''${'x'.repeat(300)}'')'), (3, 'TABLE t')`,
      );
      expect(
        await client.rows(
          `SELECT r.n FROM (SELECT pg_background_launch(sql) AS pid FROM jobs ORDER BY id) l, LATERAL pg_background_result(pid) AS r(n int)`,
        ),
      ).to.deep.equal([[42], [300]]);
      await client.query('DROP TABLE jobs');
    });

    for (const launcher of LAUNCHERS) {
      it(`may be an expression of the statement that calls ${launcher}`, async () => {
        await client.query(
          `SELECT ${launcher}(format('INSERT INTO t SELECT %s FROM generate_series(1, %s)', i, i)) FROM generate_series(1, 3) i`,
        );
        await eventually(async () => {
          expect(await countRows()).to.equal(6);
        });
      });
    }
  });

  describe('pid and cookie', () => {
    it('pid is the backend that runs the SQL, in the database of the session', async () => {
      const pid = await launch(client, 'SELECT pg_backend_pid(), current_database()::text');
      expect(await readResult(client, pid, 'pid int, name text')).to.deep.equal([
        [pid, proxy.database.name],
      ]);
    });

    it('pid is different for each handle that is held', async () => {
      await client.query(
        `SELECT pg_background_launch('SELECT ' || i) FROM generate_series(1, 10) i`,
      );
      expect(new Set(await heldPids(client)).size).to.equal(10);
    });

    it('cookie is 0 for pg_background_launch', async () => {
      await launch(client, 'SELECT 1');
      expect(
        await client.rows(`SELECT cookie FROM pg_background_list_v2() AS (${LIST_COLUMNS})`),
      ).to.deep.equal([['0']]);
    });

    for (const launcher of ['launch_v2', 'submit_v2']) {
      it(`cookie is random and not 0 for pg_background_${launcher}`, async () => {
        const cookies = await client.rows(
          `SELECT h.cookie FROM generate_series(1, 10) i, pg_background_${launcher}('SELECT ' || i) h`,
        );
        const distinct = new Set(cookies.map(([cookie]) => cookie));
        expect(distinct.size).to.equal(10);
        expect(distinct).not.to.include('0');
      });
    }

    it('a worker of pg_background_launch is a handle with cookie 0 to the functions of v2', async () => {
      const pid = await launch(client, `SELECT pg_background_progress(50, 'half'); SELECT 5`);
      await client.query('SELECT pg_background_wait_v2($1, 0)', [pid]);
      expect(await client.value('SELECT pg_background_wait_v2_timeout($1, 0, 0)', [pid])).to.equal(
        true,
      );
      expect(
        await client.rows('SELECT * FROM pg_background_get_progress_v2($1, 0)', [pid]),
      ).to.deep.equal([[50, 'half']]);
      expect(
        await client.rows('SELECT * FROM pg_background_result_v2($1, 0) AS (n int)', [pid]),
      ).to.deep.equal([[5]]);
    });

    for (const ending of [
      'pg_background_cancel_v2($1, 0)',
      'pg_background_cancel_v2_grace($1, 0, 60000)',
    ]) {
      it(`a worker of pg_background_launch can be cancelled by ${ending}`, async () => {
        const pid = await launch(client, 'SELECT pg_sleep(60)');
        await client.query(`SELECT ${ending}`, [pid]);
        await client.query('SELECT pg_background_wait_v2($1, 0)', [pid]);
        await client.query('SELECT pg_background_detach_v2($1, 0)', [pid]);
        expect(await heldPids(client)).to.deep.equal([]);
      });
    }

    it('a worker of pg_background_launch_v2 is read by pid alone by pg_background_result', async () => {
      const [pid] = await launchHandle(client, 'SELECT 5');
      expect(await readResult(client, pid, 'n int')).to.deep.equal([[5]]);
    });

    for (const launcher of ['launch_v2', 'submit_v2'] as const) {
      it(`a worker of pg_background_${launcher} is forgotten by pid alone by pg_background_detach`, async () => {
        const [pid] = await launchHandle(client, 'SELECT 5', launcher);
        await client.query('SELECT pg_background_detach($1)', [pid]);
        expect(await heldPids(client)).to.deep.equal([]);
      });
    }
  });

  describe('the transaction of the call', () => {
    it('may roll back: the worker runs all the same, and its handle stays', async () => {
      await client.query('BEGIN');
      const pid = await launch(client, 'INSERT INTO t VALUES (1)');
      await client.query('ROLLBACK');
      expect(await readResult(client, pid)).to.deep.equal([['INSERT 0 1']]);
      expect(await countRows()).to.equal(1);
    });

    it('may roll back to a savepoint: the worker runs all the same, and its handle stays', async () => {
      await client.query('BEGIN; SAVEPOINT s');
      const pid = await launch(client, 'INSERT INTO t VALUES (1)');
      await client.query('ROLLBACK TO s');
      expect(await readResult(client, pid)).to.deep.equal([['INSERT 0 1']]);
      await client.query('COMMIT');
      expect(await countRows()).to.equal(1);
    });

    it('may fail in the very statement: the worker runs all the same, and its handle stays', async () => {
      expect(
        (await client.error(`SELECT 1 / (pg_background_launch('INSERT INTO t VALUES (1)') * 0)`))
          .code,
      ).to.equal('22012');
      const [pid] = await heldPids(client);
      expect(await readResult(client, pid as number)).to.deep.equal([['INSERT 0 1']]);
    });

    it('may fail in an EXCEPTION block: the worker runs all the same, and its handle stays', async () => {
      await client.query(`DO $$
        BEGIN
          PERFORM pg_background_launch('INSERT INTO t VALUES (1)');
          RAISE EXCEPTION 'no';
        EXCEPTION WHEN raise_exception THEN
        END $$`);
      const [pid] = await heldPids(client);
      expect(await readResult(client, pid as number)).to.deep.equal([['INSERT 0 1']]);
    });
  });

  describe('in a worker', () => {
    it('gives the worker a handle of its own, which its session does not have', async () => {
      const pid = await launch(
        client,
        `SELECT pg_background_launch('SELECT 1') AS pid, (SELECT count(*) FROM pg_background_list_v2() AS (pid int4, cookie int8))`,
      );
      expect(await heldPids(client)).to.deep.equal([pid]);
      const [[inner] = []] = await readResult(client, pid, 'pid int, handles bigint');
      expect(inner).not.to.equal(pid);
      expect((await readError(client, inner as number)).code).to.equal('42704');
    });

    it('lets the worker read what it has launched', async () => {
      const pid = await launch(
        client,
        `SELECT n + 1 FROM pg_background_result(pg_background_launch('SELECT 11')) AS (n int)`,
      );
      expect(await readResult(client, pid, 'n int')).to.deep.equal([[12]]);
    });

    it('starts what goes on when the worker has ended', async () => {
      const pid = await launch(
        client,
        `SELECT pg_background_launch('SELECT pg_sleep(0.3); INSERT INTO t VALUES (1)')`,
      );
      await readResult(client, pid, 'pid int');
      await eventually(async () => {
        expect(await countRows()).to.equal(1);
      });
    });
  });
});
