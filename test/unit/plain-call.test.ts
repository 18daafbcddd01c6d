import { expect } from 'chai';
import { plainResultOf } from '../../src/plain-call.ts';

const RESULT = 'pg_background_result';

const isPlainResult = (sql: string, name: string) => plainResultOf(sql)?.verb === name;

describe('plainResultOf', () => {
  for (const sql of [
    'SELECT * FROM pg_background_result(1) AS (x int)',
    'select * from PG_BACKGROUND_RESULT(1) r(x int, y text);',
    `SELECT * FROM pg_background_result(pg_background_launch('SELECT 1')) AS (x int)`,
    `SELECT * FROM pg_background_result(pg_background_launch('SELECT 1', 65536)) AS (x int)`,
    'SELECT * FROM pg_background_result($1) AS (x int)',
    'SELECT * FROM pg_background_result(pg_background_launch($1, $2)) AS (x int)',
    `/* a comment */ SELECT * FROM pg_background_result(1) AS (x numeric(5, 2)) -- and another`,
  ]) {
    it(`is one: ${sql}`, () => {
      expect(isPlainResult(sql, RESULT)).to.equal(true);
    });
  }

  it('tells a launch from constants', () => {
    const launch = `SELECT * FROM pg_background_result(pg_background_launch('SELECT 1')) AS (x int)`;
    expect(plainResultOf(launch)?.isOfLaunch).to.equal(true);
    const constant = 'SELECT * FROM pg_background_result(1) AS (x int)';
    expect(plainResultOf(constant)?.isOfLaunch).to.equal(false);
  });

  it('is one of the function that is named only', () => {
    const sql = `SELECT * FROM pg_background_result_v2(1, '-5') AS (x int)`;
    expect(isPlainResult(sql, 'pg_background_result_v2')).to.equal(true);
    expect(isPlainResult(sql, RESULT)).to.equal(false);
  });

  for (const sql of [
    'SELECT x FROM pg_background_result(1) AS (x int)',
    'SELECT r.* FROM pg_background_result(1) AS r (x int)',
    'SELECT *, 1 FROM pg_background_result(1) AS (x int)',
    'SELECT DISTINCT * FROM pg_background_result(1) AS (x int)',
    'SELECT * FROM pg_background_result(1) AS (x int) WHERE true',
    'SELECT * FROM pg_background_result(1) AS (x int) LIMIT 1',
    'SELECT * FROM pg_background_result(1) AS (x int) OFFSET 0',
    'SELECT * FROM pg_background_result(1) AS (x int) ORDER BY x',
    'SELECT * FROM pg_background_result(1) AS (x int) GROUP BY x',
    'SELECT * FROM pg_background_result(1) AS (x int) FOR UPDATE',
    'SELECT * FROM pg_background_result(1) AS (x int) UNION ALL SELECT 1',
    'SELECT * FROM pg_background_result(1) AS (x int), t',
    'SELECT * FROM pg_background_result(1) AS r (x int) JOIN t ON true',
    'SELECT * FROM ROWS FROM (pg_background_result(1) AS (x int), f())',
    'SELECT * INTO t FROM pg_background_result(1) AS (x int)',
    'WITH w AS (SELECT 1) SELECT * FROM pg_background_result(1) AS (x int)',
    'SELECT * FROM (SELECT * FROM pg_background_result(1) AS (x int)) AS s',
    'SELECT * FROM public.pg_background_result(1) AS (x int)',
    'SELECT * FROM pg_background_result(public.pg_background_launch($$SELECT 1$$)) AS (x int)',
    'SELECT * FROM pg_background_result(f()) AS (x int)',
    'SELECT * FROM pg_background_result((SELECT pid FROM t)) AS (x int)',
    'SELECT * FROM pg_background_result(1 + 1) AS (x int)',
    `SELECT * FROM pg_background_result('1'::app.pid) AS (x int)`,
    'SELECT * FROM pg_background_result(pid => 1) AS (x int)',
    'SELECT * FROM pg_background_result(pg_background_result(1)) AS (x int)',
    'SELECT * FROM pg_background_result(pg_background_launch(f())) AS (x int)',
    'SELECT * FROM pg_background_result(pg_background_launch(pg_background_launch($$x$$))) AS (x int)',
    `SELECT * FROM pg_background_result(pg_background_launch('a' || 'b')) AS (x int)`,
    'SELECT * FROM pg_background_result(VARIADIC ARRAY[1]) AS (x int)',
    'SELECT * FROM pg_background_result($1::app.pid) AS (x int)',
    'SELECT * FROM pg_background_result($1 + 1) AS (x int)',
    'SELECT pg_background_result(1)',
    'SELECT * FROM pg_background_result(1) AS (x int); SELECT 1',
    'EXPLAIN SELECT * FROM pg_background_result(1) AS (x int)',
    'TABLE pg_background_result',
    'SELEKT pg_background_result(1)',
    '',
  ]) {
    it(`is none: ${sql}`, () => {
      expect(isPlainResult(sql, RESULT)).to.equal(false);
    });
  }
});
