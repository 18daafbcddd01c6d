import {
  bind,
  closePortal,
  closeStatement,
  describePortal,
  describeStatement,
  execute,
  flush,
  parse,
  query,
  sync,
} from '../frontend.ts';
import { bytes, int16, message, zeroTerminated } from '../../support/messages.ts';
import { ready, until, type Script } from '../script.ts';

const rows = 'SELECT n FROM numbers ORDER BY n LIMIT 10';
/** A statement from Parse to Execute. */
const run = (sql: string) => [parse('', sql), bind(), describePortal(), execute()];

/** The extended protocol. */
export const extendedQueries: readonly Script[] = [
  { name: 'Parse, Bind, Describe, Execute, Sync', steps: [...run('SELECT 1'), sync] },
  { name: 'without Describe', steps: [parse('', 'SELECT 1'), bind(), execute(), sync] },
  {
    name: 'Describe of a statement',
    steps: [parse('', 'SELECT $1::int, $2::text'), describeStatement(), sync],
  },
  {
    name: 'Describe of a statement without rows',
    steps: [parse('', 'DELETE FROM target'), describeStatement(), sync],
  },
  {
    name: 'Describe of a portal without rows',
    steps: [parse('', 'DELETE FROM target WHERE a = 1'), bind(), describePortal(), sync],
  },
  { name: 'an empty text', steps: [...run(''), sync] },
  { name: 'Describe of an empty statement', steps: [parse('', ''), describeStatement(), sync] },
  { name: 'two statements in one Parse', steps: [parse('', 'SELECT 1; SELECT 2'), sync] },
  {
    name: 'parameters of given types',
    steps: [parse('', 'SELECT $1, $2', 23, 25), bind({ values: ['1', 'a'] }), execute(), sync],
  },
  {
    name: 'parameters of types that the server finds',
    steps: [
      parse('', 'SELECT $1 + 1, $2 || $2'),
      describeStatement(),
      bind({ values: ['1', 'a'] }),
      execute(),
      sync,
    ],
  },
  { name: 'a parameter whose type nobody can tell', steps: [parse('', 'SELECT $2::int'), sync] },
  {
    name: 'too few parameters',
    steps: [parse('', 'SELECT $1::int, $2::int'), bind({ values: ['1'] }), sync],
  },
  { name: 'too many parameters', steps: [parse('', 'SELECT 1'), bind({ values: ['1'] }), sync] },
  {
    name: 'a format for each column',
    steps: [
      parse('', 'SELECT 1, 2, 3'),
      bind({ results: [0, 1, 0] }),
      describePortal(),
      execute(),
      sync,
    ],
  },
  {
    name: 'too few formats',
    steps: [parse('', 'SELECT 1, 2, 3'), bind({ results: [0, 1] }), sync],
  },
  {
    name: 'a named statement, used several times',
    steps: [
      parse('s', 'SELECT $1::int'),
      ...['1', '2', '3'].flatMap((value) => [
        bind({ statement: 's', values: [value] }),
        execute(),
        sync,
      ]),
    ],
  },
  {
    name: 'a named statement that exists',
    steps: [
      parse('s', 'SELECT 1'),
      sync,
      parse('s', 'SELECT 2'),
      sync,
      bind({ statement: 's' }),
      execute(),
      sync,
    ],
  },
  {
    name: 'a statement that is closed and made again',
    steps: [
      parse('s', 'SELECT 1'),
      closeStatement('s'),
      parse('s', 'SELECT 2'),
      bind({ statement: 's' }),
      execute(),
      sync,
    ],
  },
  {
    name: 'Close of what does not exist',
    steps: [closeStatement('none'), closePortal('none'), sync],
  },
  { name: 'Bind to an unknown statement', steps: [bind({ statement: 'none' }), sync] },
  { name: 'Execute of an unknown portal', steps: [execute(0, 'none'), sync] },
  { name: 'Describe of an unknown statement', steps: [describeStatement('none'), sync] },
  { name: 'Describe of an unknown portal', steps: [describePortal('none'), sync] },
  {
    name: 'a named portal',
    steps: [
      parse('', rows),
      bind({ portal: 'p' }),
      describePortal('p'),
      execute(0, 'p'),
      closePortal('p'),
      sync,
    ],
  },
  {
    name: 'a named portal that exists',
    steps: [parse('', rows), bind({ portal: 'p' }), bind({ portal: 'p' }), sync],
  },
  {
    name: 'a portal that is gone behind Sync',
    steps: [parse('', rows), bind({ portal: 'p' }), sync, execute(0, 'p'), sync],
  },
  {
    name: 'a portal that lives as long as its transaction',
    steps: [
      query('BEGIN'),
      parse('', rows),
      bind({ portal: 'p' }),
      sync,
      execute(2, 'p'),
      sync,
      execute(2, 'p'),
      sync,
      query('COMMIT'),
      execute(2, 'p'),
      sync,
    ],
  },
  {
    name: 'row limits',
    steps: [
      parse('', rows),
      bind(),
      execute(3),
      execute(3),
      execute(3),
      execute(3),
      execute(3),
      sync,
    ],
  },
  {
    name: 'a row limit that is met exactly',
    steps: [parse('', rows), bind(), execute(10), execute(10), sync],
  },
  {
    name: 'row limits with a Flush between',
    steps: [
      parse('', rows),
      bind(),
      execute(4),
      flush,
      until('s'),
      execute(4),
      flush,
      until('s'),
      execute(4),
      flush,
      until('C'),
      sync,
    ],
  },
  {
    name: 'two portals, turn by turn',
    steps: [
      query('BEGIN'),
      parse('', rows),
      bind({ portal: 'a' }),
      bind({ portal: 'b' }),
      execute(2, 'a'),
      execute(2, 'b'),
      execute(2, 'a'),
      sync,
      query('ROLLBACK'),
    ],
  },
  {
    name: 'an Execute of INSERT with a limit',
    steps: [
      query('BEGIN'),
      parse('', 'INSERT INTO target SELECT 1, 2 FROM numbers RETURNING a'),
      bind(),
      execute(2),
      execute(2),
      sync,
      query('ROLLBACK'),
    ],
  },
  {
    name: 'a Flush behind each message',
    steps: [
      parse('', 'SELECT 1'),
      flush,
      until('1'),
      bind(),
      flush,
      until('2'),
      describePortal(),
      flush,
      until('T'),
      execute(),
      flush,
      until('C'),
      sync,
    ],
  },
  { name: 'a Flush, and no Sync before the end', steps: [...run('SELECT 1'), flush] },
  { name: 'no Sync and no Flush', steps: [...run('SELECT 1')] },
  {
    name: 'a batch between two Syncs',
    steps: [...run('SELECT 1'), ...run('SELECT 2'), ...run('SELECT 3'), sync],
  },
  {
    name: 'a batch that fails in the middle',
    steps: [
      ...run('SELECT 1'),
      ...run('SELECT 1 / 0'),
      ...run('SELECT 3'),
      sync,
      ...run('SELECT 4'),
      sync,
    ],
  },
  {
    name: 'a batch that fails in the middle undoes what came before',
    steps: [
      ...run('INSERT INTO target VALUES (1, 2)'),
      ...run('SELECT 1 / 0'),
      sync,
      query('SELECT count(*) FROM target'),
    ],
  },
  {
    name: 'an error at Parse, all is skipped up to Sync',
    steps: [
      parse('', 'SELEC'),
      bind(),
      describePortal(),
      execute(),
      flush,
      closePortal(),
      sync,
      query('SELECT 1'),
    ],
  },
  {
    name: 'an error at Bind',
    steps: [
      parse('', 'SELECT $1::int'),
      bind({ values: ['x'] }),
      describePortal(),
      execute(),
      sync,
    ],
  },
  {
    name: 'a Query is skipped, too',
    steps: [parse('', 'SELEC'), query('SELECT 1'), sync, query('SELECT 2')],
  },
  { name: 'an error at once by Flush', steps: [parse('', 'SELEC'), flush, until('E'), sync] },
  {
    name: 'many Syncs, errors between',
    steps: Array.from({ length: 30 }, (_, i) => [...run(`SELECT 1 / (${i} % 4)`), sync]).flat(),
  },
  {
    name: 'one hundred statements in one go',
    steps: [...Array.from({ length: 100 }, (_, i) => run(`SELECT ${i}`)).flat(), sync],
  },
  {
    name: 'a Query in the middle of a batch',
    steps: [...run('SELECT 1'), query('SELECT 2'), ...run('SELECT 3'), sync],
  },
  {
    name: 'BEGIN and COMMIT in a batch',
    steps: [...run('BEGIN'), ...run('SELECT 1'), ...run('COMMIT'), ...run('SELECT 2'), sync],
  },
  {
    name: 'ROLLBACK in a failed transaction',
    steps: [
      query('BEGIN'),
      ...run('SELECT 1 / 0'),
      sync,
      ...run('SELECT 1'),
      sync,
      ...run('ROLLBACK'),
      sync,
    ],
  },
  {
    name: 'a statement that a changed table makes invalid',
    steps: [
      query('CREATE TEMP TABLE t (a int)'),
      parse('s', 'SELECT * FROM t'),
      sync,
      query('ALTER TABLE t ADD b text'),
      bind({ statement: 's' }),
      execute(),
      sync,
    ],
  },
  {
    name: 'an unnamed statement that Query removes',
    steps: [parse('', 'SELECT 1'), query('SELECT 2'), bind(), execute(), sync],
  },
  {
    name: 'a portal of a cursor made by SQL',
    steps: [
      query('BEGIN; DECLARE c CURSOR FOR SELECT n FROM numbers ORDER BY n'),
      describePortal('c'),
      execute(2, 'c'),
      execute(1, 'c'),
      sync,
      query('ROLLBACK'),
    ],
  },
  {
    name: 'a statement made by SQL',
    steps: [
      query('PREPARE s AS SELECT 1'),
      describeStatement('s'),
      bind({ statement: 's' }),
      execute(),
      sync,
    ],
  },
  { name: 'EXPLAIN', steps: [...run('EXPLAIN (COSTS OFF) SELECT 1'), sync] },
  { name: 'SHOW', steps: [...run('SHOW work_mem'), sync] },
  { name: 'CALL', steps: [...run('CALL gives_back(1)'), sync] },
  {
    name: 'a name of 60 bytes',
    steps: [
      parse('s'.repeat(60), 'SELECT 1'),
      bind({ statement: 's'.repeat(60), portal: 'p'.repeat(60) }),
      execute(0, 'p'.repeat(60)),
      sync,
    ],
  },
  {
    name: 'a parameter of 1 MB',
    steps: [
      parse('', 'SELECT length($1), $1', 25),
      bind({ values: ['x'.repeat(1_000_000)] }),
      execute(),
      sync,
    ],
  },
  {
    name: 'one thousand parameters',
    steps: [
      parse('', `SELECT ${Array.from({ length: 1000 }, (_, i) => `$${i + 1}::int`).join(' + ')}`),
      bind({ values: Array(1000).fill('1') as string[] }),
      execute(),
      sync,
    ],
  },
  {
    name: 'a text that mentions pg_background',
    steps: [...run("SELECT 'pg_background_result'"), sync],
  },
  {
    name: 'a Parse that says how many types and gives fewer',
    steps: [
      message('P', zeroTerminated(''), zeroTerminated('SELECT 1'), int16(3)),
      sync,
      query('SELECT 1'),
    ],
  },
  {
    name: 'a Bind that ends too early',
    steps: [
      parse('', 'SELECT 1'),
      message('B', zeroTerminated(''), zeroTerminated(''), int16(1)),
      sync,
      query('SELECT 1'),
    ],
  },
  {
    name: 'an Execute without its limit',
    steps: [message('E', zeroTerminated('')), sync, query('SELECT 1')],
  },
  {
    name: 'a Describe of an unknown kind',
    steps: [message('D', bytes('Q'), zeroTerminated('')), sync, query('SELECT 1')],
  },
  {
    name: 'a Close of an unknown kind',
    steps: [message('C', bytes('Q'), zeroTerminated('')), sync, query('SELECT 1')],
  },
  {
    name: 'a Query with bytes behind its text',
    steps: [message('Q', zeroTerminated('SELECT 1'), bytes('more')), query('SELECT 2')],
  },
  { name: 'a Query without its zero', steps: [message('Q', bytes('SELECT 1')), query('SELECT 2')] },
  {
    name: 'turn by turn, waiting for each answer',
    steps: [
      ...run('SELECT 1'),
      sync,
      ready,
      query('SELECT 2'),
      ready,
      ...run('SELECT 1 / 0'),
      sync,
      ready,
    ],
  },
];
