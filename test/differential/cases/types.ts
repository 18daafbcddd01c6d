import { bind, describePortal, execute, parse, query, sync, type Value } from '../frontend.ts';
import { int32 } from '../../support/messages.ts';
import type { Script } from '../script.ts';

/** A value of each kind of type, as SQL. */
const values = [
  'true',
  '\'c\'::"char"',
  "'name'::name",
  '1::int2',
  '-1::int4',
  '9223372036854775807::int8',
  '1.5::float4',
  "'NaN'::float8",
  '123.4500::numeric',
  "'-Infinity'::float8",
  "'a'::text",
  "'é→𝄞'::text",
  "'b'::varchar(3)",
  "'c'::bpchar(5)",
  "'\\x00ff'::bytea",
  "'2000-02-29'::date",
  "'24:00'::time",
  "'2000-01-01 00:00:00+00'::timestamptz",
  "'infinity'::timestamp",
  "'1 mon -1 day'::interval",
  "'1.2.3.4/24'::inet",
  "'08:00:2b:01:02:03'::macaddr",
  "B'101'",
  "'(1,2)'::point",
  "'{1,NULL,3}'::int[]",
  "'{{a,b},{c,d}}'::text[]",
  '\'{"a": [1, null]}\'::jsonb',
  '\'{"a" : 1}\'::json',
  "'[1,5)'::int4range",
  "'{[1,2],[4,5]}'::int4multirange",
  "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
  "ROW(1, 'a', NULL)",
  "'happy'::mood",
  "'pg_class'::regclass::text",
  "'cat & rat'::tsquery",
  '12.34::money',
  '1::oid',
  "'16/B374D848'::pg_lsn",
  'NULL::int',
  "''::text",
];

/** Values on their way in text and in binary format. */
export const types: readonly Script[] = [
  ...values.flatMap((value): Script[] => {
    // An input function that is asked to read SQL_ASCII bytes must be able to.
    const sql = `SELECT ${value.replace(/[^\0-\x7f]/gu, 'x')}`;
    return [
      { name: `${value} as text`, steps: [query(sql)] },
      {
        name: `${value} in binary format`,
        steps: [parse('', sql), bind({ results: [1] }), describePortal(), execute(), sync],
      },
    ];
  }),
  ...(
    [
      ['int4', 23, int32(258)],
      ['text', 25, Buffer.from('ab')],
      ['bytea', 17, Buffer.from([0, 255, 10])],
      ['bool', 16, Buffer.of(1)],
      ['int8', 20, Buffer.from([0, 0, 0, 0, 0, 0, 1, 2])],
      ['float8', 701, Buffer.from([0x3f, 0xf8, 0, 0, 0, 0, 0, 0])],
      ['an int4 of the wrong length', 23, Buffer.from([1, 2])],
      ['NULL', 23, null],
      ['text that is no number', 23, 'x'],
      ['text with a byte that is no UTF-8', 25, '\xff'],
    ] as const satisfies readonly (readonly [string, number, Value])[]
  ).map(([what, oid, value]): Script => ({
    name: `a parameter: ${what}`,
    steps: [parse('', 'SELECT $1', oid), bind({ values: [value], results: [1] }), execute(), sync],
  })),
];
