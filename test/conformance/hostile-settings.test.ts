import { Gate } from '../support/gate.ts';
import { TestProxy } from '../support/proxy.ts';
import { testedVersion } from '../support/server.ts';
import { CREATE_SAMPLE, useWholeApi } from '../support/whole-api.ts';
import { WireSession } from '../support/wire-session.ts';

/**
 * Specifies that no setting changes what the functions do. Each test uses the whole API, once where
 * the session has the setting, and once where the database gives it to every connection, so to
 * those of the proxy as well.
 */
const PLANNER = [
  'enable_seqscan',
  'enable_indexscan',
  'enable_bitmapscan',
  'enable_nestloop',
  'enable_hashjoin',
  'enable_mergejoin',
  'enable_hashagg',
  'enable_material',
  'enable_sort',
];
const LEVELS = ['debug5', 'debug1', 'log', 'notice', 'warning', 'error'];

/** Each is one or more settings, as they stand after SET. */
const hostile: readonly (readonly string[])[] = [
  ['transform_null_equals = on'],
  ['array_nulls = off'],
  ["DateStyle = 'SQL, DMY'"],
  ["DateStyle = 'German'"],
  ["DateStyle = 'Postgres, MDY'"],
  ["TimeZone = 'Asia/Kathmandu'"],
  ["IntervalStyle = 'sql_standard'"],
  ["IntervalStyle = 'iso_8601'"],
  ["bytea_output = 'escape'"],
  ['row_security = off'],
  ['quote_all_identifiers = on'],
  ['extra_float_digits = -15'],
  ["lc_messages = 'C'"],
  ["lc_numeric = 'C'"],
  ['standard_conforming_strings = off'],
  ['standard_conforming_strings = off', 'escape_string_warning = on', 'backslash_quote = off'],
  ['check_function_bodies = off'],
  ['default_transaction_isolation = serializable'],
  ["default_transaction_isolation = 'repeatable read'"],
  ['default_transaction_read_only = on'],
  [
    'default_transaction_deferrable = on',
    'default_transaction_isolation = serializable',
    'default_transaction_read_only = on',
  ],
  ["search_path = ''"],
  ["search_path = 'nowhere'"],
  ["xmloption = 'document'"],
  ["statement_timeout = '10s'"],
  ["lock_timeout = '5s'"],
  ["idle_in_transaction_session_timeout = '5s'"],
  PLANNER.map((name) => `${name} = off`),
  ["plan_cache_mode = 'force_generic_plan'"],
  ["plan_cache_mode = 'force_custom_plan'"],
  [`${testedVersion < 16 ? 'force_parallel_mode' : 'debug_parallel_query'} = on`],
  ['jit = on', 'jit_above_cost = 0', 'jit_optimize_above_cost = 0', 'jit_inline_above_cost = 0'],
  ...LEVELS.map((level) => [`client_min_messages = ${level}`]),
  ['log_min_messages = debug1'],
  ["log_statement = 'all'", 'log_duration = on'],
  ['track_activities = off'],
  ["session_replication_role = 'replica'"],
  ['synchronous_commit = off', "work_mem = '64kB'"],
  ["plpgsql.variable_conflict = 'error'"],
  ["plpgsql.variable_conflict = 'use_column'"],
  ["plpgsql.extra_errors = 'all'", "plpgsql.extra_warnings = 'all'"],
  ["application_name = 'pgbg:'"],
];

const all = hostile
  .filter(([name = '']) => !/^(search_path|client_min_messages|track_activities)/.test(name))
  .flat();

describe('under hostile settings', () => {
  let proxy: TestProxy;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (await proxy.database.direct()).query(CREATE_SAMPLE);
  });
  afterEach(() => proxy.expectNothingLeft());
  after(() => proxy.stop());

  /** Uses the API in a new session, after it has run some SQL. */
  async function use(prelude: string): Promise<void> {
    const gate = new Gate(await proxy.database.direct());
    const session = await WireSession.connect({
      port: proxy.port,
      database: proxy.database.name,
    });
    try {
      if (prelude !== '') await session.rows(prelude);
      await useWholeApi(session, gate);
    } finally {
      await gate.open();
      await session.end();
    }
  }

  describe('of the session', () => {
    for (const settings of hostile) {
      it(`works with ${settings.join(', ')}`, () =>
        use(settings.map((setting) => `SET ${setting}`).join('; ')));
    }
    it('works with all of them', () => use(all.map((setting) => `SET ${setting}`).join('; ')));
  });

  describe('of the database', () => {
    const alter = (what: string) => `ALTER DATABASE ${proxy.database.name} ${what}`;
    afterEach(async () => {
      const admin = await proxy.database.direct();
      await admin.query('SET default_transaction_read_only = off');
      await admin.query(alter('RESET ALL'));
    });

    for (const settings of [...hostile, all]) {
      const name = settings === all ? 'all of them' : settings.join(', ');
      it(`works with ${name}`, async () => {
        const admin = await proxy.database.direct();
        for (const setting of settings) await admin.query(alter(`SET ${setting}`));
        await use('');
      });
    }
  });
});
