import { expect } from 'chai';
import { LIST_COLUMNS } from '../support/api-functions.ts';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import {
  callOf,
  launchV2,
  notAttached,
  stateOf,
  tagsOf,
  type HandleValues,
} from '../support/handles.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

/**
 * Specifies which roles may call the functions, and whose workers a role may touch: those of roles
 * whose privileges it has. One session can launch as several roles, by SET ROLE.
 */
const ROLES = ['rights_owner', 'rights_heir', 'rights_member', 'rights_other', 'rights_guest'];

/** A call of each function that needs a handle. */
const handleCalls: Readonly<Record<string, (handle: HandleValues) => [string, unknown[]]>> = {
  pg_background_result: ([pid]) => ['SELECT * FROM pg_background_result($1) AS (n text)', [pid]],
  pg_background_result_v2: (handle) => [
    'SELECT * FROM pg_background_result_v2($1, $2) AS (n text)',
    [...handle],
  ],
  pg_background_detach: ([pid]) => ['SELECT pg_background_detach($1)', [pid]],
  pg_background_detach_v2: (handle) => [callOf('detach_v2'), [...handle]],
  pg_background_cancel_v2: (handle) => [callOf('cancel_v2'), [...handle]],
  pg_background_cancel_v2_grace: (handle) => [callOf('cancel_v2_grace', 10), [...handle]],
  pg_background_wait_v2: (handle) => [callOf('wait_v2'), [...handle]],
  pg_background_wait_v2_timeout: (handle) => [callOf('wait_v2_timeout', 10), [...handle]],
  pg_background_get_progress_v2: (handle) => [callOf('get_progress_v2'), [...handle]],
};
const otherCalls: Readonly<Record<string, string>> = {
  pg_background_launch: `SELECT pg_background_launch('SELECT 1')`,
  pg_background_launch_v2: `SELECT pg_background_launch_v2('SELECT 1')`,
  pg_background_submit_v2: `SELECT pg_background_submit_v2('SELECT 1')`,
  pg_background_list_v2: `SELECT * FROM pg_background_list_v2() AS (${LIST_COLUMNS})`,
  pg_background_stats_v2: 'SELECT pg_background_stats_v2()',
  pg_background_progress: 'SELECT pg_background_progress(1)',
};

