import {
  bind,
  copyData,
  copyDone,
  execute,
  parse,
  query,
  sync,
  terminate,
  withLength,
} from '../frontend.ts';
import { bytes, message } from '../../support/messages.ts';
import { until, type Script } from '../script.ts';

const ends = (name: string, ...steps: Script['steps']): Script => ({
  name,
  steps,
  endsSession: true,
});
const run = (sql: string) => [parse('', sql), bind(), execute()];

/** The ends of a session, wanted or not. */
export const endings: readonly Script[] = [
  ends('Terminate', query('SELECT 1'), terminate),
  ends('Terminate in a transaction', query('BEGIN; INSERT INTO target VALUES (1, 2)'), terminate),
  ends('Terminate in the middle of a batch', ...run('SELECT 1'), terminate),
  ends('messages behind Terminate', query('SELECT 1'), terminate, query('SELECT 2')),
  ends('Terminate in COPY', query('COPY target FROM STDIN'), copyData('1\ta\n'), terminate),
  ends(
    'Terminate in COPY by the extended protocol',
    ...run('COPY target FROM STDIN'),
    copyData('1\ta\n'),
    terminate,
  ),
  ends('no Terminate', query('SELECT 1'), { halfClose: true }),
  ends(
    'no Terminate behind much that is still to come',
    query("SELECT repeat('x', 10000) FROM numbers"),
    { halfClose: true },
  ),
  ends('no Terminate while a statement runs', query('SELECT pg_sleep(0.05), 1'), {
    halfClose: true,
  }),
  ends('no Terminate in a transaction', query('BEGIN'), query('SELECT 1'), { halfClose: true }),
  ends('no Terminate in a batch without Sync', ...run('SELECT 1'), { halfClose: true }),
  ends('no Terminate in COPY', query('COPY target FROM STDIN'), copyData('1\ta\n'), {
    halfClose: true,
  }),
  ends('an end in the middle of a message', bytes('Q\0\0\0\x20SELECT'), { halfClose: true }),
  ends('an end in the middle of a header', query('SELECT 1'), bytes('Q\0\0'), { halfClose: true }),
  ends('an end behind a message type', query('SELECT 1'), bytes('P'), { halfClose: true }),
  ...[1, 2, 3, 4, 5, 6].map((length) =>
    ends(
      `an end behind ${length} bytes of a Query, in COPY`,
      query('COPY target FROM STDIN'),
      until('G'),
      query('SELECT 1').subarray(0, length),
      { halfClose: true },
    ),
  ),
  ends(
    'an end behind 5 bytes of a Parse, in COPY',
    ...run('COPY target FROM STDIN'),
    until('G'),
    parse('', 'SELECT 1').subarray(0, 5),
    { halfClose: true },
  ),
  ends(
    'an end in the header of a message of an unknown type',
    query('SELECT 1'),
    message('\x01', bytes('body')).subarray(0, 3),
    { halfClose: true },
  ),
  ends(
    'a session that terminates itself',
    query('SELECT pg_terminate_backend(pg_backend_pid())'),
    until('E'),
  ),
  ends(
    'a session that terminates itself in a batch',
    ...run('SELECT pg_terminate_backend(pg_backend_pid())'),
    ...run('SELECT 2'),
    sync,
    until('E'),
  ),
  ends(
    'idle_in_transaction_session_timeout',
    query("SET idle_in_transaction_session_timeout = '50ms'; BEGIN"),
    until('Z'),
    until('E'),
  ),
  ends('idle_session_timeout', query("SET idle_session_timeout = '50ms'"), until('Z'), until('E')),
  ...['A', 'G', 'K', 'R', 'T', 'W', 'Z', 'b', 'n', 'v', '\x01', '\xff', ' '].map((type) =>
    ends(
      `a message of the unknown type ${JSON.stringify(type)}`,
      query('SELECT 1'),
      message(type, bytes('body')),
      query('SELECT 2'),
    ),
  ),
  ends(
    'a password where nobody has asked',
    query('SELECT 1'),
    message('p', bytes('secret\0')),
    query('SELECT 2'),
  ),
  ...[3, 2, 1, 0, -1, -2147483648].map((length) =>
    ends(
      `a Query with the length ${length}`,
      query('SELECT 1'),
      withLength('Q', length, 'SELECT 2\0'),
      query('SELECT 3'),
    ),
  ),
  ends('a Sync with a length above its limit', query('SELECT 1'), withLength('S', 100_000), {
    halfClose: true,
  }),
  ends(
    'a Query of 2 GB that does not come',
    query('SELECT 1'),
    withLength('Q', 2_147_483_647, 'SELECT'),
    { halfClose: true },
  ),
  ends('a Parse with the length 2', query('SELECT 1'), withLength('P', 2), query('SELECT 3')),
  ends('CopyDone in a batch without COPY, and the end', ...run('SELECT 1'), copyDone, terminate),
];
