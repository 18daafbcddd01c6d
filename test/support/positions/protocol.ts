import { oidOf, writeBinary } from '../binary-value.ts';
import { lineQuery, placeholders, plainQuery, type Call } from '../call-forms.ts';
import type { ExtendedStatement } from '../wire-session.ts';
import { asLines, type Position } from './position.ts';

/** The ways in which a client can send a call. */

function bound(call: Call, binary = false): ExtendedStatement {
  return {
    sql: plainQuery(call, placeholders(call)),
    types: call.args.map(({ type }) => oidOf(type)),
    values: call.args.map(({ type, value }) => (binary ? writeBinary(type, value) : value)),
    binary,
  };
}

export const protocolPositions: readonly Position[] = [
  {
    name: 'simple query',
    run: async ({ session, call }) => [asLines(await session.rows(plainQuery(call)))],
  },
  {
    name: 'several statements in one simple query',
    calls: 3,
    run: async ({ session, calls }) =>
      (await session.resultSets(calls.map((call) => plainQuery(call)).join('; '))).map(asLines),
  },
  {
    name: 'extended protocol, text format',
    run: async ({ session, call }) => (await session.pipeline([bound(call)])).map(asLines),
  },
  {
    name: 'extended protocol, binary format',
    run: async ({ session, call }) => (await session.pipeline([bound(call, true)])).map(asLines),
  },
  {
    name: 'named prepared statement, run many times',
    calls: 7, // more often than it takes until the server uses a generic plan
    async run({ session, call, calls }) {
      const { sql, types = [] } = bound(call);
      await session.prepare('statement', { sql, types });
      const lines: string[][] = [];
      for (const { args } of calls) {
        const values = args.map(({ value }) => value);
        lines.push(asLines(await session.execute('statement', values)));
      }
      return lines;
    },
  },
  {
    name: 'pipeline',
    calls: 3,
    run: async ({ session, calls }) =>
      (await session.pipeline(calls.map((call) => bound(call)))).map(asLines),
  },
  {
    name: 'Execute with a row limit',
    async run({ session, call }) {
      const sql = `SELECT 'before' AS line UNION ALL (${lineQuery(call, placeholders(call))})`;
      const rows = await session.rowByRow({ ...bound(call), sql });
      return [asLines(rows).filter((line) => line !== 'before')];
    },
  },
  {
    name: 'cursor',
    async run({ session, call }) {
      await session.rows(`BEGIN; DECLARE lines CURSOR FOR ${lineQuery(call)}`);
      const lines: string[] = [];
      for (;;) {
        const fetched = asLines(await session.rows('FETCH 1 FROM lines'));
        if (fetched.length === 0) break;
        lines.push(...fetched);
      }
      await session.rows('COMMIT');
      return [lines];
    },
  },
  {
    name: 'cursor WITH HOLD',
    async run({ session, call }) {
      // The query runs at COMMIT.
      await session.rows(`BEGIN; DECLARE lines CURSOR WITH HOLD FOR ${lineQuery(call)}`);
      await session.rows('COMMIT');
      return [asLines(await session.rows('FETCH ALL FROM lines'))];
    },
  },
];