describe('rights', () => {
  let proxy: TestProxy;
  let client: TestClient;
  let gate: Gate;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (
      await proxy.database.direct()
    ).query(
      `CREATE ROLE rights_owner LOGIN;
       CREATE ROLE rights_heir LOGIN IN ROLE rights_owner;
       CREATE ROLE rights_member LOGIN NOINHERIT IN ROLE rights_owner;
       CREATE ROLE rights_other LOGIN;
       CREATE ROLE rights_guest LOGIN;
       GRANT pgbackground_executor TO rights_owner, rights_heir, rights_other;
       SELECT grant_pg_background_privileges('rights_member')`,
    );
  });
  beforeEach(async () => {
    client = await proxy.connect();
    gate = new Gate(await proxy.database.direct());
    await gate.close();
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

  describe('to call a function', () => {
    for (const name of [...Object.keys(handleCalls), ...Object.keys(otherCalls)]) {
      it(`belong to nobody without a grant: ${name}`, async () => {
        const guest = await proxy.connect({ user: 'rights_guest' });
        const [sql, values] = handleCalls[name]?.([1, '1']) ?? [otherCalls[name] ?? '', []];
        expect(await guest.error(sql, values)).to.include({
          code: '42501',
          message: `permission denied for function ${name}`,
        });
      });
    }

    it('come with pgbackground_executor, all that are needed', async () => {
      const owner = await proxy.connect({ user: 'rights_owner' });
      const handle = await launchV2(
        owner,
        `SELECT pg_background_progress(5), ${WAIT_AT_GATE.slice(7)}`,
      );
      for (const [name, call] of Object.entries(handleCalls)) {
        if (!/wait_v2_timeout|get_progress/.test(name)) continue;
        await owner.query(...call(handle));
      }
      for (const name of ['list_v2', 'stats_v2', 'submit_v2', 'launch']) {
        await owner.query(otherCalls[`pg_background_${name}`] ?? '');
      }
      await owner.query(callOf('cancel_v2'), [...handle]);
      await owner.query(callOf('wait_v2'), [...handle]);
      expect(await stateOf(owner, handle)).to.equal('canceled');
      await owner.query(callOf('detach_v2'), [...handle]);
    });

    it('can be given for single functions', async () => {
      const direct = await proxy.database.direct();
      await direct.query(`SELECT grant_pg_background_privileges('rights_guest');
        REVOKE EXECUTE ON FUNCTION pg_background_cancel_v2(int, bigint) FROM rights_guest`);
      const guest = await proxy.connect({ user: 'rights_guest' });
      const handle = await launchV2(guest, WAIT_AT_GATE);
      expect(await guest.error(callOf('cancel_v2'), [...handle])).to.include({ code: '42501' });
      await direct.query(`SELECT revoke_pg_background_privileges('rights_guest')`);
      expect(await guest.error(callOf('wait_v2'), [...handle])).to.include({ code: '42501' });
    });
  });

  describe('on a worker', () => {
    /** A worker of the superuser's session, launched as one role; another is current then. */
    async function launchAs(role: string, then: string): Promise<HandleValues> {
      await client.query(`SET ROLE ${role}`);
      const handle = await launchV2(client, WAIT_AT_GATE);
      await client.query(`SET ROLE ${then}`);
      return handle;
    }
    const denied = ([pid]: HandleValues) => ({
      code: '42501',
      message: `permission denied for background worker with PID "${pid}"`,
    });

    for (const [name, call] of Object.entries(handleCalls)) {
      it(`are refused to a role without the privileges of its role: ${name}`, async () => {
        const handle = await launchAs('rights_owner', 'rights_other');
        expect(await client.error(...call(handle))).to.include(denied(handle));
        await client.query('SET ROLE rights_owner');
        expect(await stateOf(client, handle)).to.equal('running');
      });

      it(`are refused before the cookie is looked at: ${name}`, async () => {
        const handle = await launchAs('rights_owner', 'rights_other');
        if (name === 'pg_background_get_progress_v2') {
          // There it is no error that a handle is unknown.
          expect(await client.value(...call([handle[0], '12345']))).to.equal(null);
        } else {
          expect(await client.error(...call([handle[0], '12345']))).to.include(denied(handle));
        }
      });

      if (name === 'pg_background_get_progress_v2') continue;
      it(`are looked at only where the session has launched it: ${name}`, async () => {
        await launchAs('rights_owner', 'rights_other');
        expect(await client.error(...call([1, '12345']))).to.include(notAttached([1, '12345']));
      });
    }

    for (const role of ['rights_owner', 'rights_heir', 'postgres']) {
      it(`of rights_owner belong to ${role}`, async () => {
        const handle = await launchAs('rights_owner', role);
        expect(await stateOf(client, handle)).to.equal('running');
        await gate.open();
        await client.query(callOf('wait_v2'), [...handle]);
        expect(await tagsOf(client, handle)).to.deep.equal([['']]);
      });
    }

    for (const role of ['rights_member', 'rights_other']) {
      it(`of rights_owner do not belong to ${role}`, async () => {
        const handle = await launchAs('rights_owner', role);
        expect(await client.error(callOf('wait_v2'), [...handle])).to.include(denied(handle));
      });
    }

    it('of the superuser do not belong to the role that the session has set', async () => {
      const handle = await launchAs('postgres', 'rights_owner');
      expect(await client.error(callOf('detach_v2'), [...handle])).to.include(denied(handle));
    });

    it('end with the membership', async () => {
      const heir = await proxy.connect({ user: 'rights_heir' });
      await heir.query('SET ROLE rights_owner');
      const handle = await launchV2(heir, WAIT_AT_GATE);
      await heir.query('RESET ROLE');
      expect(await stateOf(heir, handle)).to.equal('running');
      const direct = await proxy.database.direct();
      await direct.query('REVOKE rights_owner FROM rights_heir');
      try {
        expect(await heir.error(callOf('wait_v2'), [...handle])).to.include(denied(handle));
      } finally {
        await direct.query('GRANT rights_owner TO rights_heir');
      }
    });

    it('decide which rows pg_background_list_v2 gives, while all are counted', async () => {
      const handle = await launchAs('rights_owner', 'rights_other');
      const own = await launchV2(client, WAIT_AT_GATE);
      const list = `SELECT pid, cookie FROM pg_background_list_v2() AS (${LIST_COLUMNS})`;
      const active = 'SELECT (pg_background_stats_v2()).workers_active';
      expect(await client.rows(list)).to.deep.equal([own]);
      expect(await client.value(active)).to.equal(2);
      await client.query('RESET ROLE');
      expect(await client.rows(list)).to.have.deep.members([handle, own]);
      await client.query('SET ROLE rights_heir');
      expect(await client.rows(list)).to.deep.equal([handle]);
    });

    it('count against one pg_background.max_workers, whoever launched it', async () => {
      await client.query('SET pg_background.max_workers = 1');
      await launchAs('rights_owner', 'rights_other');
      expect((await client.error(`SELECT pg_background_launch('SELECT 1')`)).code).to.equal(
        '53400',
      );
    });

    it('may lie with the SECURITY DEFINER function of a role that has them', async () => {
      const direct = await proxy.database.direct();
      await direct.query(`CREATE FUNCTION end_worker(pid int, cookie bigint) RETURNS void LANGUAGE sql SECURITY DEFINER
          AS 'SELECT pg_background_cancel_v2(pid, cookie)';
        ALTER FUNCTION end_worker OWNER TO rights_heir`);
      const handle = await launchAs('rights_owner', 'rights_other');
      await client.query('SELECT end_worker($1, $2)', [...handle]);
      await client.query('SET ROLE rights_owner');
      await client.query(callOf('wait_v2'), [...handle]);
      expect(await stateOf(client, handle)).to.equal('canceled');
      await direct.query('DROP FUNCTION end_worker');
    });
  });
});
