import {
  expression,
  fromItem,
  lineOf,
  lineQuery,
  linesOf,
  literals,
  placeholders,
  type Call,
} from '../call-forms.ts';
import { asLines, seenLines, type Position, type Situation } from './position.ts';

/** The places of a call inside an SQL statement. */

/** Runs a query that gives lines. */
async function lines({ session }: Situation, sql: string): Promise<string[][]> {
  return [asLines(await session.rows(sql))];
}

/** a1, a2 … with the types of the arguments. */
function argumentColumns({ args }: Call): string {
  return ['id int', ...args.map(({ type }, index) => `a${index + 1} ${type}`)].join(', ');
}

const argumentNames = ({ args }: Call) => args.map((_, index) => `a.a${index + 1}`);

export const queryPositions: readonly Position[] = [
  {
    name: 'expression',
    async run({ session, call }) {
      const [row] = await session.rows(
        `SELECT coalesce(NULL, CASE WHEN 1 + 1 = 2 THEN ${expression(call)} || '' ELSE 'never' END)`,
      );
      return [linesOf(row?.[0])];
    },
  },
  {
    name: 'WHERE clause',
    run: (situation) =>
      lines(
        situation,
        `SELECT NULL FROM (VALUES (1)) AS v WHERE ${expression(situation.call)} = 'never'`,
      ).then(() => undefined),
  },
  {
    name: 'sub-select',
    run: (situation) =>
      lines(
        situation,
        `SELECT s.line FROM (SELECT line FROM (${lineQuery(situation.call)}) AS t OFFSET 0) AS s WHERE s.line IS NOT NULL`,
      ),
  },
  {
    name: 'LATERAL join',
    run(situation) {
      const { call } = situation;
      const values = call.args.map(({ type }, index) => `${literals(call)[index]}::${type}`);
      const names = ['id', ...call.args.map((_, index) => `a${index + 1}`)];
      return lines(
        situation,
        `SELECT ${lineOf(call)} FROM (VALUES (${['0', ...values].join(', ')})) AS a(${names.join(', ')})
           CROSS JOIN LATERAL ${fromItem(call, argumentNames(call))}`,
      );
    },
  },
  {
    name: 'CTE',
    run: (situation) =>
      lines(situation, `WITH called AS (${lineQuery(situation.call)}) SELECT line FROM called`),
  },
  {
    name: 'UNION ALL',
    calls: 2,
    async run({ session, calls }) {
      const rows = await session.rows(
        calls
          .map((call, id) => `SELECT ${id}, s.line FROM (${lineQuery(call)}) AS s`)
          .join(' UNION ALL '),
      );
      return calls.map((_, id) =>
        rows.filter((row) => row[0] === String(id)).map((row) => row[1] ?? ''),
      );
    },
  },
  {
    name: 'per row of a table',
    calls: 3,
    async run({ session, call, calls }) {
      const rows = calls.map((one, id) => `(${[String(id), ...literals(one)].join(', ')})`);
      await session.rows(
        `CREATE TEMP TABLE a (${argumentColumns(call)}); INSERT INTO a VALUES ${rows.join(', ')}`,
      );
      const given = await session.rows(
        call.record === undefined
          ? `SELECT a.id, ${expression(call, argumentNames(call))} FROM a`
          : `SELECT a.id, ${lineOf(call)} FROM a, ${fromItem(call, argumentNames(call))}`,
      );
      return calls.map((_, id) =>
        given.filter((row) => row[0] === String(id)).map((row) => row[1] ?? ''),
      );
    },
  },
  {
    name: 'INSERT ... SELECT',
    async run(situation) {
      const { session, call } = situation;
      await session.rows(`INSERT INTO seen SELECT 0, s.line FROM (${lineQuery(call)}) AS s`);
      return seenLines(situation);
    },
  },
  {
    name: 'UPDATE ... RETURNING',
    async run({ session, call }) {
      const [row] = await session.rows(
        `INSERT INTO seen VALUES (0, 'old'); UPDATE seen SET line = ${expression(call)} RETURNING line`,
      );
      return [linesOf(row?.[0])];
    },
  },
  {
    name: 'CREATE TABLE AS',
    async run(situation) {
      await situation.session.rows(`CREATE TEMP TABLE made AS ${lineQuery(situation.call)}`);
      return lines(situation, 'SELECT line FROM made');
    },
  },
  {
    name: 'view',
    async run(situation) {
      await situation.session.rows(`CREATE TEMP VIEW called AS ${lineQuery(situation.call)}`);
      return lines(situation, 'SELECT line FROM called');
    },
  },
  {
    name: 'materialized view',
    async run(situation) {
      await situation.session.rows(
        `CREATE MATERIALIZED VIEW called AS ${lineQuery(situation.call)}`,
      );
      const given = await lines(situation, 'SELECT line FROM called');
      await situation.session.rows('DROP MATERIALIZED VIEW called');
      return given;
    },
  },
  {
    name: 'column default',
    async run({ session, call }) {
      // A default may hold no sub-select, so the call stands in a function there.
      await session.rows(
        `CREATE FUNCTION pg_temp.called() RETURNS text LANGUAGE plpgsql AS $function$
           BEGIN RETURN ${expression(call)}; END $function$;
         CREATE TEMP TABLE made (line text DEFAULT pg_temp.called())`,
      );
      const [row] = await session.rows('INSERT INTO made DEFAULT VALUES RETURNING line');
      return [linesOf(row?.[0])];
    },
  },
  {
    name: 'COPY TO STDOUT',
    run: (situation) => lines(situation, `COPY (${lineQuery(situation.call)}) TO STDOUT`),
  },
  {
    name: 'PREPARE and EXECUTE',
    calls: 7, // more often than it takes until the server uses a generic plan
    async run({ session, call, calls }) {
      const types = call.args.map(({ type }) => type);
      const list = (items: readonly string[]) => (items.length > 0 ? `(${items.join(', ')})` : '');
      await session.rows(
        `PREPARE statement${list(types)} AS ${lineQuery(call, placeholders(call))}`,
      );
      const given: string[][] = [];
      for (const one of calls) {
        given.push(asLines(await session.rows(`EXECUTE statement${list(literals(one))}`)));
      }
      return given;
    },
  },
  {
    name: 'EXPLAIN ANALYZE',
    async run({ session, call }) {
      await session.rows(`EXPLAIN (ANALYZE, VERBOSE) ${lineQuery(call)}`);
      return undefined;
    },
  },
];
