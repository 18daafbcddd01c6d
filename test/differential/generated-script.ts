import fc from 'fast-check';
import { int32 } from '../support/messages.ts';
import {
  bind,
  closePortal,
  closeStatement,
  copyData,
  copyDone,
  copyFail,
  describePortal,
  describeStatement,
  execute,
  flush,
  functionCall,
  parse,
  query,
  sync,
  type Value,
} from './frontend.ts';

/*
 * Nothing here depends on when it runs, or on what ran before: what is read is never written, what is
 * written is never read by others. COMMIT and NOTIFY come in simple queries only: behind those the server
 * tells a session of its own notifications before ReadyForQuery, behind an Execute when it finds time.
 * `SHOW pg_background.…` is left out: without the proxy nobody has given those settings a value.
 */

/** Statements without parameters. */
const PLAIN = [
  'SELECT 1',
  'SELECT id, name, note FROM people ORDER BY id',
  'SELECT n FROM numbers ORDER BY n LIMIT 7',
  'SELECT noisy(n) FROM numbers ORDER BY n LIMIT 3',
  'SELECT fails_at(n, 4) FROM numbers ORDER BY n',
  'SELECT FROM people',
  'SELECT NULL::text, 1.50::numeric, true',
  "SELECT repeat('x', 20000)",
  "SELECT 'CREATE EXTENSION pg_background', 'pg_background_launch'",
  '',
  'SELEC 1',
  'SELECT 1 / 0',
  'SELECT * FROM nowhere',
  "INSERT INTO target VALUES (1, 'a'), (2, NULL) RETURNING b, a",
  "INSERT INTO people VALUES (1, 'again')",
  'UPDATE people SET name = name WHERE id < 3',
  "SET application_name TO 'one'",
  "SET TimeZone TO 'Asia/Tokyo'",
  "SET LOCAL DateStyle TO 'German, DMY'",
  'SET no_such_setting TO 1',
  "SET pg_background.max_workers TO '7'",
  'SHOW work_mem',
  'LISTEN a',
  'UNLISTEN *',
  'BEGIN',
  'BEGIN READ ONLY',
  'ROLLBACK',
  'SAVEPOINT a',
  'ROLLBACK TO a',
  'RELEASE a',
  'DEALLOCATE ALL',
  'COPY target FROM STDIN',
  'COPY target FROM STDIN (FORMAT csv)',
  'COPY people TO STDOUT',
  'COPY people TO STDOUT (FORMAT binary)',
  "DO $$ BEGIN RAISE WARNING 'pg_background' USING ERRCODE = 'PGBG1'; END $$",
  "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'PGBG0', DETAIL = 'd', HINT = 'h'; END $$",
  'CREATE EXTENSION no_such_extension',
  'EXPLAIN (COSTS OFF) SELECT 1',
  'CALL gives_back(1)',
] as const;

/** Texts of a Query only. */
const SIMPLE = [
  'COMMIT',
  'NOTIFY a',
  "NOTIFY a, 'payload'",
  'BEGIN; NOTIFY a; SELECT 1; COMMIT',
  "BEGIN; LISTEN a; COMMIT; NOTIFY a, 'heard'",
  'SELECT 1; SELECT 2',
  'SELECT 1; SELECT 1 / 0; SELECT 3',
  'BEGIN; SELECT 1',
  ';;',
  '-- pg_background, extension',
  "SET pg_background.worker_timeout TO '1min'; SHOW pg_background.worker_timeout",
  'COPY target FROM STDIN; SELECT 1; COPY target FROM STDIN',
  'COPY people TO STDOUT; SELECT noisy(1)',
  'CALL commits()',
  'DECLARE c CURSOR FOR SELECT n FROM numbers ORDER BY n; FETCH 2 FROM c',
  'FETCH 2 FROM c',
  'DISCARD ALL',
] as const;

