import { expect } from 'chai';
import { repeatedStatement } from '../../src/repeatable-call.ts';

describe('repeatedStatement', () => {
  const repeated = [
    [
      'SELECT * FROM pg_background_result(17) AS (r text)',
      'SELECT * FROM pg_background_result(4711) AS (r text)',
    ],
    [
      `SELECT * FROM pg_background_result(pg_background_launch('VACUUM (FULL) t')) AS (r text);`,
      'SELECT * FROM pg_background_result(4711) AS (r text);',
    ],
    [
      `select r from contrib.pg_background_result ( pid => pg_background_launch(format('REINDEX %s', 'x') || ' -- )', 65536) ) as x(r text) -- é`,
      'select r from contrib.pg_background_result (4711) as x(r text) -- é',
    ],
  ] as const;
  for (const [sql, expected] of repeated) {
    it(`puts the handle into ${sql}`, () => {
      expect(repeatedStatement(sql, 'pg_background_result', 4711, '0')).to.equal(expected);
    });
  }

  it('puts pid and cookie into a call of the second API', () => {
    expect(
      repeatedStatement(
        `/* é */ SELECT * FROM pg_background_result_v2(1, '-9'::int8) AS (r text)`,
        'pg_background_result_v2',
        4711,
        '-9223372036854775808',
      ),
    ).to.equal(
      `/* é */ SELECT * FROM pg_background_result_v2(4711, '-9223372036854775808') AS (r text)`,
    );
  });

  for (const sql of [
    'SELECT pg_background_wait_v2(1, -2)',
    'SELECT pg_background_wait_v2(1, -2) AS done',
    'SELECT * FROM pg_background_wait_v2(1, -2)',
  ]) {
    it(`repeats ${sql}`, () => {
      expect(repeatedStatement(sql, 'pg_background_wait_v2', 5, '6')).to.equal(
        sql.replace('1, -2', `5, '6'`),
      );
    });
  }

  const others = [
    `SELECT 1; SELECT * FROM pg_background_result(17) AS (r text)`,
    `SELECT count(*) FROM pg_background_result(17) AS (r text)`,
    `SELECT * FROM pg_background_result(17) AS (r text) WHERE r <> ''`,
    `SELECT * FROM pg_background_result(17) AS (r text) LIMIT 1`,
    `SELECT DISTINCT * FROM pg_background_result(17) AS (r text)`,
    `SELECT * INTO t FROM pg_background_result(17) AS (r text)`,
    `SELECT * FROM pg_background_result(17) AS (r text) UNION ALL SELECT ''`,
    `SELECT * FROM pg_background_result(17) WITH ORDINALITY AS (r text)`,
    `SELECT * FROM ROWS FROM (pg_background_result(17) AS (r text), generate_series(1, 2))`,
    `SELECT * FROM pg_background_result(17) AS (r text), t`,
    `WITH x AS (SELECT 1) SELECT * FROM pg_background_result(17) AS (r text)`,
    `SELECT * FROM pg_background_result(my_own_launch()) AS (r text)`,
    `SELECT * FROM pg_background_result((SELECT pid FROM t)) AS (r text)`,
    `SELECT * FROM pg_background_result(pg_background_launch(my_own_sql())) AS (r text)`,
    `SELECT * FROM pg_background_list_v2() AS (pid int)`,
    `INSERT INTO t SELECT * FROM pg_background_result(17) AS (r text)`,
    `DO $$ BEGIN PERFORM * FROM pg_background_result(17) AS (r text); END $$`,
    `SELECT no syntax FROM FROM`,
  ];
  for (const sql of others) {
    it(`refuses ${sql}`, () => {
      expect(repeatedStatement(sql, 'pg_background_result', 4711, '0')).to.equal(undefined);
    });
  }

  for (const sql of [
    'SELECT pg_background_wait_v2(1, 2), 3',
    'SELECT pg_background_wait_v2(generate_series(1, 2), 2)',
    'SELECT pg_background_wait_v2(pid, cookie) FROM handles',
    'SELECT pg_background_wait_v2(1, 2) WHERE true',
  ]) {
    it(`refuses ${sql}`, () => {
      expect(repeatedStatement(sql, 'pg_background_wait_v2', 4711, '0')).to.equal(undefined);
    });
  }

  it('refuses a statement whose one call is another than the one that waits', () => {
    expect(
      repeatedStatement('SELECT pg_background_wait_v2(1, 2)', 'pg_background_result_v2', 1, '2'),
    ).to.equal(undefined);
  });
});
