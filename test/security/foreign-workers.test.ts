/*
 * Attacks on the workers of others: by a session of the same login or another one that knows pid and
 * cookie, and by a lesser role in the very session, which asks the proxy without the functions.
 */
import { expect } from 'chai';
import { inBackground, launchHandle, LIST_COLUMNS, type Handle } from '../support/background.ts';
import { hexOf, partOf, payloadOf, play, sign } from '../support/forgery.ts';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import { notAttached, tagsOf, waitFor } from '../support/handles.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const ROLES = ['foreign_victim', 'foreign_thief'];

/** What a thief asks of the proxy, as the functions would, and without what they add. */
const requests: readonly (readonly [verb: string, more: object])[] = [
  ['pg_background_result', { step: 'describe' }],
  ['pg_background_result', { step: 'take', throughTable: true }],
  ['pg_background_result_v2', { step: 'describe' }],
  ['pg_background_result_v2', { step: 'take', throughTable: false }],
  ['pg_background_detach', {}],
  ['pg_background_detach_v2', {}],
  ['pg_background_cancel_v2', {}],
  ['pg_background_cancel_v2_grace', { graceMs: 0 }],
  ['pg_background_wait_v2', {}],
  ['pg_background_wait_v2_timeout', { timeoutMs: 0 }],
];

/** The same as users write it. */
const calls: readonly string[] = [
  'SELECT * FROM pg_background_result($1) AS (n text)',
  'SELECT * FROM pg_background_result_v2($1, $2) AS (n text)',
  'SELECT pg_background_detach($1)',
  'SELECT pg_background_detach_v2($1, $2)',
  'SELECT pg_background_cancel_v2($1, $2)',
  'SELECT pg_background_cancel_v2_grace($1, $2, 0)',
  'SELECT pg_background_wait_v2($1, $2)',
  'SELECT pg_background_wait_v2_timeout($1, $2, 0)',
];