/** Statements with parameters, and values for them that may fit. */
const WITH_PARAMETERS: readonly (readonly [sql: string, ...values: (readonly Value[])[]])[] = [
  ['SELECT $1::int + 1', ['41'], [int32(41)], [null], ['x'], [Buffer.of(1)]],
  ['SELECT $1::text || $2', ['a', 'b'], ['', null], ['a']],
  ['SELECT id FROM people WHERE name = $1', ['Ada'], ['nobody'], ['\xff']],
  ['INSERT INTO target VALUES ($1, $2)', ['1', 'x'], [null, null], ['many', 'x']],
  ['SELECT 1 / $1', ['1'], ['0']],
];

/** Short, so that they meet: statements and portals that exist, exist twice, or not at all. */
const name = fc.oneof(
  { weight: 4, arbitrary: fc.constant('') },
  { weight: 2, arbitrary: fc.constantFrom('a', 'b') },
);
const maxRows = fc.oneof(
  { weight: 3, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.constantFrom(1, 3, 7) },
);
const results = fc.constantFrom([], [0], [1], [1, 0]) as fc.Arbitrary<readonly (0 | 1)[]>;
const [INT4PL, INT4DIV, TEXTCAT, UNKNOWN] = [177, 154, 1258, 4_000_000];

/** A message, and how it is shown where a script fails. */
export interface GeneratedMessage {
  readonly bytes: Buffer;
  readonly shown: string;
}

const shownAs = (text: string, bytes: Buffer): GeneratedMessage => ({ shown: text, bytes });

const plain = fc.constantFrom(...PLAIN);
const withParameters = fc.constantFrom(...WITH_PARAMETERS);

const parsed = (statement: string, sql: string) =>
  shownAs(`Parse ${JSON.stringify(statement)} ${JSON.stringify(sql)}`, parse(statement, sql));

function bound(
  portal: string,
  statement: string,
  values: readonly Value[],
  formats: readonly (0 | 1)[],
): GeneratedMessage {
  return shownAs(
    `Bind ${JSON.stringify([portal, statement, values, formats])}`,
    bind({ portal, statement, values, results: formats }),
  );
}

const executed = (portal: string, rows: number) =>
  shownAs(`Execute ${JSON.stringify(portal)} ${rows}`, execute(rows, portal));

const simple = fc
  .oneof({ weight: 3, arbitrary: plain }, { weight: 1, arbitrary: fc.constantFrom(...SIMPLE) })
  .map((sql) => shownAs(`Query ${JSON.stringify(sql)}`, query(sql)));

const described = fc
  .tuple(fc.boolean(), name)
  .map(([isPortal, its]) =>
    shownAs(
      `Describe ${isPortal ? 'portal' : 'statement'} ${JSON.stringify(its)}`,
      isPortal ? describePortal(its) : describeStatement(its),
    ),
  );

const closed = fc
  .tuple(fc.boolean(), name)
  .map(([isPortal, its]) =>
    shownAs(
      `Close ${isPortal ? 'portal' : 'statement'} ${JSON.stringify(its)}`,
      isPortal ? closePortal(its) : closeStatement(its),
    ),
  );

const called = fc
  .tuple(
    fc.constantFrom(
      ...([
        [INT4PL, ['1', '2']],
        [INT4PL, [int32(1), int32(2)]],
        [INT4PL, ['1', null]],
        [INT4PL, ['1']],
        [INT4DIV, ['1', '0']],
        [TEXTCAT, ['a', 'b']],
        [UNKNOWN, []],
      ] as const satisfies readonly (readonly [number, readonly Value[]])[]),
    ),
    fc.constantFrom<0 | 1>(0, 1),
  )
  .map(([[oid, values], format]) =>
    shownAs(
      `FunctionCall ${JSON.stringify([oid, values, format])}`,
      functionCall(oid, values, format),
    ),
  );

const data = fc
  .constantFrom('1\ta\n', '1,a\n', '2\t', '\\N\t\\N\n', 'x\ty\n', '', '\\.\n')
  .map((text) => shownAs(`CopyData ${JSON.stringify(text)}`, copyData(text)));

