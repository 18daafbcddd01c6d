import { bind, execute, flush, parse, query, sync } from '../frontend.ts';
import { ready, until, type Script } from '../script.ts';

const raise = (statement: string) => query(`DO $$ BEGIN ${statement}; END $$`);
const all = "SET client_min_messages = 'debug5'";

/** What the server says unasked: notices, notifications and parameters. */
export const asynchronous: readonly Script[] = [
  ...['DEBUG', 'LOG', 'INFO', 'NOTICE', 'WARNING', 'EXCEPTION'].map((level): Script => ({
    name: `RAISE ${level}`,
    steps: [raise(`RAISE ${level} 'a %', 'message'`)],
  })),
  {
    name: 'RAISE with all its fields',
    steps: [
      raise(
        "RAISE WARNING USING MESSAGE = 'm', DETAIL = 'd', HINT = 'h', ERRCODE = '01XYZ', COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 't', TABLE = 'a', SCHEMA = 's'",
      ),
    ],
  },
  {
    name: 'an exception with all its fields',
    steps: [
      raise(
        "RAISE EXCEPTION USING MESSAGE = 'm', DETAIL = 'd', HINT = 'h', ERRCODE = 'ABXYZ', COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 't', TABLE = 'a', SCHEMA = 's'",
      ),
    ],
  },
  // Callbacks are PGBG0.
  ...['PGBG1', 'PGBG9', 'PGBGA', 'PGBF0', 'GBG01', '0PGBG'].map((code): Script => ({
    name: `an INFO with SQLSTATE ${code}`,
    steps: [raise(`RAISE INFO 'not a callback' USING ERRCODE = '${code}'`)],
  })),
  {
    name: 'a notice whose message looks like a field with our SQLSTATE',
    steps: [raise("RAISE NOTICE 'CPGBG0'")],
  },
  {
    name: 'an exception with our SQLSTATE',
    steps: [raise("RAISE EXCEPTION 'R x y z' USING ERRCODE = 'PGBG0'")],
  },
  {
    name: 'notices between rows',
    steps: [query('SELECT noisy(n) FROM numbers ORDER BY n LIMIT 5')],
  },
  {
    name: 'notices between rows in the extended protocol',
    steps: [
      parse('', 'SELECT noisy(n) FROM numbers ORDER BY n LIMIT 5'),
      bind(),
      execute(2),
      execute(2),
      execute(2),
      sync,
    ],
  },
  { name: 'a notice of 100 kB', steps: [raise("RAISE NOTICE '%', repeat('x', 100000)")] },
  { name: 'a notice of 2 MB', steps: [raise("RAISE NOTICE '%', repeat('x', 2000000)")] },
  {
    name: 'an error of 2 MB',
    steps: [raise("RAISE EXCEPTION '%', repeat('x', 2000000)"), query('SELECT 1')],
  },
  {
    name: 'one thousand notices',
    steps: [raise("FOR i IN 1 .. 1000 LOOP RAISE NOTICE '%', i; END LOOP")],
  },
  { name: 'a notice before an error', steps: [raise("RAISE NOTICE 'before'; PERFORM 1 / 0")] },
  {
    name: 'a notice of a caught error',
    steps: [
      raise(
        "BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% %', SQLSTATE, SQLERRM; END",
      ),
    ],
  },
  {
    name: 'notices of the server itself',
    steps: [
      query('DROP TABLE IF EXISTS nowhere'),
      query('CREATE TEMP TABLE t (a int); CREATE TEMP TABLE IF NOT EXISTS t (a int)'),
    ],
  },
  {
    name: 'messages for debugging, of what happens in a transaction',
    steps: [query(all), query('SELECT 1'), query("SET client_min_messages = 'notice'")],
  },
  {
    name: 'no notices at all',
    steps: [
      query("SET client_min_messages = 'error'"),
      raise("RAISE WARNING 'unheard'"),
      raise("RAISE INFO 'heard'"),
    ],
  },
  {
    name: 'terse notices',
    steps: [query("SET lc_messages = 'C'"), raise("RAISE NOTICE E'a\\nb\\tc'")],
  },
  {
    name: 'a notice in a position of its own',
    steps: [
      query(
        "SELECT 'abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcd'::name AS abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcd",
      ),
    ],
  },

  {
    name: 'a notification of its own',
    steps: [query('LISTEN a'), query("NOTIFY a, 'payload'"), query('UNLISTEN a')],
  },
  {
    name: 'notifications at the end of a transaction',
    steps: [
      query('LISTEN a'),
      query('BEGIN'),
      query('NOTIFY a'),
      query("NOTIFY a, 'x'"),
      query('SELECT 1'),
      query('COMMIT'),
    ],
  },
  {
    name: 'no notification from a transaction that is rolled back',
    steps: [query('LISTEN a'), query('BEGIN; NOTIFY a; ROLLBACK')],
  },
  {
    name: 'notifications of the same, once',
    steps: [query('LISTEN a'), query('BEGIN; NOTIFY a; NOTIFY a; COMMIT')],
  },
  {
    name: 'a notification in a batch',
    steps: [query('LISTEN a'), parse('', 'NOTIFY a'), bind(), execute(), flush, until('C'), sync],
  },
  {
    name: 'a notification of another session while idle',
    steps: [
      query('LISTEN other'),
      ready,
      { elsewhere: "NOTIFY other, 'from elsewhere'" },
      until('A'),
      { elsewhere: 'NOTIFY other' },
      until('A'),
    ],
  },
  {
    name: 'a notification of another session while in a transaction',
    steps: [
      query('LISTEN other'),
      query('BEGIN'),
      ready,
      ready,
      { elsewhere: 'NOTIFY other' },
      query('SELECT 1'),
      ready,
      query('COMMIT'),
      until('A'),
    ],
  },
  {
    name: 'a payload of 7,999 bytes',
    steps: [query('LISTEN a'), query(`NOTIFY a, '${'x'.repeat(7999)}'`)],
  },
  { name: 'a payload that is too long', steps: [query(`NOTIFY a, '${'x'.repeat(8000)}'`)] },
  {
    name: 'pg_notify in a query',
    steps: [
      query('LISTEN a'),
      query("SELECT pg_notify('a', n::text) FROM numbers ORDER BY n LIMIT 20"),
    ],
  },

  ...(
    [
      ['client_encoding', 'LATIN1'],
      ['client_encoding', 'SJIS'],
      ['client_encoding', 'SQL_ASCII'],
      ['DateStyle', 'German'],
      ['IntervalStyle', 'iso_8601'],
      ['TimeZone', 'Asia/Tokyo'],
      ['application_name', 'changed'],
      ['standard_conforming_strings', 'off'],
      ['search_path', 'nowhere'],
      ['bytea_output', 'escape'],
      ['extra_float_digits', '-3'],
      ['default_transaction_read_only', 'on'],
    ] as const
  ).map(([name, value]): Script => ({
    name: `SET ${name} TO ${value}`,
    steps: [
      query(`SET ${name} TO '${value}'`),
      query("SELECT 'é', now() IS NULL, '\\x41'::bytea"),
      query(`SHOW ${name}`),
      query(`RESET ${name}`),
    ],
  })),
  {
    name: 'a setting that ROLLBACK takes back',
    steps: [
      query('BEGIN'),
      query("SET TimeZone TO 'UTC'"),
      query("SET application_name TO 'x'"),
      query('ROLLBACK'),
    ],
  },
  {
    name: 'SET LOCAL, to the end of the transaction',
    steps: [query('BEGIN'), query("SET LOCAL DateStyle TO 'SQL'"), query('COMMIT')],
  },
  {
    name: 'a setting within a function',
    steps: [raise("PERFORM set_config('application_name', 'inner', true)")],
  },
  {
    name: 'texts in an encoding whose characters may have ASCII bytes',
    steps: [
      query("SET client_encoding TO 'SJIS'"),
      query("SELECT '\x83\x5c', 'pg_background'"),
      query("SET client_encoding TO 'UTF8'"),
    ],
  },
  {
    name: 'a character that the client cannot read',
    steps: [
      query("SET client_encoding TO 'LATIN1'"),
      query("SELECT U&'\\2192'"),
      query('RESET client_encoding'),
    ],
  },
  { name: 'bytes that are no characters', steps: [query("SELECT '\xff\xfe'"), query('SELECT 1')] },
  {
    name: 'backslashes while they escape',
    steps: [
      query('SET standard_conforming_strings TO off'),
      query("SELECT 'a\\'b', 'pg_background'"),
      query('RESET standard_conforming_strings'),
    ],
  },
  {
    name: 'SET ROLE and SET SESSION AUTHORIZATION',
    steps: [
      query('SET ROLE pg_monitor'),
      query('SELECT current_user'),
      query('RESET ROLE'),
      query('SET SESSION AUTHORIZATION pg_monitor'),
      query('SHOW is_superuser'),
      query('RESET SESSION AUTHORIZATION'),
    ],
  },
];
