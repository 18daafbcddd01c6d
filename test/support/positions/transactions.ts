import { expect } from 'chai';
import { plainQuery } from '../call-forms.ts';
import { asLines, type Position } from './position.ts';

/** Calls in transactions of each kind. What a worker does is no part of them. */

const isolationLevels = ['READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'];

function inTransaction(mode: string): Position {
  return {
    name: mode,
    // The query takes the snapshot of the transaction.
    setUp: (session) => session.rows(`BEGIN ISOLATION LEVEL ${mode}; SELECT count(*) FROM written`),
    async run({ session, call }) {
      const lines = asLines(await session.rows(plainQuery(call)));
      await session.rows('COMMIT');
      return [lines];
    },
  };
}

export const transactionPositions: readonly Position[] = [
  ...isolationLevels.flatMap((level) => [
    inTransaction(level),
    inTransaction(`${level}, READ ONLY`),
  ]),
  inTransaction('SERIALIZABLE, READ ONLY, DEFERRABLE'),
  {
    name: 'transaction that has failed',
    async run({ session, call }) {
      await session.rows('BEGIN');
      expect((await session.error('SELECT 1 / 0')).code).to.equal('22012');
      try {
        return [asLines(await session.rows(plainQuery(call)))];
      } finally {
        await session.rows('ROLLBACK');
      }
    },
    refusal: () => '25P02',
  },
  {
    name: 'transaction that is rolled back',
    async run({ session, call }) {
      await session.rows('BEGIN; CREATE TEMP TABLE never (n int)');
      const lines = asLines(await session.rows(plainQuery(call)));
      await session.rows('ROLLBACK');
      return [lines];
    },
  },
  {
    name: 'savepoint that is rolled back',
    async run({ session, call }) {
      await session.rows('BEGIN; SAVEPOINT s');
      const lines = asLines(await session.rows(plainQuery(call)));
      await session.rows('ROLLBACK TO s; COMMIT');
      return [lines];
    },
  },
  {
    name: 'statement that fails afterwards',
    async run({ session, call }) {
      const error = await session.error(`${plainQuery(call)}; SELECT 1 / 0`);
      expect(error.code).to.equal('22012');
      return undefined;
    },
  },
];