/** What is not forbidden in its place often enough to lead somewhere. */
const single = fc.oneof(
  { weight: 6, arbitrary: simple },
  { weight: 4, arbitrary: fc.constant(shownAs('Sync', sync)) },
  { weight: 2, arbitrary: fc.constant(shownAs('Flush', flush)) },
  { weight: 2, arbitrary: fc.tuple(name, plain).map(([its, sql]) => parsed(its, sql)) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(name, name, results)
      .map(([portal, statement, formats]) => bound(portal, statement, [], formats)),
  },
  { weight: 2, arbitrary: fc.tuple(name, maxRows).map(([its, rows]) => executed(its, rows)) },
  { weight: 2, arbitrary: described },
  { weight: 1, arbitrary: closed },
  { weight: 1, arbitrary: called },
  { weight: 1, arbitrary: data },
  { weight: 1, arbitrary: fc.constant(shownAs('CopyDone', copyDone)) },
  { weight: 1, arbitrary: fc.constant(shownAs('CopyFail', copyFail('changed my mind'))) },
);

/** Parse, Bind, Describe, Execute of one statement, as drivers say it. */
const batch = fc
  .record({
    statement: name,
    portal: name,
    what: fc.oneof(
      plain.map((sql) => ({ sql: sql as string, values: [] as readonly Value[] })),
      withParameters.chain(([sql, ...choices]) =>
        fc.constantFrom(...choices).map((values) => ({ sql, values })),
      ),
    ),
    formats: results,
    isDescribed: fc.boolean(),
    rows: maxRows,
    ending: fc.constantFrom('Sync', 'Flush', 'none'),
  })
  .map(({ statement, portal, what, formats, isDescribed, rows, ending }) => [
    parsed(statement, what.sql),
    bound(portal, statement, what.values, formats),
    ...(isDescribed
      ? [shownAs(`Describe portal ${JSON.stringify(portal)}`, describePortal(portal))]
      : []),
    executed(portal, rows),
    ...(ending === 'Sync' ? [shownAs('Sync', sync)] : []),
    ...(ending === 'Flush' ? [shownAs('Flush', flush)] : []),
  ]);

/** COPY, and data that may be right. */
const copying = fc
  .record({
    isSimple: fc.boolean(),
    rows: fc.array(data, { maxLength: 3 }),
    hasEarlySync: fc.boolean(),
    ending: fc.constantFrom('CopyDone', 'CopyFail', 'none'),
  })
  .map(({ isSimple, rows, hasEarlySync, ending }) => [
    ...(isSimple
      ? [shownAs('Query "COPY target FROM STDIN"', query('COPY target FROM STDIN'))]
      : [parsed('', 'COPY target FROM STDIN'), bound('', '', [], []), executed('', 0)]),
    ...(hasEarlySync ? [shownAs('Sync', sync)] : []),
    ...rows,
    ...(ending === 'CopyDone' ? [shownAs('CopyDone', copyDone)] : []),
    ...(ending === 'CopyFail' ? [shownAs('CopyFail', copyFail('no'))] : []),
    ...(isSimple ? [] : [shownAs('Sync', sync)]),
  ]);

/** What a client might say in one session, and how its way and that of the answer are cut. */
export interface GeneratedSession {
  readonly messages: readonly GeneratedMessage[];
  readonly clientCuts: number;
  readonly serverCuts: number;
}

export const generatedSessions: fc.Arbitrary<GeneratedSession> = fc.record({
  messages: fc
    .array(
      fc.oneof(
        { weight: 5, arbitrary: single.map((one) => [one]) },
        { weight: 4, arbitrary: batch },
        { weight: 1, arbitrary: copying },
      ),
      { minLength: 1, maxLength: 12, size: 'max' },
    )
    .map((parts) => parts.flat()),
  clientCuts: fc.nat(),
  serverCuts: fc.nat(),
});