describe("another's worker", () => {
  let proxy: TestProxy;
  let victim: TestClient;
  let gate: Gate;
  let handle: Handle;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    await direct.query(`CREATE ROLE foreign_victim LOGIN; CREATE ROLE foreign_thief LOGIN;
      GRANT pgbackground_executor TO foreign_victim, foreign_thief;
      GRANT foreign_thief TO foreign_victim`);
  });
  beforeEach(async () => {
    gate = new Gate(await proxy.database.direct());
    await gate.close();
    victim = await proxy.connect({ user: 'foreign_victim' });
    handle = await launchHandle(victim, `${WAIT_AT_GATE}; CREATE TEMP TABLE done ()`);
    await gate.untilWaiting(1);
  });
  afterEach(async () => {
    await gate.open();
    await proxy.expectNothingLeft();
  });
  after(async () => {
    const direct = await proxy.database.direct();
    await direct.query(`DROP OWNED BY ${ROLES.join(', ')}; DROP ROLE ${ROLES.join(', ')}`);
    await proxy.stop();
  });

  /** The worker still runs, and its own session reads it. */
  async function expectUnharmed(): Promise<void> {
    expect(await gate.waiting()).to.equal(1);
    await gate.open();
    await waitFor(victim, handle);
    expect(await tagsOf(victim, handle)).to.deep.equal([['SELECT 1'], ['CREATE TABLE']]);
  }

  /** Asks by the private function that all functions of the API use. */
  const ask = (client: TestClient, verb: string, args: object) =>
    client.error('SELECT pgbackground.call($1, $2)', [verb, JSON.stringify(args)]);

  for (const user of ['foreign_thief', 'foreign_victim', 'postgres']) {
    describe(`in a session of ${user}`, () => {
      it(`is not known by pid and cookie, whatever is called, for ${user}`, async () => {
        const thief = await proxy.connect({ user });
        for (const call of calls) {
          const values = call.includes('$2') ? [...handle] : [handle[0]];
          expect(await thief.error(call, values), call).to.include(notAttached(handle));
        }
        await expectUnharmed();
      });

      it(`is not known by pid and cookie, whatever is asked of the proxy, for ${user}`, async () => {
        const thief = await proxy.connect({ user });
        const [pid, cookie] = handle;
        for (const [verb, more] of requests) {
          for (const args of [{ pid, cookie }, { pid }, { pid: String(pid), cookie: null }]) {
            const error = await ask(thief, verb, { ...args, ...more });
            expect(error, verb).to.include(notAttached(handle));
          }
        }
        await expectUnharmed();
      });

      it(`is neither listed nor counted, and tells no progress, for ${user}`, async () => {
        const thief = await proxy.connect({ user });
        expect(
          await thief.rows(`SELECT * FROM pg_background_list_v2() AS (${LIST_COLUMNS})`),
        ).to.deep.equal([]);
        expect(
          await thief.rows('SELECT workers_launched, workers_active FROM pg_background_stats_v2()'),
        ).to.deep.equal([['0', 0]]);
        expect(
          await thief.value('SELECT pg_background_get_progress_v2($1, $2)', [...handle]),
        ).to.equal(null);
        await expectUnharmed();
      });
    });
  }

  describe('in the same session, after SET ROLE to a lesser role', () => {
    const denied = () => ({
      code: '42501',
      message: `permission denied for background worker with PID "${handle[0]}"`,
    });
    beforeEach(() => victim.query('SET ROLE foreign_thief'));

    for (const [verb, more] of requests) {
      it(`is refused whatever is asked of the proxy: ${verb} ${JSON.stringify(more)}`, async () => {
        const [pid, cookie] = handle;
        for (const args of [{ pid, cookie }, { pid }, { pid, cookie: '1' }, { pid: String(pid) }]) {
          expect(await ask(victim, verb, { ...args, ...more })).to.include(denied());
        }
        await victim.query('RESET ROLE');
        await expectUnharmed();
      });
    }

    it('is not listed, and tells no progress', async () => {
      expect(
        await victim.rows(`SELECT * FROM pg_background_list_v2() AS (${LIST_COLUMNS})`),
      ).to.deep.equal([]);
      expect(
        await victim.error('SELECT pg_background_get_progress_v2($1, $2)', [...handle]),
      ).to.include(denied());
      await victim.query('RESET ROLE');
      await expectUnharmed();
    });

    it("is refused to a request that names the launcher's role", async () => {
      const [pid, cookie] = handle;
      const request = await sign(victim, payloadOf('pg_background_cancel_v2', { pid, cookie }));
      expect(partOf(request, 'role')).to.equal(hexOf('foreign_thief'));
      const victims = { ...request, context: request.context.with(5, hexOf('foreign_victim')) };
      await play(proxy, victim, victims);
      await victim.query('RESET ROLE');
      await expectUnharmed();
    });
  });

  it('is not found again by a worker that comes to run on its connection', async () => {
    const thief = await proxy.connect({ user: 'foreign_victim' });
    // Handles of a worker's own SQL go with its job: the next job on that connection has none.
    const inner = await inBackground(
      thief,
      `SELECT pid, pg_backend_pid() FROM pg_background_submit_v2('SELECT 1')`,
      'pid int, host int',
    );
    const [innerPid, host] = inner[0] ?? [];
    for (let i = 0; i < 10; i++) {
      const rows = await inBackground(
        thief,
        `SELECT l.pid, pg_backend_pid() FROM (VALUES (1)) AS one LEFT JOIN pg_background_list_v2() AS l(pid int) ON true`,
        'pid int, host int',
      );
      expect(rows[0]?.[0]).to.equal(null);
      if (rows[0]?.[1] === host) break;
      expect(i, `no worker has run on the connection ${String(innerPid)} again`).to.be.below(9);
    }
    await expectUnharmed();
  });
});
