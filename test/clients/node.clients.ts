import { existsSync } from 'node:fs';
import { clientSuite } from './client-suite.ts';
import { itCancelsInTls, itLogsIn } from './logins.ts';
import { itDoes, programs, seenBy } from './program-features.ts';

const missing = existsSync(programs('node_modules')) ? undefined : 'npm ci in test/clients';
const node = (client: string) => () =>
  [process.execPath, programs(`${client}/features.mjs`)] as const;

/** The rows of `SELECT i, i * 1.5 FROM generate_series(1, 3) AS i`. */
const WORKER_ROWS = [
  { x: 1, y: '1.5' },
  { x: 2, y: '3.0' },
  { x: 3, y: '4.5' },
];

/** The row of a COPY of twenty thousand lines. */
const COPIED = { count: 20_000, sum: 199_990_000, max: 'row 9999' };
const LAST_LINE = `20000\t${'20000'.repeat(10)}`;

const TEN_IN_FOURS = [
  [1, 2, 3, 4],
  [5, 6, 7, 8],
  [9, 10],
];
const SEVEN_IN_THREES = [[1, 2, 3], [4, 5, 6], [7]];

clientSuite('node-postgres', { missing }, (proxy) => {
  itDoes(proxy, node('node-postgres'), {
    'parameters and types': {
      int: 42,
      text: 'größer',
      jsonb: { a: [1, null] },
      array: [1, 2, null],
      bytea: '00ff',
      timestamptz: true,
      null: null,
    },
    'binary results': [{ a: 42, b: '7', c: true, d: 'text' }],
    'named prepared statements': { seen: [2, 4, 6], prepared: ['double'] },
    Pool: { first: 1, sum: 780, hasSeveral: true },
    transactions: { failed: '22012', ignored: '25P02', rows: [{ a: 3 }] },
    'pg-cursor': { counts: SEVEN_IN_THREES, after: 1 },
    'pg-copy-streams in': COPIED,
    'pg-copy-streams out': { lines: 20_000, last: LAST_LINE, after: 1 },
    'COPY that fails': { code: '22P02', rows: [{ count: 0 }] },
    LISTEN: { channel: 'news', payload: 'größer', isSender: true },
    pg_cancel_backend: { code: '57014', after: 1 },
    errors: [
      { code: '42703', position: '8' },
      { code: '23514', constraint: 'positive', table: 'node_errors' },
    ],
    'a worker and its result': WORKER_ROWS,
    "a worker's rows by pg-cursor": TEN_IN_FOURS,
    'cancelled while it waits for a worker': { first: '57014', second: '57P01', after: 1 },
  });
  itLogsIn((url) => seenBy(node('node-postgres')(), url, 'login'));
});

clientSuite('postgres.js', { missing }, (proxy) => {
  itDoes(proxy, node('postgres.js'), {
    'tagged queries': [
      { name: 'größer', age: 1 },
      { name: "o'clock", age: 2 },
    ],
    'parameters and types': {
      int: 42,
      jsonb: { a: [1, null] },
      array: [1, 2],
      bytea: '00ff',
      timestamptz: '2024-02-29T12:00:00.000Z',
      null: null,
    },
    'prepare: true': { values: [2, 4, 6], hasPrepared: true },
    'prepare: false': { values: [2, 4, 6], hasPrepared: false },
    'simple queries': [{ a: 1 }, { b: 2 }],
    'many queries at once on one connection': { sum: 19_800, failed: ['22012'] },
    cursors: { parts: SEVEN_IN_THREES, stopped: [1, 2, 3, 4] },
    forEach: 1_250_025_000,
    'COPY streams in': [COPIED],
    'COPY streams out': { lines: 20_000, last: LAST_LINE },
    'query.cancel()': { code: '57014', after: [{ one: 1 }] },
    listen: 'größer',
    transactions: [{ a: 2 }, { a: 4 }],
    'a worker and its result': WORKER_ROWS,
    "a worker's rows by cursor": TEN_IN_FOURS,
    'cancelled while it waits for a worker': { first: '57014', second: '57P01' },
  });
  // Its connection strings know no certificates.
  const tls = () => 'sslmode=require';
  itLogsIn((url) => seenBy(node('postgres.js')(), url, 'login'), tls);
  itCancelsInTls(
    (url) => seenBy(node('postgres.js')(), url, 'query.cancel()'),
    { code: '57014', after: [{ one: 1 }] },
    tls,
  );
});

clientSuite('Kysely', { missing }, (proxy) => {
  itDoes(proxy, node('kysely'), {
    'schema and queries': {
      inserted: [{ id: 1 }, { id: 2 }],
      updated: 1,
      names: [{ name: 'größer' }, { name: 'Max' }],
      isThere: true,
    },
    transactions: { code: '23505', names: [{ name: 'kept' }] },
    'streaming with pg-cursor': { sum: 2_001_000, seen: 25 },
    'a worker and its result': WORKER_ROWS,
    'a worker that outlives a rollback': [{ name: 'logged' }],
  });
});
