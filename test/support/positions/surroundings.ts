import { expect } from 'chai';
import { fromItem, lineOf, lineQuery, literal, plainQuery, type Call } from '../call-forms.ts';
import { LIST_COLUMNS } from '../api-functions.ts';
import { CAUGHT } from '../traps.ts';
import { asLines, type Position } from './position.ts';

/** Calls where settings, encodings or objects of the database are not as usual, and in a worker. */

function withSettings(name: string, ...settings: readonly string[]): Position {
  return {
    name,
    setUp: (session) => session.rows(settings.map((setting) => `SET ${setting}`).join('; ')),
    run: async ({ session, call }) => [asLines(await session.rows(plainQuery(call)))],
  };
}

/** The states of the workers that a worker knows after a call; there is one, whatever its state, by default. */
const LEFT_BY: Readonly<Record<string, RegExp>> = {
  pg_background_result: /^$/,
  pg_background_result_v2: /^$/,
  pg_background_detach_v2: /^$/,
  pg_background_wait_v2: /^left stopped$/,
  pg_background_list_v2: /^left running$/,
};

/** A query that launches a worker and makes a call about it, or makes a call that launches one. */
function nestedQuery(call: Call, workerSql: string, launches: boolean): string {
  if (launches) return lineQuery(call);
  const source = `public.pg_background_launch_v2(${literal(workerSql)}) AS h`;
  const args = ['h.pid', 'h.cookie'].slice(0, call.args.length);
  return call.record === undefined
    ? `SELECT public.${call.name}(${args.join(', ')})::text AS line FROM ${source}`
    : `SELECT ${lineOf(call)} AS line FROM ${source}, ${fromItem(call, args)}`;
}

/** A schema of traps stands before pg_catalog; the sample is a query that is caught in one. */
function withTraps(name: string, schema: string, sample: string, code = CAUGHT.code): Position {
  return {
    ...withSettings(name),
    async setUp(session) {
      await session.rows(`SET search_path = ${schema}, pg_catalog, public`);
      expect((await session.error(sample)).code, sample).to.equal(code);
    },
    tearDown: (session) => session.rows('RESET search_path'),
  };
}

export const surroundingPositions: readonly Position[] = [
  withSettings('client_min_messages = error', 'client_min_messages = error'),
  withSettings('standard_conforming_strings = off', 'standard_conforming_strings = off'),
  withSettings("search_path = ''", "search_path = ''"),
  withTraps('operators of a user come first', 'trap_operators', 'SELECT 1 = 1'),
  withTraps('functions of a user come first', 'trap_functions', `SELECT concat('a', 'b')`),
  withTraps('types of a user come first', 'trap_types', `SELECT 'a'::text`, '22P02'),
  withTraps('tables of a user come first', 'trap_tables', 'SELECT name FROM pg_settings', '42703'),
  {
    name: 'client_encoding LATIN1',
    encoding: 'LATIN1',
    word: 'déjà vu £',
    run: async ({ session, call }) => [asLines(await session.rows(plainQuery(call)))],
  },
  {
    name: 'database in SQL_ASCII',
    encoding: 'SQL_ASCII',
    word: 'déjà vu £',
    run: async ({ session, call }) => [asLines(await session.rows(plainQuery(call)))],
  },
  {
    name: 'SQL of a worker',
    nested: true,
    async run({ session, call, workerSql }) {
      const launches = call.args.some(({ type }) => type === 'text');
      const sql = `CREATE TEMP TABLE given AS ${nestedQuery(call, workerSql, launches)};
        SELECT line FROM given UNION ALL SELECT 'left ' || state FROM pg_background_list_v2() AS (${LIST_COLUMNS})`;
      const lines = asLines(
        await session.rows(
          `SELECT * FROM pg_background_result(pg_background_launch(${literal(sql)})) AS (line text)`,
        ),
      );
      const left = lines.filter((line) => line.startsWith('left '));
      expect(left.join(), 'what the call left').to.match(LEFT_BY[call.name] ?? /^left /);
      return [lines.filter((line) => !line.startsWith('left '))];
    },
  },
];
