import {
  bind,
  copyData,
  copyDone,
  copyFail,
  describePortal,
  execute,
  flush,
  parse,
  query,
  sync,
} from '../frontend.ts';
import { int16, int32 } from '../../support/messages.ts';
import { ready, until, type Script } from '../script.ts';

const begin = query('BEGIN');
const rollback = query('ROLLBACK');
const copyIn = query('COPY target FROM STDIN');
const run = (sql: string) => [parse('', sql), bind(), describePortal(), execute()];
const extendedCopyIn = run('COPY target FROM STDIN');

const binaryFile = Buffer.concat([
  Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'),
  int32(0),
  int32(0),
  int16(2),
  int32(4),
  int32(7),
  int32(2),
  Buffer.from('hi'),
  int16(2),
  int32(4),
  int32(8),
  int32(-1),
  int16(-1),
]);

/** COPY in both directions. */
export const copies: readonly Script[] = [
  {
    name: 'in, in one message',
    steps: [
      begin,
      copyIn,
      copyData('1\ta\n2\tb\n'),
      copyDone,
      query('SELECT * FROM target'),
      rollback,
    ],
  },
  {
    name: 'in, rows cut anywhere',
    steps: [
      begin,
      copyIn,
      ...Array.from('1\ta\n2\tb\n', (letter) => copyData(letter)),
      copyDone,
      query('SELECT * FROM target'),
      rollback,
    ],
  },
  {
    name: 'in, when the server asks for it',
    steps: [begin, copyIn, until('G'), copyData('1\ta\n'), copyDone, ready, rollback],
  },
  { name: 'in, without rows', steps: [copyIn, copyDone] },
  {
    name: 'in, with the end marker of old',
    steps: [begin, copyIn, copyData('1\ta\n\\.\n'), copyDone, rollback],
  },
  {
    name: 'in, an empty message',
    steps: [begin, copyIn, copyData(''), copyData('1\ta\n'), copyDone, rollback],
  },
  {
    name: 'in, CSV with a header',
    steps: [
      begin,
      query('COPY target FROM STDIN (FORMAT csv, HEADER)'),
      copyData('a,b\n1,"x ""y"",\nz"\n'),
      copyDone,
      query('SELECT * FROM target'),
      rollback,
    ],
  },
  {
    name: 'in, binary',
    steps: [
      begin,
      query('COPY target FROM STDIN (FORMAT binary)'),
      copyData(binaryFile),
      copyDone,
      query('SELECT * FROM target'),
      rollback,
    ],
  },
  {
    name: 'in, a bad row before CopyDone',
    steps: [
      copyIn,
      copyData('1\ta\nx\ty\n'),
      copyData('2\tb\n'),
      copyDone,
      query('SELECT count(*) FROM target'),
    ],
  },
  {
    name: 'in, a bad row, and the server has said so',
    steps: [copyIn, until('G'), copyData('x\ty\n'), copyDone, ready, query('SELECT 1')],
  },
  {
    name: 'in, an error at CopyDone',
    steps: [
      begin,
      query('COPY child FROM STDIN'),
      copyData('1\t2'),
      copyData('\t3'),
      copyDone,
      rollback,
    ],
  },
  {
    name: 'in, CopyFail',
    steps: [
      copyIn,
      copyData('1\ta\n'),
      copyFail('changed my mind'),
      query('SELECT count(*) FROM target'),
    ],
  },
  {
    name: 'in, Flush and Sync are ignored',
    steps: [begin, copyIn, flush, sync, copyData('1\ta\n'), sync, copyDone, rollback],
  },
  {
    name: 'in, a Query in its place',
    endsSession: true,
    steps: [copyIn, copyData('1\ta\n'), query('SELECT 1'), query('SELECT 2')],
  },
  {
    name: 'in, a Parse in its place',
    endsSession: true,
    steps: [copyIn, parse('', 'SELECT 1'), sync, query('SELECT 2')],
  },
  {
    name: 'in, to a table that is not there',
    steps: [query('COPY nowhere FROM STDIN'), copyData('1\n'), copyDone, query('SELECT 1')],
  },
  {
    name: 'in, two in one text',
    steps: [
      begin,
      query('COPY target FROM STDIN; COPY target FROM STDIN; SELECT count(*) FROM target'),
      copyData('1\ta\n'),
      copyDone,
      copyData('2\tb\n'),
      copyDone,
      rollback,
    ],
  },
  {
    name: 'in, the second in one text fails',
    steps: [
      query('COPY target FROM STDIN; COPY target FROM STDIN; SELECT 1'),
      copyData('1\ta\n'),
      copyDone,
      copyData('x\n'),
      copyDone,
      query('SELECT count(*) FROM target'),
    ],
  },
  {
    name: 'in, behind a statement in one text',
    steps: [
      begin,
      query('SELECT 1; COPY target FROM STDIN; SELECT 2'),
      copyData('1\ta\n'),
      copyDone,
      rollback,
    ],
  },
  {
    name: 'in, 2 MB',
    steps: [
      begin,
      copyIn,
      ...Array.from({ length: 40 }, (_, i) => copyData(`${i}\t${'x'.repeat(50_000)}\n`)),
      copyDone,
      query('SELECT sum(length(b)) FROM target'),
      rollback,
    ],
  },
  {
    name: 'in, by the extended protocol',
    steps: [begin, ...extendedCopyIn, copyData('1\ta\n'), copyDone, sync, rollback],
  },
  {
    name: 'in, as libpq does it by the extended protocol',
    steps: [
      begin,
      ...extendedCopyIn,
      sync,
      until('G'),
      copyData('1\ta\n'),
      copyDone,
      sync,
      ready,
      rollback,
    ],
  },
  {
    name: 'in, a bad row by the extended protocol',
    steps: [...extendedCopyIn, copyData('x\n'), copyData('y\n'), copyDone, sync, query('SELECT 1')],
  },
  {
    name: 'in, a bad row, and a Sync before the data',
    steps: [
      ...extendedCopyIn,
      sync,
      until('G'),
      copyData('x\n'),
      until('E'),
      copyData('y\n'),
      copyDone,
      sync,
      ready,
      query('SELECT 1'),
    ],
  },
  {
    name: 'in, CopyFail by the extended protocol',
    steps: [
      ...extendedCopyIn,
      copyData('1\ta\n'),
      copyFail('no'),
      sync,
      query('SELECT count(*) FROM target'),
    ],
  },
  {
    name: 'in, then a statement before Sync',
    steps: [
      begin,
      ...extendedCopyIn,
      copyData('1\ta\n'),
      copyDone,
      ...run('SELECT 1'),
      sync,
      rollback,
    ],
  },
  {
    name: 'in, statements before and behind in one batch',
    steps: [
      begin,
      ...run('SELECT 1'),
      ...extendedCopyIn,
      copyData('1\ta\n'),
      copyDone,
      ...run('SELECT 2'),
      sync,
      rollback,
    ],
  },
  { name: 'out', steps: [query('COPY people TO STDOUT')] },
  { name: 'out, CSV with a header', steps: [query('COPY people TO STDOUT (FORMAT csv, HEADER)')] },
  { name: 'out, binary', steps: [query('COPY people TO STDOUT (FORMAT binary)')] },
  { name: 'out, of a query', steps: [query('COPY (SELECT n FROM numbers ORDER BY n) TO STDOUT')] },
  { name: 'out, of nothing', steps: [query('COPY target TO STDOUT')] },
  {
    name: 'out, an error behind rows',
    steps: [
      query('COPY (SELECT fails_at(n, 4) FROM numbers ORDER BY n) TO STDOUT'),
      query('SELECT 1'),
    ],
  },
  {
    name: 'out, with notices between rows',
    steps: [query('COPY (SELECT noisy(n) FROM numbers ORDER BY n LIMIT 3) TO STDOUT')],
  },
  { name: 'out, by the extended protocol', steps: [...run('COPY people TO STDOUT'), sync] },
  {
    name: 'out, an error behind rows by the extended protocol',
    steps: [
      ...run('COPY (SELECT fails_at(n, 4) FROM numbers ORDER BY n) TO STDOUT'),
      ...run('SELECT 1'),
      sync,
    ],
  },
  { name: 'out, then a statement in one text', steps: [query('COPY people TO STDOUT; SELECT 1')] },
  {
    name: 'out and in, in one text',
    steps: [
      begin,
      query('COPY people TO STDOUT; COPY target FROM STDIN'),
      copyData('1\ta\n'),
      copyDone,
      rollback,
    ],
  },
  {
    name: 'out, of 5 MB',
    steps: [query("COPY (SELECT n, repeat('x', 5000) FROM numbers ORDER BY n) TO STDOUT")],
  },
  {
    name: 'data where there is no COPY',
    steps: [copyData('1\n'), copyDone, copyFail('x'), query('SELECT 1')],
  },
  {
    name: 'data where there is no COPY, in a batch',
    steps: [parse('', 'SELECT 1'), copyData('1\n'), bind(), copyDone, execute(), sync],
  },
];
