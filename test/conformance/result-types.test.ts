/*
 * The types of a result: which column definition lists describe it, what a type modifier does, and
 * that values arrive as they left.
 */
import { expect } from 'chai';
import {
  errorInBackground,
  inBackground,
  launch,
  readError,
  readResult,
} from '../support/background.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const WRONG_COLUMNS = {
  code: '42804',
  message: 'remote query result rowtype does not match the specified FROM clause rowtype',
};

describe('the types of a result', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const admin = await proxy.connect();
    await admin.query(`CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
      CREATE TYPE pair AS (a int, b text); CREATE SCHEMA "odd schema"; CREATE TYPE "odd schema"."Odd, type" AS ENUM ('x');
      CREATE DOMAIN short AS varchar(3)`);
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(() => proxy.stop());

  describe('may be declared as they are:', () => {
    for (const [value, type] of [
      ['true', 'boolean'],
      ['(-32768)::smallint', 'smallint'],
      ['2147483647', 'int'],
      ['-9223372036854775808', 'bigint'],
      ['pi()', 'float8'],
      ['1.1::real', 'real'],
      [`'-Infinity'::float8`, 'float8'],
      ['123456789012345678901234567890.123456789', 'numeric'],
      [`'NaN'::numeric`, 'numeric'],
      [`'$1,234.50'::money`, 'money'],
      [`'text'`, 'text'],
      [`'abc'::varchar(5)`, 'varchar'],
      [`'abc'::varchar(5)`, 'varchar(5)'],
      [`'ab'::char(5)`, 'char(5)'],
      [`'ab'::char(5)`, 'bpchar'],
      [`'c'::"char"`, '"char"'],
      [`'pg_class'::name`, 'name'],
      [`'\\x00ff'::bytea`, 'bytea'],
      [`'2024-02-29'::date`, 'date'],
      [`'-infinity'::date`, 'date'],
      [`'23:59:59.999999'::time`, 'time'],
      [`'23:59:59+05:45'::timetz`, 'timetz'],
      [`'2024-02-29 12:34:56.789012'::timestamp`, 'timestamp'],
      [`'2024-02-29 12:34:56.789012+02'::timestamptz`, 'timestamptz'],
      [`'1 year -2 mons 3 days 04:05:06.7'::interval`, 'interval'],
      [`'{"b": 1, "a": [null, "é"]}'::json`, 'json'],
      [`'{"b": 1, "a": [null, "é"]}'::jsonb`, 'jsonb'],
      [`'<a>é</a>'::xml`, 'xml'],
      [`'550e8400-e29b-41d4-a716-446655440000'::uuid`, 'uuid'],
      [`'10.1.0.0/16'::inet`, 'inet'],
      [`'08:00:2b:01:02:03'::macaddr`, 'macaddr'],
      [`'0/16B3748'::pg_lsn`, 'pg_lsn'],
      [`'(1,2),(3,4)'::box`, 'box'],
      [`B'1010'`, 'bit(4)'],
      [`B'1010'::varbit`, 'varbit'],
      [`'a fat cat'::tsvector`, 'tsvector'],
      [`'[1,5)'::int4range`, 'int4range'],
      [`'{[1,3),[5,7)}'::int4multirange`, 'int4multirange'],
      [`'pg_class'::regclass`, 'regclass'],
      ['pg_current_snapshot()', 'pg_snapshot'],
      [`'postgres=arwd/postgres'::aclitem`, 'aclitem'],
      ['ARRAY[1, NULL, 3]', 'int[]'],
      [`ARRAY[['a', 'b'], ['c"', NULL]]`, 'text[]'],
      [`'[2:3]={7,8}'::int[]`, 'int[]'],
      [`'{}'::text[]`, 'text[]'],
      [`'happy'::mood`, 'mood'],
      [`ARRAY['happy', 'sad']::mood[]`, 'mood[]'],
      [`ROW(1, 'x, "y"')::pair`, 'pair'],
      [`ARRAY[ROW(1, 'x')]::pair[]`, 'pair[]'],
      [`'x'::"odd schema"."Odd, type"`, '"odd schema"."Odd, type"'],
      [`ARRAY[5]::positive[]`, 'positive[]'],
    ] as const) {
      it(`${value} as ${type}`, async () => {
        expect(
          await client.rows(
            `SELECT v::text FROM pg_background_result(pg_background_launch($1)) AS (v ${type})`,
            [`VALUES (NULL), (${value})`],
          ),
        ).to.deep.equal([[null], [await client.value(`SELECT (${value})::text`)]]);
      });
    }
  });

  describe('may be declared text, which takes the text form of any type:', () => {
    for (const [value, form] of [
      ['1', '1'],
      ['true', 't'],
      ['1.50', '1.50'],
      [`'abc'::varchar`, 'abc'],
      [`'ab'::char(4)`, 'ab  '],
      [`'2024-02-29'::date`, '2024-02-29'],
      [`'{"a": 1}'::jsonb`, '{"a": 1}'],
      ['ARRAY[1, NULL]', '{1,NULL}'],
      [`'happy'::mood`, 'happy'],
      ['5::positive', '5'],
      [`ROW(1, 'x')::pair`, '(1,x)'],
      [`ROW(1, 'x y', NULL)`, '(1,"x y",)'],
      [`ARRAY[ROW(1, 2)]`, '{"(1,2)"}'],
      ['pg_sleep(0)', ''],
      [`pg_notify('here', '')`, ''],
      [`'postgres=arwd/postgres'::aclitem`, 'postgres=arwd/postgres'],
      ['NULL::int', null],
    ] as const) {
      it(value, async () => {
        expect(await inBackground(client, `SELECT ${value}`, 'v text')).to.deep.equal([[form]]);
      });
    }
  });

  describe('are never cast to another type:', () => {
    for (const [value, type] of [
      ['1', 'bigint'],
      ['1::bigint', 'int'],
      ['1', 'smallint'],
      ['1', 'oid'],
      ['1', 'numeric'],
      ['1.0', 'float8'],
      ['1::real', 'float8'],
      [`'x'`, 'varchar'],
      [`'x'`, 'name'],
      [`'x'`, 'char(1)'],
      [`'x'::varchar`, 'char(1)'],
      [`'x'::"char"`, 'char(1)'],
      [`'{}'::json`, 'jsonb'],
      [`'{}'::jsonb`, 'json'],
      ['now()', 'timestamp'],
      ['now()::date', 'timestamptz'],
      ['ARRAY[1]', 'bigint[]'],
      ['ARRAY[1]', 'int'],
      ['1', 'int[]'],
      [`'sad'::mood`, 'int'],
      [`'sad'`, 'mood'],
      ['5', 'positive'],
      ['5::positive', 'positive'],
      [`'abc'::short`, 'short'],
      ['ROW(1, 2)', 'pair'],
      [`ROW(1, 'x')::pair`, 'pg_background_handle'],
      ['pg_sleep(0)', 'int'],
    ] as const) {
      it(`${value} is not ${type}`, async () => {
        expect(await errorInBackground(client, `SELECT ${value}`, `v ${type}`)).to.include(
          WRONG_COLUMNS,
        );
      });
    }
  });

  describe('that are domains arrive as their base type:', () => {
    for (const [value, type] of [
      ['5::positive', 'int'],
      [`'abc'::short`, 'varchar'],
      [`'abc'::short`, 'varchar(3)'],
    ] as const) {
      it(`${value} as ${type}`, async () => {
        expect(
          await client.value(
            `SELECT v::text FROM pg_background_result(pg_background_launch($1)) AS (v ${type})`,
            [`SELECT ${value}`],
          ),
        ).to.equal(await client.value(`SELECT (${value})::text`));
      });
    }
  });

  it('cannot be declared void, as in any query', async () => {
    const pid = await launch(client, 'SELECT pg_sleep(0)');
    expect(
      await client.error('SELECT * FROM pg_background_result($1) AS (v void)', [pid]),
    ).to.include({ code: '42P16', message: 'column "v" has pseudo-type void' });
    expect(await readResult(client, pid, 'v text')).to.deep.equal([['']]);
  });

  it('cannot be declared record: the fields of such values are unknown', async () => {
    const pid = await launch(client, 'SELECT ROW(1, 2)');
    expect(await readError(client, pid, 'v record')).to.include({
      code: '0A000',
      message: 'input of anonymous composite types is not implemented',
    });
    expect(await readResult(client, pid, 'v text')).to.deep.equal([['(1,2)']]);
  });

  describe('have the type modifier of the list:', () => {
    for (const [value, type, result] of [
      ['1.2345::numeric', 'numeric(3,1)', '1.2'],
      ['1.2345::numeric(10,4)', 'numeric(3,1)', '1.2'],
      ['0.05::numeric', 'numeric(3,1)', '0.1'],
      [`'12:34:56.789'::time`, 'time(0)', '12:34:57'],
      [`'2024-01-01 12:34:56.789'::timestamp`, 'timestamp(0)', '2024-01-01 12:34:57'],
      [`'3 days 04:05:06'::interval`, 'interval day', '3 days'],
      [`'ab '::char(3)`, 'char(5)', 'ab   '],
      [`'xy   '::varchar`, 'varchar(2)', 'xy'],
      [`ARRAY[1.25, 2.0]`, 'numeric(3,1)[]', '{1.3,2.0}'],
      ['NULL::varchar', 'varchar(2)', null],
    ] as const) {
      it(`${value} as ${type} is ${result}`, async () => {
        const [row] = await client.rows(
          `SELECT format('%s', v), v IS NULL FROM pg_background_result(pg_background_launch($1)) AS (v ${type})`,
          [`SELECT ${value}`],
        );
        expect(row).to.deep.equal([result ?? '', result === null]);
      });
    }

    for (const [value, type, code, message] of [
      [`'xyz'::varchar`, 'varchar(2)', '22001', 'value too long for type character varying(2)'],
      [`'xyz'::char(3)`, 'char(2)', '22001', 'value too long for type character(2)'],
      [
        `ARRAY['xyz']::varchar[]`,
        'varchar(2)[]',
        '22001',
        'value too long for type character varying(2)',
      ],
      [`B'1010'`, 'bit(3)', '22026', 'bit string length 4 does not match type bit(3)'],
      [`B'1010'::varbit`, 'varbit(3)', '22001', 'bit string too long for type bit varying(3)'],
      ['123.4::numeric', 'numeric(3,1)', '22003', 'numeric field overflow'],
    ] as const) {
      it(`${value} does not fit ${type}`, async () => {
        expect(await errorInBackground(client, `SELECT ${value}`, `v ${type}`)).to.include({
          code,
          message,
          where: undefined,
        });
      });
    }
  });

  it('count, their names do not', async () => {
    expect(
      await client.rows(
        `SELECT b, a FROM pg_background_result(pg_background_launch('SELECT 1 AS a, 2 AS b, 3 AS b')) AS (b int, a int, "c d" int)`,
      ),
    ).to.deep.equal([[1, 2]]);
  });

  it('may be mixed: some as they are, some as text', async () => {
    expect(
      await inBackground(
        client,
        'SELECT 1, 2, 3::bigint, pg_sleep(0)',
        'a int, b text, c bigint, d text',
      ),
    ).to.deep.equal([[1, '2', '3', '']]);
  });

  for (const [count, type] of [
    [1600, 'int'],
    [1600, 'text'],
  ] as const) {
    it(`may be those of ${count} columns that are declared ${type}`, async () => {
      const numbers = Array.from({ length: count }, (_, i) => i + 1);
      const [row] = await inBackground(
        client,
        `SELECT ${numbers.join(', ')}`,
        numbers.map((n) => `c${n} ${type}`).join(', '),
      );
      expect(row).to.deep.equal(type === 'int' ? numbers : numbers.map(String));
    });
  }

  describe('are read as they were written', () => {
    it('in the order of day and month of the launch, whatever the reader has set', async () => {
      await client.query(`SET DateStyle = 'SQL, DMY'`);
      const pid = await launch(
        client,
        `SELECT '2024-02-03'::date, '2024-02-03 04:05:06+00'::timestamptz`,
      );
      await client.query(`SET DateStyle = 'SQL, MDY'; SET TimeZone = 'America/New_York'`);
      expect(
        await client.rows(
          `SELECT d = DATE '2024-02-03', z = TIMESTAMPTZ '2024-02-03 04:05:06+00'
             FROM pg_background_result($1) AS (d date, z timestamptz)`,
          [pid],
        ),
      ).to.deep.equal([[true, true]]);
      expect(await client.value('SHOW DateStyle')).to.equal('SQL, MDY');
    });

    it('where the session has set a style of dates, and the worker a time zone', async () => {
      await client.query(`SET DateStyle = 'SQL'; SET TimeZone = 'UTC'`);
      const pid = await launch(
        client,
        `SET TimeZone = 'Asia/Kolkata'; SELECT TIMESTAMPTZ '2024-01-01 00:00+00'`,
      );
      expect(
        await client.value(
          `SELECT z = TIMESTAMPTZ '2024-01-01 00:00+00' FROM pg_background_result($1) AS (z timestamptz)`,
          [pid],
        ),
      ).to.equal(true);
    });

    const SQL = `SELECT '2024-02-03'::date, '2024-02-03 04:05:06+00'::timestamptz, '-1 year 2 mons -3 days 04:05:06'::interval,
      'a\\000b'::bytea, pi(), 12.50::money, ARRAY[NULL, 'NULL'], 'pg_class'::regclass`;
    const COMPARE = `SELECT ROW(r.*)::text = ROW(h.*)::text FROM (${SQL}) h,
      pg_background_result($1) AS r(d date, z timestamptz, i interval, b bytea, f float8, m money, a text[], c regclass)`;
    const SETTINGS = [
      `DateStyle = 'German'`,
      `DateStyle = 'Postgres, DMY'`,
      `IntervalStyle = 'sql_standard'`,
      `TimeZone = 'Asia/Kolkata'`,
      `bytea_output = 'escape'`,
      `lc_monetary = 'C'`,
      `array_nulls = off`,
      `quote_all_identifiers = on`,
    ];

    it('without the digits that the worker itself has given up', async () => {
      const pid = await launch(client, `SET extra_float_digits = -12; SELECT pi()`);
      expect(
        await client.value('SELECT * FROM pg_background_result($1) AS (n float8)', [pid]),
      ).to.equal(3.14);
    });

    for (const setting of SETTINGS) {
      it(`where the worker has set ${setting}`, async () => {
        const pid = await launch(client, `SET ${setting}; ${SQL}`);
        expect(await client.value(COMPARE, [pid])).to.equal(true);
      });

      it(`where the reader has set ${setting} after the launch`, async () => {
        const pid = await launch(client, SQL);
        await client.query(`SET ${setting}`);
        expect(await client.value(COMPARE, [pid])).to.equal(true);
      });

      it(`where the session has set ${setting}`, async () => {
        await client.query(`SET ${setting}`);
        const pid = await launch(client, SQL);
        expect(await client.value(COMPARE, [pid])).to.equal(true);
      });
    }
  });
});
