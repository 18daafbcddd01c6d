import { expect } from 'chai';
import { existsSync } from 'node:fs';
import { runProgram } from '../support/program.ts';
import { ScratchFolder } from '../support/scratch-file.ts';
import { clientSuite } from './client-suite.ts';
import { itCancelsInTls, itLogsIn } from './logins.ts';
import { itDoes, programs, seenBy } from './program-features.ts';
import { runs } from './requirements.ts';

/** Where Debian's libpostgresql-jdbc-java puts the driver. */
const DRIVER = '/usr/share/java/postgresql.jar';

clientSuite('JDBC', { missing: missing() }, (proxy) => {
  let classes: ScratchFolder;

  before(async () => {
    classes = await ScratchFolder.create();
    const { code, stderr } = await runProgram('javac', [
      ...['-encoding', 'UTF-8', '-cp', DRIVER, '-d', classes.path],
      ...['-sourcepath', programs('jdbc'), programs('jdbc/Features.java')],
    ]);
    expect(code, stderr).to.equal(0);
  });
  after(() => classes?.remove());

  const java = () =>
    // A short life needs no compiler that takes its time.
    ['java', '-XX:TieredStopAtLevel=1', '-cp', `${classes.path}:${DRIVER}`, 'Features'] as const;

  itDoes(proxy, java, {
    setFetchSize: [500_500, 1],
    'binary transfer': true,
    prepareThreshold: [0, 2, 4, 6, 8, 10, 1],
    batches: [3000, '23505', 3000],
    reWriteBatchedInserts: [3000, '23505', 3000],
    'CopyManager in': [20_000, 199_990_000],
    'CopyManager out': [20_000, 20_000, 1],
    'Statement.cancel': ['57014', 1],
    setQueryTimeout: ['57014', 1],
    LISTEN: [1, 'news', 'größer'],
    'callable functions and procedures': [42, 42],
    refcursor: 15,
    'transactions, autosave': ['22012', '1,3'],
    'large objects': true,
    'preferQueryMode=simple': [42, "o'clock \\"],
    DatabaseMetaData: ['pg_background_result'],
    'a worker and its result': [
      [1, '1.5'],
      [2, '3.0'],
      [3, '4.5'],
    ],
    'a worker and its result, binary': [
      [0, 'größer', true],
      [1, 'größer', true],
      [2, 'größer', true],
    ],
    'a worker by a callable function': 42,
    "a worker's rows by setFetchSize": 500_500,
    'a timeout while it waits for a worker': ['57014', '57P01'],
  });
  itLogsIn((url) => seenBy(java(), url, 'login'));
  itCancelsInTls((url) => seenBy(java(), url, 'Statement.cancel'), ['57014', 1]);
});

function missing(): string | undefined {
  if (!runs('javac', ['-version'])) return 'default-jdk-headless';
  return existsSync(DRIVER) ? undefined : 'libpostgresql-jdbc-java';
}
