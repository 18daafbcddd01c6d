import { expect } from 'chai';
import { connect } from 'node:net';
import type pg from 'pg';
import { serialize } from 'pg-protocol';
import { eventually } from '../support/eventually.ts';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';
import { WireSession } from '../support/wire-session.ts';
import { RawClient } from '../support/wire.ts';

/** Waits until a backend has ended its statement. */
async function untilIdle(by: pg.Client, pid: number): Promise<void> {
  await eventually(async () => {
    const { rows } = await by.query<{ state: string }>(
      'SELECT state FROM pg_stat_activity WHERE pid = $1 AND query LIKE $2',
      [pid, '%pg_background_result%'],
    );
    expect(rows).to.deep.equal([{ state: 'idle' }]);
  });
}

/** A CancelRequest, as drivers send it. */
async function cancelRequest(client: TestClient, port: number): Promise<void> {
  const { processID, secretKey } = client as unknown as { processID: number; secretKey: number };
  const socket = connect({ host: '127.0.0.1', port });
  socket.end(serialize.cancel(processID, secretKey));
  await new Promise((resolve) => socket.resume().on('close', resolve));
}

describe('a session that waits for a worker that waits for the session', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (
      await proxy.connect()
    ).query(`CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1), (2);
      CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(42); END';
      CREATE EVENT TRIGGER hold ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION hold()`);
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(() => proxy.stop());

  it('is told of the deadlock, and the worker goes on when the transaction ends', async () => {
    await client.query('BEGIN; UPDATE t SET a = 3 WHERE a = 1');
    const error = await client.error(
      `SELECT * FROM pg_background_result(pg_background_launch('UPDATE t SET a = 4 WHERE a = 1')) AS (r text)`,
    );
    expect(error).to.include({ code: '40P01', message: 'deadlock detected' });
    expect(error.detail).to.match(
      /^Process \d+ waits for background worker \d+, which waits for process \d+\.$/,
    );
    expect(error.hint).to.include('Wait outside the transaction');
    await client.query('ROLLBACK');
    const [[pid, state]] = (await client.rows(
      `SELECT pid, pg_background_wait_v2(pid, cookie) IS NOT NULL FROM pg_background_list_v2() AS (pid int, cookie bigint)`,
    )) as [[number, boolean]];
    expect(state).to.equal(true);
    expect(
      await client.rows('SELECT * FROM pg_background_result($1) AS (r text)', [pid]),
    ).to.deep.equal([['UPDATE 1']]);
    await client.query('UPDATE t SET a = 1 WHERE a = 4');
  });

  describe('outside a transaction, in a statement of its own', () => {
    const build = 'CREATE INDEX CONCURRENTLY by_a ON t (a)';
    const hasIndex = () =>
      client.value(`SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('by_a')`);
    afterEach(() => client.query('DROP INDEX IF EXISTS by_a'));

    it('gets the result of CREATE INDEX CONCURRENTLY that the same statement has launched', async () => {
      const { rows, command, rowCount } = await client.query(
        `SELECT * FROM pg_background_result(pg_background_launch('${build}')) AS (result text)`,
      );
      expect({ rows, command, rowCount }).to.deep.equal({
        rows: [{ result: 'CREATE INDEX' }],
        command: 'SELECT',
        rowCount: 1,
      });
      expect(await hasIndex()).to.equal(true);
    });

    it('gets it after a COPY of the extended protocol, whose first Sync has no answer', async () => {
      const wire = await WireSession.connect({ port: proxy.port, database: proxy.database.name });
      await wire.copyIn('COPY t FROM STDIN', '7\n8\n');
      expect(
        await wire.rows(
          `SELECT * FROM pg_background_result(pg_background_launch('${build}')) AS (result text)`,
        ),
      ).to.deep.equal([['CREATE INDEX']]);
      await wire.rows('DELETE FROM t WHERE a IN (7, 8)');
      await wire.end();
    });

    it('waits for it to the end, and reads the result then', async () => {
      const [[pid, cookie]] = (await client.rows(
        `SELECT * FROM pg_background_launch_v2('${build}')`,
      )) as [[number, string]];
      expect(await client.rows(`SELECT pg_background_wait_v2(${pid}, ${cookie})`)).to.deep.equal([
        [''],
      ]);
      expect(await hasIndex()).to.equal(true);
      expect(
        await client.rows(
          `SELECT * FROM pg_background_result_v2(${pid}, ${cookie}) AS (result text)`,
        ),
      ).to.deep.equal([['CREATE INDEX']]);
    });

    it("gets the worker's error", async () => {
      await client.query('INSERT INTO t VALUES (701), (702)');
      const error = await client.error(
        `SELECT * FROM pg_background_result(pg_background_launch('CREATE UNIQUE INDEX CONCURRENTLY by_a ON t ((a / 100))')) AS (result text)`,
      );
      expect(error).to.include({ code: '23505' });
      expect(error.where).to.match(/^background worker, pid \d+$/);
      await client.query('DELETE FROM t WHERE a > 700');
    });

    it('is refused a wrong column list, and keeps handle and result', async () => {
      const pid = String(await client.value(`SELECT pg_background_launch('${build}')`));
      const error = await client.error(
        `SELECT * FROM pg_background_result(${pid}) AS (a int, b int)`,
      );
      expect(error.code).to.equal('42804');
      expect(
        await client.rows(`SELECT * FROM pg_background_result(${pid}) AS (result text)`),
      ).to.deep.equal([['CREATE INDEX']]);
    });

    it('sends each message once, and in the order of a plain SELECT', async () => {
      const raw = await RawClient.login(proxy.port, {
        user: 'postgres',
        database: proxy.database.name,
      });
      const answer = await raw.query(
        `SELECT * FROM pg_background_result(pg_background_launch('${build}')) AS (result text)`,
      );
      expect(answer.map(({ type }) => type)).to.deep.equal(['T', 'D', 'C', 'Z']);
      await raw.end();
    });

    it('gets what it has sent meanwhile done afterwards, in its order', async () => {
      const raw = await RawClient.login(proxy.port, {
        user: 'postgres',
        database: proxy.database.name,
      });
      const blocker = await proxy.database.direct();
      await blocker.query('SELECT pg_advisory_lock(42)');
      raw.socket.write(
        serialize.query(
          `SELECT * FROM pg_background_result(pg_background_launch('${build}')) AS (result text)`,
        ),
      );
      await untilIdle(blocker, raw.pid);
      raw.socket.write(
        serialize.query(`SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('by_a')`),
      );
      await blocker.query('SELECT pg_advisory_unlock(42)');
      expect((await raw.until('Z')).map(({ type }) => type)).to.deep.equal(['T', 'D', 'C', 'Z']);
      const [, row] = await raw.until('Z');
      expect(row?.body.at(-1)).to.equal('t'.charCodeAt(0));
      await raw.end();
    });

    describe('while others keep the worker from its end', () => {
      let blocker: pg.Client;
      let pid: number;
      let waiting: Promise<unknown>;

      beforeEach(async () => {
        blocker = await proxy.database.direct();
        await blocker.query('SELECT pg_advisory_lock(42)');
        pid = (await client.value('SELECT pg_backend_pid()')) as number;
      });

      /** The statement has ended at the server, and the client still waits for it. */
      const begin = async () => {
        waiting = client
          .query(
            `SELECT * FROM pg_background_result(pg_background_launch('${build}')) AS (result text)`,
          )
          .then(
            ({ rows }) => rows,
            (error: unknown) => error,
          );
        await untilIdle(blocker, pid);
      };

      it('can be cancelled, and keeps the handle', async () => {
        await begin();
        await cancelRequest(client, proxy.port);
        expect(await waiting).to.include({
          code: '57014',
          message: 'canceling statement due to user request',
        });
        await blocker.query('SELECT pg_advisory_unlock(42)');
        const worker = await client.value(
          `SELECT pid FROM pg_background_list_v2() AS (pid int, cookie bigint)`,
        );
        expect(
          await client.rows(`SELECT * FROM pg_background_result(${String(worker)}) AS (r text)`),
        ).to.deep.equal([['CREATE INDEX']]);
        // And the session can wait in the same way again.
        await client.query('DROP INDEX by_a');
        expect(
          await client.rows(
            `SELECT * FROM pg_background_result(pg_background_launch('${build}')) AS (result text)`,
          ),
        ).to.deep.equal([['CREATE INDEX']]);
      });

      it('is ended by statement_timeout', async () => {
        const worker = String(await client.value(`SELECT pg_background_launch('${build}')`));
        // Not of the worker, which has none.
        await client.query(`SET statement_timeout = '2500ms'`);
        const error = await client.error(
          `SELECT * FROM pg_background_result(${worker}) AS (result text)`,
        );
        expect(error).to.include({
          code: '57014',
          message: 'canceling statement due to statement timeout',
          where: undefined,
        });
        await client.query('RESET statement_timeout');
        await blocker.query('SELECT pg_advisory_unlock(42)');
        await client.query(
          'SELECT pg_background_detach_v2(pid, cookie) FROM pg_background_list_v2() AS (pid int, cookie bigint)',
        );
      });

      it("gets the worker's error when that comes late", async () => {
        await begin();
        await blocker.query(
          `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%'`,
        );
        expect(await waiting).to.include({ code: '57014' });
        await blocker.query('SELECT pg_advisory_unlock(42)');
      });

      it('hears what is notified', async () => {
        await client.query('LISTEN news');
        await begin();
        const heard = new Promise<string | undefined>((resolve) =>
          client.once('notification', ({ payload }) => resolve(payload)),
        );
        const other = await proxy.database.direct();
        await other.query(`NOTIFY news, 'meanwhile'`);
        expect(await heard).to.equal('meanwhile');
        await blocker.query('SELECT pg_advisory_unlock(42)');
        expect(await waiting).to.deep.equal([{ result: 'CREATE INDEX' }]);
      });

      it('leaves nothing behind when the client goes', async () => {
        await begin();
        client.cut();
        await blocker.query('SELECT pg_advisory_unlock(42)');
        client = await proxy.connect();
        await eventually(async () => {
          expect(await hasIndex()).to.equal(true);
        });
      });

      it('is ended when its backend is terminated', async () => {
        await begin();
        await blocker.query('SELECT pg_terminate_backend($1)', [pid]);
        expect(await waiting).to.include({ code: '57P01' });
        await blocker.query('SELECT pg_advisory_unlock(42)');
        client = await proxy.connect();
      });
    });
  });

  it('is told of the deadlock inside a DO block that waits for CREATE INDEX CONCURRENTLY', async () => {
    const error = await client.error(`DO $$
      BEGIN
        PERFORM * FROM pg_background_result(pg_background_launch('CREATE INDEX CONCURRENTLY ON t (a)')) AS (r text);
      END $$`);
    expect(error.code).to.equal('40P01');
  });

  it('keeps the handle of a result whose reader was cancelled', async () => {
    const gate = new Gate(await proxy.database.direct());
    await gate.close();
    const [handle] = await client.rows('SELECT * FROM pg_background_launch_v2($1)', [
      `${WAIT_AT_GATE}; SELECT 1/0`,
    ]);
    await client.query(`SET statement_timeout = '100ms'`);
    const read = 'SELECT * FROM pg_background_result_v2($1, $2) AS (s text, n int)';
    expect((await client.error(read, handle)).code).to.equal('57014');
    await client.query('RESET statement_timeout');
    await gate.open();
    await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
    expect((await client.error(read, handle)).code).to.equal('22012');
    expect((await client.error(read, handle)).code).to.equal('42704');
  });

  it('finds a cycle through two sessions, of which one gives way', async () => {
    const other = await proxy.connect();
    await client.query('BEGIN; UPDATE t SET a = 11 WHERE a = 1');
    await other.query('BEGIN; UPDATE t SET a = 12 WHERE a = 2');
    const wait = (by: TestClient, key: number) =>
      by
        .query(
          `SELECT * FROM pg_background_result(pg_background_launch('DELETE FROM t WHERE a = ${key}')) AS (r text)`,
        )
        .then(
          () => 'read',
          async (error: { code: string }) => {
            await by.query('ROLLBACK');
            return error.code;
          },
        );
    const first = wait(client, 2);
    const second = wait(other, 1);
    const outcomes = await Promise.all([
      first.then(async (outcome) => {
        if (outcome === 'read') await client.query('ROLLBACK');
        return outcome;
      }),
      second.then(async (outcome) => {
        if (outcome === 'read') await other.query('ROLLBACK');
        return outcome;
      }),
    ]);
    expect(outcomes.sort()).to.deep.equal(['40P01', 'read']);
  });

  it('does not wait for a worker whose rows overflow its queue, for such a worker ends', async () => {
    const [handle] = await client.rows(
      `SELECT * FROM pg_background_launch_v2('SELECT i, repeat(''x'', 100) FROM generate_series(1, 50000) i', 64)`,
    );
    await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
    expect(
      await client.value(
        'SELECT count(*) FROM pg_background_result_v2($1, $2) AS (i int, x text)',
        handle,
      ),
    ).to.equal('50000');
  });

  it('does not take a slow worker for a deadlock', async () => {
    await client.query('BEGIN; UPDATE t SET a = a');
    expect(
      await client.rows(
        `SELECT n FROM pg_background_result(pg_background_launch('SELECT pg_sleep(2.2), 5')) AS (s text, n int)`,
      ),
    ).to.deep.equal([[5]]);
    await client.query('ROLLBACK');
  });
});
