/*
 * What a function does that sleeps for long: now and then it wakes by itself, and asks whether the proxy lives. It
 * does so each half minute; here each tenth of a second.
 */
import { expect } from 'chai';
import type pg from 'pg';
import { launchHandle } from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

/** Counts in a sequence how often functions look for an answer. */
async function countLooks(direct: pg.Client): Promise<void> {
  const { rows } = await direct.query<{ definition: string }>(
    `SELECT pg_get_functiondef(oid) AS definition FROM pg_proc WHERE proname = 'read_packet'`,
  );
  const definition = rows[0]?.definition ?? '';
  const look = 'nothing := pg_catalog.pg_stat_clear_snapshot();';
  expect(definition.split(look)).to.have.length(2);
  await direct.query(`CREATE SEQUENCE public.looks; GRANT ALL ON SEQUENCE public.looks TO PUBLIC`);
  await direct.query(
    definition.replace(look, `${look} nothing := pg_catalog.nextval('public.looks');`),
  );
}

describe('a function that waits for long', () => {
  let proxy: TestProxy;
  let client: TestClient;
  let gate: Gate;
  let pid: unknown;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    const { rows } = await direct.query<{ definition: string }>(
      `SELECT pg_get_functiondef('pgbackground.sleep_on(bigint)'::regprocedure) AS definition`,
    );
    const definition = rows[0]?.definition ?? '';
    expect(definition).to.include(`'30s'`);
    await direct.query(definition.replace(`'30s'`, `current_setting('test.sleep')`));
    await countLooks(direct);
    await direct.query(
      `CREATE ROLE waiting_narrow; SELECT grant_pg_background_privileges('waiting_narrow')`,
    );
  });
  beforeEach(async () => {
    client = await proxy.connect({ options: '-c test.sleep=100ms' });
    pid = await client.value('SELECT pg_backend_pid()');
    gate = new Gate(await proxy.database.direct());
    await gate.close();
  });
  afterEach(async () => {
    await gate.open();
    await proxy.expectNothingLeft();
  });
  after(async () => {
    await (
      await proxy.database.direct()
    ).query('DROP OWNED BY waiting_narrow; DROP ROLE waiting_narrow');
    await proxy.stop();
  });

  /** Settles when the session has begun so many sleeps on its lock. @returns the looks there were before each */
  async function untilSlept(times: number): Promise<number[]> {
    const direct = await proxy.database.direct();
    const begun = new Map<string, number>();
    await eventually(async () => {
      const { rows } = await direct.query<{ since: string; looks: string }>(
        `SELECT waitstart::text AS since, last_value AS looks FROM pg_locks, public.looks
          WHERE pid = $1 AND locktype = 'advisory' AND NOT granted AND waitstart IS NOT NULL`,
        [pid],
      );
      for (const { since, looks } of rows) begun.set(since, Number(looks));
      expect(begun.size, 'sleeps').to.be.at.least(times);
    });
    return [...begun.values()];
  }

  it('sleeps again each time that the proxy says that it lives, and gets its answer', async () => {
    const handle = await launchHandle(client, `${WAIT_AT_GATE}; SELECT 1/0`);
    const waiting = client.query('SELECT pg_background_wait_v2($1, $2)', [...handle]);
    await untilSlept(5);
    await gate.open();
    await waiting;
    const error = await client.error('SELECT * FROM pg_background_result_v2($1, $2) AS (n int)', [
      ...handle,
    ]);
    expect(error.code).to.equal('22012');
  });

  it('looks once for what the proxy says, and sleeps again at once', async () => {
    const handle = await launchHandle(client, WAIT_AT_GATE);
    const waiting = client.query('SELECT pg_background_wait_v2($1, $2)', [...handle]);
    const looks = await untilSlept(8);
    await gate.open();
    await waiting;
    const between = looks.slice(1).map((count, sleep) => count - (looks[sleep] ?? 0));
    // Not always: the proxy may have other things to do.
    expect(Math.min(...between), `looks between sleeps: ${between.join()}`).to.equal(1);
  });

  it('is one of many that wake together, and is told in more than one packet', async () => {
    // Longer than a packet is shown for one who does not read it.
    const options = '-c test.sleep=6500ms';
    const sessions = await Promise.all(
      Array.from({ length: 16 }, () => proxy.connect({ options })),
    );
    const pids = await Promise.all(sessions.map((by) => by.value('SELECT pg_backend_pid()')));
    const waiting = Promise.all(
      sessions.map(async (by) => {
        await by.query('SET ROLE waiting_narrow');
        const handle = await launchHandle(by, WAIT_AT_GATE);
        await by.query('SELECT pg_background_wait_v2($1, $2)', [...handle]);
      }),
    );
    const direct = await proxy.database.direct();
    const untilAllSleep = async (since: string) => {
      let now = '';
      await eventually(async () => {
        const { rows } = await direct.query<{ sleeping: number; now: string }>(
          `SELECT count(*)::int AS sleeping, clock_timestamp()::text AS now
             FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
            WHERE pid = ANY ($1) AND locktype = 'advisory' AND NOT granted AND waitstart > $2
              AND query LIKE '%wait_v2%'`,
          [pids, since],
        );
        expect(rows[0]?.sleeping, 'sessions that sleep').to.equal(sessions.length);
        now = rows[0]?.now ?? '';
      });
      return now;
    };
    // Who fails tells more than who does not sleep.
    const slept = untilAllSleep('-infinity').then(untilAllSleep);
    slept.catch(() => {});
    await Promise.race([waiting, slept]);
    await gate.open();
    await waiting;
  });

  it('gets a result whole that is longer than a packet, and late', async () => {
    const handle = await launchHandle(
      client,
      `${WAIT_AT_GATE}; SELECT repeat('x', 1000) || n FROM generate_series(1, 500) AS n`,
    );
    const reading = client.rows(
      `SELECT count(*)::int, sum(length(x))::int FROM pg_background_result_v2($1, $2) AS (x text)`,
      [...handle],
    );
    await untilSlept(3);
    await gate.open();
    expect(await reading).to.deep.equal([[500, 500_000 + 9 + 90 * 2 + 401 * 3]]);
  });

  it('can be cancelled, and leaves worker and handle as they were', async () => {
    const handle = await launchHandle(client, `${WAIT_AT_GATE}; SELECT 1`);
    const waiting = client.error('SELECT pg_background_wait_v2($1, $2)', [...handle]);
    await untilSlept(3);
    const direct = await proxy.database.direct();
    await direct.query('SELECT pg_cancel_backend($1)', [pid]);
    expect((await waiting).code).to.equal('57014');
    await gate.open();
    expect(
      await client.rows('SELECT * FROM pg_background_result_v2($1, $2) AS (n int)', [...handle]),
    ).to.deep.equal([[1]]);
  });
});
