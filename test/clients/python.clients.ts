import { clientSuite } from './client-suite.ts';
import { itCancelsInTls, itLogsIn } from './logins.ts';
import { itDoes, programs, seenBy } from './program-features.ts';
import { pythonWith } from './requirements.ts';

const WORKER_ROWS = [
  [1, '1.5'],
  [2, '3.0'],
  [3, '4.5'],
];

const psycopg = pythonWith('psycopg', 'python3-psycopg');
clientSuite('psycopg', psycopg, (proxy) => {
  const command = [psycopg.program, '-B', programs('psycopg/features.py')] as const;
  itDoes(proxy, () => command, {
    'text parameters and results': true,
    'binary parameters and results': { isBinary: true, isSame: true },
    'prepared statements': { seen: [0, 2, 4], prepared: 1 },
    'pipeline mode': [19_900, 500],
    'an error in a pipeline': [1, '22012', 3],
    'COPY in': [20_000, 199_990_000, 'row 9999'],
    'COPY in, binary': [2000, 1_999_000, 'row 999'],
    'COPY out': { rows: 20_000, last: ['20000', '20000'], binary: 20_000, end: [20_000, '20000'] },
    'COPY that the client gives up': ['57014', 0],
    'server-side cursors': { some: [1, 2, 3], rest: 500_494, tenth: 10, binary: 1.5 },
    notifies: ['news', 'größer', true],
    cancel: ['57014', 1],
    transactions: [1],
    'client-side binding': [1, "o'clock", '005c', 2],
    'asynchronous connections': [{ a: 1 }, { a: 2 }, { a: 3 }],
    'large values': true,
    'a worker and its result': WORKER_ROWS,
    'a worker and its result, binary': [1, 'größer', true],
    'workers in pipeline mode': [0, 10, 20, 30, 40],
    "a worker's rows by COPY": 12_502_500,
    "a worker's error": ['22012', 1],
    'cancelled while it waits for a worker': ['57014', '57P01'],
  });
  itLogsIn((url) => seenBy(command, url, 'login'));
  itCancelsInTls((url) => seenBy(command, url, 'cancel'), ['57014', 1]);
});

const asyncpg = pythonWith('asyncpg', 'python3-asyncpg');
clientSuite('asyncpg', asyncpg, (proxy) => {
  const command = [asyncpg.program, '-B', programs('asyncpg/features.py')] as const;
  itDoes(proxy, () => command, {
    'binary parameters and results': true,
    "types of the database's own": [[1, 'sad'], ['happy']],
    'prepared statements': { seen: [0, 2, 4], columns: ['doubled'], prepared: true },
    cursors: { total: 5050, some: [4, 5] },
    copy_records_to_table: ['COPY 20000', 20_000, 199_990_000, 'row 9999'],
    'copy_to_table and copy_from_query': '1,one\n2,two\n',
    listen: ['news', 'größer', true],
    'a timeout that cancels': ['timeout', true],
    'a task that is cancelled': ['cancelled', 1],
    transactions: ['22012', [1]],
    executemany: ['23505', 5000],
    pool: 1225,
    'a worker and its result': WORKER_ROWS,
    "a worker's rows by cursor": 5050,
    'a worker that outlives the reset of a pool': 42,
    'a timeout while it waits for a worker': ['timeout', '57P01'],
  });
  itLogsIn((url) => seenBy(command, url, 'login'));
  itCancelsInTls((url) => seenBy(command, url, 'a timeout that cancels'), ['timeout', true]);
});
