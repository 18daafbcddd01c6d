import { query, terminate } from '../frontend.ts';
import { bytes } from '../../support/messages.ts';
import { ready, startup, until, type Script } from '../script.ts';

type Parameters = readonly (readonly [string, string])[];

const database = 'postgres';
const own: Parameters = [
  ['user', 'postgres'],
  ['database', database],
];

const begins = (name: string, parameters: Parameters, ...texts: readonly string[]): Script => ({
  name,
  startup: startup(parameters),
  steps: [until('ZE'), ...texts.map(query)],
});
const speaks = (name: string, version: number, more: Parameters = []): Script => ({
  name,
  startup: startup([...own, ...more], version),
  steps: [until('ZE'), query('SELECT 1')],
});
/** The beginnings of a session: what its StartupMessage says. */
export const startups: readonly Script[] = [
  begins('user and database', own, 'SELECT current_user, 1'),
  begins(
    'the database first',
    [
      ['database', database],
      ['user', 'postgres'],
    ],
    'SELECT 1',
  ),
  begins('a user without a database', [['user', 'postgres']], 'SELECT current_database()'),
  begins('no user', [['database', database]]),
  begins('an empty user', [
    ['user', ''],
    ['database', database],
  ]),
  begins(
    'an empty database',
    [
      ['user', 'postgres'],
      ['database', ''],
    ],
    'SELECT current_database()',
  ),
  begins('an unknown user', [
    ['user', 'nobody at all'],
    ['database', database],
  ]),
  begins('an unknown database', [
    ['user', 'postgres'],
    ['database', 'no such database'],
  ]),
  begins('a user that is no UTF-8', [
    ['user', '\xff\xfe'],
    ['database', database],
  ]),
  begins(
    'settings',
    [
      ...own,
      ['application_name', 'début'],
      ['DateStyle', 'German'],
      ['search_path', 'a, "B"'],
      ['work_mem', '123kB'],
    ],
    'SHOW DateStyle',
    'SHOW search_path',
    'SHOW work_mem',
  ),
  begins('a setting twice', [...own, ['work_mem', '1MB'], ['work_mem', '2MB']], 'SHOW work_mem'),
  begins('a setting in another case', [...own, ['Work_Mem', '3MB']], 'SHOW work_mem'),
  begins('an unknown setting', [...own, ['no_such_setting', '1']]),
  begins('a setting with a value that is none', [...own, ['work_mem', 'much']]),
  begins(
    'a custom setting',
    [...own, ['app.tenant', 'x']],
    'SHOW app.tenant',
    'RESET ALL',
    'SHOW app.tenant',
  ),
  begins(
    'options',
    [...own, ['options', '-c work_mem=4MB --geqo=off -c app.a=b\\ c']],
    'SHOW work_mem',
    'SHOW geqo',
    'SHOW app.a',
  ),
  begins('options that are none', [...own, ['options', '-Z']]),
  begins('client_encoding', [...own, ['client_encoding', 'LATIN1']], "SELECT 'é'"),
  begins('an unknown encoding', [...own, ['client_encoding', 'none']]),
  begins(
    'settings of our API',
    [...own, ['pg_background.max_workers', '3']],
    'SHOW pg_background.max_workers',
    'RESET pg_background.max_workers',
    'SHOW pg_background.max_workers',
  ),
  begins('a long value', [...own, ['application_name', 'x'.repeat(5000)]], 'SHOW application_name'),
  begins(
    'a packet of as many bytes as there may be',
    [...own, ['app.long', 'x'.repeat(9994 - 'user_postgres_database_postgres_app.long_'.length)]],
    "SELECT length(current_setting('app.long'))",
  ),
  begins('a superuser in single words', [...own, ['is_superuser', 'on']]),
  {
    name: 'all in one go, to the end',
    startup: startup(own),
    steps: [query('SELECT 1'), query('SELECT 2'), terminate],
  },
  {
    name: 'all in one go, and no Terminate',
    startup: startup(own),
    steps: [query('SELECT 1'), query('SELECT 2'), { halfClose: true }],
  },
  { name: 'nothing behind the startup', startup: startup(own), steps: [ready] },
  { name: 'an end right behind the startup', startup: startup(own), steps: [{ halfClose: true }] },
  speaks('protocol 3.1', 0x30001),
  speaks('protocol 3.2', 0x30002),
  speaks('protocol 3.3', 0x30003),
  speaks('protocol 3.9999, which libpq sends to test proxies', 0x30000 + 9999),
  speaks('an unknown option of the protocol', 0x30000, [['_pq_.unknown', '1']]),
  speaks('unknown options in protocol 3.2', 0x30002, [
    ['_pq_.a', ''],
    ['_pq_.b', 'x'],
    ['work_mem', '1MB'],
  ]),
  speaks('the option with which libpq tests proxies', 0x30000 + 9999, [
    ['_pq_.test_protocol_negotiation', ''],
  ]),
  {
    name: 'protocol 3.2 and a wrong setting',
    startup: startup([...own, ['nothing_known', '1']], 0x30002),
    steps: [until('ZE')],
  },
  ...['true', 'on', 'yes', '1', 't', 'Y', 'tr', 'database'].map((value): Script => ({
    name: `replication=${value}`,
    startup: startup([...own, ['replication', value]]),
    steps: [until('ZE'), query('SHOW work_mem'), query('NO_SUCH_COMMAND')],
  })),
  ...['false', 'off', 'no', '0'].map((value) =>
    begins(`replication=${value}`, [...own, ['replication', value]], 'SELECT 1'),
  ),
  begins('a replication that is none', [...own, ['replication', 'maybe']]),
  {
    name: 'SQL on a logical replication connection',
    startup: startup([...own, ['replication', 'database']]),
    steps: [
      until('ZE'),
      query('SELECT 1; SELECT 2'),
      query('SELECT 1 / 0'),
      query("SELECT 'pg_background', 'CREATE DATABASE'"),
    ],
  },
  {
    name: 'a replication slot that is not there',
    startup: startup([...own, ['replication', 'database']]),
    steps: [until('ZE'), query('START_REPLICATION SLOT none LOGICAL 0/0'), query('SELECT 1')],
  },
  {
    name: 'the extended protocol on a replication connection',
    startup: startup([...own, ['replication', 'true']]),
    steps: [until('ZE'), bytes('S\0\0\0\x04'), query('SHOW work_mem')],
  },
  {
    name: 'TIMELINE_HISTORY of a timeline that is not there',
    startup: startup([...own, ['replication', 'true']]),
    steps: [until('ZE'), query('TIMELINE_HISTORY 77'), query('SHOW port')],
  },
];
