import { functionCall, parse, query, sync } from '../frontend.ts';
import { int32, message, int16 } from '../../support/messages.ts';
import type { Script } from '../script.ts';

/** OIDs of pg_catalog.int4pl, int4div, textcat, now and pg_sleep, which are the same in all versions. */
const [INT4PL, INT4DIV, TEXTCAT] = [177, 154, 1258];

/** The fast path, which large objects go by in libpq. */
export const functionCalls: readonly Script[] = [
  { name: 'in text format', steps: [functionCall(INT4PL, ['1', '2'], 0)] },
  { name: 'in binary format', steps: [functionCall(INT4PL, [int32(1), int32(2)], 1)] },
  { name: 'with a NULL', steps: [functionCall(INT4PL, ['1', null], 0)] },
  { name: 'with texts', steps: [functionCall(TEXTCAT, ['a', 'b'], 0)] },
  { name: 'that fails', steps: [functionCall(INT4DIV, ['1', '0'], 0), query('SELECT 1')] },
  { name: 'of an unknown function', steps: [functionCall(4_000_000, [], 0), query('SELECT 1')] },
  { name: 'with too few arguments', steps: [functionCall(INT4PL, ['1'], 0), query('SELECT 1')] },
  {
    name: 'that ends too early',
    steps: [message('F', int32(INT4PL), int16(0)), query('SELECT 1')],
  },
  {
    name: 'in a transaction',
    steps: [query('BEGIN'), functionCall(INT4PL, ['1', '2'], 0), query('COMMIT')],
  },
  {
    name: 'in a failed transaction',
    steps: [query('BEGIN; SELECT 1 / 0'), functionCall(INT4PL, ['1', '2'], 0), query('ROLLBACK')],
  },
  {
    name: 'several in one go',
    steps: Array.from({ length: 10 }, (_, i) => functionCall(INT4PL, [String(i), '1'], 0)),
  },
  {
    name: 'that is skipped behind an error',
    steps: [parse('', 'SELEC'), functionCall(INT4PL, ['1', '2'], 0), sync, query('SELECT 1')],
  },
];
