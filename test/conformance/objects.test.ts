/*
 * The objects that CREATE EXTENSION pg_background creates: functions and types with their
 * signatures, their comments, and that nobody may use any of it without a grant.
 */
import { expect } from 'chai';
import { inBackground, LIST_COLUMNS } from '../support/background.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

/** Name, arguments, result, and whether a NULL argument means that the function is not run. */
const API: readonly (readonly [string, string, string, 'strict' | 'called on NULL'])[] = [
  ['pg_background_launch', 'sql text, queue_size integer DEFAULT 0', 'integer', 'strict'],
  ['pg_background_result', 'pid integer', 'SETOF record', 'strict'],
  ['pg_background_detach', 'pid integer', 'void', 'strict'],
  [
    'pg_background_launch_v2',
    'sql text, queue_size integer DEFAULT 0',
    'pg_background_handle',
    'strict',
  ],
  [
    'pg_background_submit_v2',
    'sql text, queue_size integer DEFAULT 0',
    'pg_background_handle',
    'strict',
  ],
  ['pg_background_result_v2', 'pid integer, cookie bigint', 'SETOF record', 'strict'],
  ['pg_background_detach_v2', 'pid integer, cookie bigint', 'void', 'strict'],
  ['pg_background_cancel_v2', 'pid integer, cookie bigint', 'void', 'strict'],
  [
    'pg_background_cancel_v2_grace',
    'pid integer, cookie bigint, grace_ms integer',
    'void',
    'strict',
  ],
  ['pg_background_wait_v2', 'pid integer, cookie bigint', 'void', 'strict'],
  [
    'pg_background_wait_v2_timeout',
    'pid integer, cookie bigint, timeout_ms integer',
    'boolean',
    'strict',
  ],
  ['pg_background_list_v2', '', 'SETOF record', 'called on NULL'],
  ['pg_background_stats_v2', '', 'pg_background_stats', 'called on NULL'],
  ['pg_background_progress', 'pct integer, msg text DEFAULT NULL::text', 'void', 'called on NULL'],
  [
    'pg_background_get_progress_v2',
    'pid integer, cookie bigint',
    'pg_background_progress',
    'called on NULL',
  ],
];

const HELPERS: typeof API = [
  [
    'grant_pg_background_privileges',
    'user_name text, print_commands boolean DEFAULT false',
    'boolean',
    'called on NULL',
  ],
  [
    'revoke_pg_background_privileges',
    'user_name text, print_commands boolean DEFAULT false',
    'boolean',
    'called on NULL',
  ],
  ['pg_background_drop_executor_role', '', 'void', 'called on NULL'],
];

const TYPES: readonly (readonly [string, string])[] = [
  ['pg_background_handle', 'pid integer, cookie bigint'],
  ['pg_background_progress', 'progress_pct integer, progress_msg text'],
  [
    'pg_background_stats',
    'workers_launched bigint, workers_completed bigint, workers_failed bigint, workers_canceled bigint, ' +
      'workers_active integer, avg_execution_ms double precision, max_workers integer',
  ],
];

/** A call of each function that would be valid if the caller might make it. */
const CALLS: Readonly<Record<string, string>> = {
  pg_background_launch: `SELECT pg_background_launch('SELECT 1')`,
  pg_background_result: `SELECT * FROM pg_background_result(1) AS (n int)`,
  pg_background_detach: `SELECT pg_background_detach(1)`,
  pg_background_launch_v2: `SELECT pg_background_launch_v2('SELECT 1')`,
  pg_background_submit_v2: `SELECT pg_background_submit_v2('SELECT 1')`,
  pg_background_result_v2: `SELECT * FROM pg_background_result_v2(1, 1) AS (n int)`,
  pg_background_detach_v2: `SELECT pg_background_detach_v2(1, 1)`,
  pg_background_cancel_v2: `SELECT pg_background_cancel_v2(1, 1)`,
  pg_background_cancel_v2_grace: `SELECT pg_background_cancel_v2_grace(1, 1, 1)`,
  pg_background_wait_v2: `SELECT pg_background_wait_v2(1, 1)`,
  pg_background_wait_v2_timeout: `SELECT pg_background_wait_v2_timeout(1, 1, 1)`,
  pg_background_list_v2: `SELECT * FROM pg_background_list_v2() AS (${LIST_COLUMNS})`,
  pg_background_stats_v2: `SELECT pg_background_stats_v2()`,
  pg_background_progress: `SELECT pg_background_progress(1)`,
  pg_background_get_progress_v2: `SELECT pg_background_get_progress_v2(1, 1)`,
  grant_pg_background_privileges: `SELECT grant_pg_background_privileges('objects_guest')`,
  revoke_pg_background_privileges: `SELECT revoke_pg_background_privileges('objects_guest')`,
  pg_background_drop_executor_role: `SELECT pg_background_drop_executor_role()`,
};

