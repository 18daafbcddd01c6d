/*
 * What a function does that sleeps for long: now and then it wakes by itself, and asks whether the proxy lives. It
 * does so each half minute; here each tenth of a second.
 */
import { expect } from 'chai';
import { launchHandle } from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

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
    await direct.query(definition.replace(`'30s'`, `'100ms'`));
  });
  beforeEach(async () => {
    client = await proxy.connect();
    pid = await client.value('SELECT pg_backend_pid()');
    gate = new Gate(await proxy.database.direct());
    await gate.close();
  });
  afterEach(async () => {
    await gate.open();
    await proxy.expectNothingLeft();
  });
  after(() => proxy.stop());

  /** Settles when the session has begun so many sleeps on its lock. */
  async function untilSlept(times: number): Promise<void> {
    const direct = await proxy.database.direct();
    const begun = new Set<string>();
    await eventually(async () => {
      const { rows } = await direct.query<{ since: string }>(
        `SELECT waitstart::text AS since FROM pg_locks
          WHERE pid = $1 AND locktype = 'advisory' AND NOT granted AND waitstart IS NOT NULL`,
        [pid],
      );
      for (const { since } of rows) begun.add(since);
      expect(begun.size, 'sleeps').to.be.at.least(times);
    });
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