describe('the objects of pg_background', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (await proxy.connect()).query('CREATE ROLE objects_guest LOGIN');
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    await (await proxy.connect()).query('DROP ROLE objects_guest');
    await proxy.stop();
  });

  describe('functions', () => {
    it('are these, and no others', async () => {
      const found = await client.rows(
        `SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY proname`,
      );
      expect(found.map(([name]) => name)).to.deep.equal(
        [...API, ...HELPERS].map(([name]) => name).sort(),
      );
    });

    for (const [name, args, result, onNull] of [...API, ...HELPERS]) {
      it(`include ${name}(${args}) → ${result}, ${onNull}, volatile, parallel unsafe`, async () => {
        expect(
          await client.rows(
            `SELECT pg_get_function_arguments(oid), pg_get_function_result(oid),
                    CASE WHEN proisstrict THEN 'strict' ELSE 'called on NULL' END, provolatile, proparallel
               FROM pg_proc WHERE oid = $1::regproc`,
            [name],
          ),
        ).to.deep.equal([[args, result, onNull, 'v', 'u']]);
      });
    }

    it('run with the rights and settings of their caller', async () => {
      const others = await client.rows(
        'SELECT proname FROM pg_proc WHERE proname = ANY ($1) AND (prosecdef OR proconfig IS NOT NULL)',
        [API.map(([name]) => name)],
      );
      expect(others).to.deep.equal([]);
    });

    for (const [name] of HELPERS) {
      it(`run with the rights of their owner and a fixed search_path: ${name}`, async () => {
        const [[isDefiner, settings] = []] = await client.rows(
          'SELECT prosecdef, array_to_string(proconfig, chr(10)) FROM pg_proc WHERE oid = $1::regproc',
          [name],
        );
        expect(isDefiner).to.equal(true);
        expect(settings).to.match(/^search_path=pg_catalog(, pg_temp)?$/);
      });
    }
  });

  describe('types', () => {
    for (const [name, columns] of TYPES) {
      it(`include ${name} (${columns})`, async () => {
        expect(
          await client.value(
            `SELECT string_agg(concat(attname, ' ', format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
               FROM pg_attribute, pg_type WHERE attrelid = typrelid AND typname = $1`,
            [name],
          ),
        ).to.equal(columns);
      });
    }
  });

  it('each have a comment', async () => {
    const uncommented = await client.rows(
      `SELECT oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL
       UNION ALL
       SELECT oid::regtype::text FROM pg_type
        WHERE typname = ANY ($1) AND obj_description(oid, 'pg_type') IS NULL`,
      [TYPES.map(([name]) => name)],
    );
    expect(uncommented).to.deep.equal([]);
  });

  describe('without a grant', () => {
    for (const [name] of [...API, ...HELPERS]) {
      it(`refuse ${name}`, async () => {
        const guest = await proxy.connect({ user: 'objects_guest' });
        expect(await guest.error(CALLS[name] as string)).to.include({
          code: '42501',
          message: `permission denied for function ${name}`,
        });
      });
    }

    for (const [name] of TYPES) {
      it(`refuse a column of type ${name}, but not a NULL of it`, async () => {
        const guest = await proxy.connect({ user: 'objects_guest' });
        expect(await guest.error(`CREATE TEMP TABLE t (c ${name})`)).to.include({
          code: '42501',
          message: `permission denied for type ${name}`,
        });
        expect(await guest.value(`SELECT NULL::${name}`)).to.equal(null);
      });
    }
  });

  describe('the role pgbackground_executor', () => {
    it('may not log in, and passes its rights on to its members', async () => {
      expect(
        await client.rows(
          `SELECT rolcanlogin, rolinherit, rolsuper FROM pg_roles WHERE rolname = 'pgbackground_executor'`,
        ),
      ).to.deep.equal([[false, true, false]]);
    });

    it('may execute every function but the helpers of the owner', async () => {
      const executable = await client.rows(
        `SELECT proname FROM pg_proc
          WHERE pronamespace = 'public'::regnamespace AND has_function_privilege('pgbackground_executor', oid, 'EXECUTE')
          ORDER BY proname`,
      );
      expect(executable.map(([name]) => name)).to.deep.equal(API.map(([name]) => name).sort());
    });

    it('may use every type', async () => {
      for (const [name] of TYPES) {
        expect(
          await client.value(`SELECT has_type_privilege('pgbackground_executor', $1, 'USAGE')`, [
            name,
          ]),
          name,
        ).to.equal(true);
      }
    });

    it('makes its members users of pg_background', async () => {
      await client.query('GRANT pgbackground_executor TO objects_guest');
      const member = await proxy.connect({ user: 'objects_guest' });
      expect(await inBackground(member, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
      await client.query('REVOKE pgbackground_executor FROM objects_guest');
    });
  });
});
