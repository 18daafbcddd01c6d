import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { run, type Ended } from './child.ts';

/** All that PostgreSQL supports. */
export const VERSIONS: readonly string[] = ['14', '15', '16', '17', '18'];

/** The version that the proxy itself embeds; the others have a folder with a package.json here. */
export const OWN_VERSION = '18';

/** Tests that run on one version. */
export interface Suite {
  readonly name: string;
  /** The compiled tests, from here. */
  readonly files: string;
  /** Where it is written what became of each test, when that is wanted. */
  readonly results?: (version: string) => string;
}

/** A suite of which a document is made. */
type DocumentedSuite = Required<Suite>;

export const conformance: DocumentedSuite = {
  name: 'conformance',
  files: '../conformance/*.test.js',
  results: (version) => path(`./results-${version}.json`),
};
export const security: Suite = { name: 'security', files: '../security/*.test.js' };
export const differential: Suite = { name: 'differential', files: '../differential/*.test.js' };
export const clients: DocumentedSuite = {
  name: 'clients',
  files: '../clients/**/*.clients.js',
  results: (version) => path(`./clients-${version}.json`),
};
/** The programs that come with PostgreSQL, but for psql: they refuse servers that are newer. */
export const serverTools: Suite = {
  name: 'server tools',
  files: '../clients/server-tools/*.clients.js',
};

/** The versions that a command line names; none where it names none. Ends the process when it names others. */
export function namedVersions(): readonly string[] {
  const asked = process.argv.slice(2);
  const unknown = asked.filter((version) => !VERSIONS.includes(version));
  if (unknown.length > 0) {
    process.stderr.write(
      `unknown version ${unknown.join(', ')}: give some of ${VERSIONS.join(', ')}\n`,
    );
    process.exit(2);
  }
  return asked;
}

/** Installs a version and runs suites on it, all of them, whatever fails. @returns what has failed, one text each */
export async function runVersion(
  version: string,
  suites: readonly Suite[],
): Promise<readonly string[]> {
  process.stdout.write(`\nPostgreSQL ${version}\n`);
  // Not ci: a lock file may not know the packages of every platform.
  if (version !== OWN_VERSION) {
    const installation = await npm('install', version, ['--no-save']);
    if (!installation.isWell) return [failure(version, 'installation', installation)];
  }
  const failures: string[] = [];
  for (const suite of suites) {
    const ended = await runSuite(version, suite);
    if (!ended.isWell) failures.push(failure(version, suite.name, ended));
  }
  return failures;
}

/** Installs the clients that are packages of npm; without them the others run. @returns what has failed */
export async function installClients(): Promise<readonly string[]> {
  const { isWell, lastWords } = await npm('ci', '../clients');
  return isWell ? [] : [`failed to install the packages of test/clients:\n${lastWords}`];
}

/**
 * Says again what has failed, since thousands of lines may stand behind where it was said first, and
 * makes the process fail with it.
 */
export function report(failures: readonly string[]): void {
  if (failures.length === 0) return;
  process.stderr.write(`\n${failures.join('\n\n')}\n`);
  process.exitCode = 1;
}

function failure(version: string, part: string, ended: Ended): string {
  return `failed on PostgreSQL ${version}, ${part}:\n${ended.lastWords}`;
}

function runSuite(version: string, { files, results }: Suite): Promise<Ended> {
  const file = results?.(version);
  // Those of an earlier run say nothing of this one.
  if (file !== undefined) rmSync(file, { force: true });
  const options = [
    '--no-config',
    '--timeout=30000',
    ...(process.env['CI'] ? ['--forbid-only'] : []),
    `--require=${path('../support/root-hooks.js')}`,
    path(files),
  ];
  const mocha = fileURLToPath(import.meta.resolve('mocha/bin/mocha.js'));
  return run(process.execPath, ['--enable-source-maps', mocha, ...options], {
    PGBG_TEST_VERSION: version,
    ...(file !== undefined && { PGBG_TEST_RESULTS: file }),
  });
}

/** Installs what a folder beside the sources of this one asks for. */
function npm(
  command: 'install' | 'ci',
  folder: string,
  options: readonly string[] = [],
): Promise<Ended> {
  const prefix = path(`../../../test/versions/${folder}`);
  return run('npm', [
    ...[command, ...options, '--loglevel=error', '--no-fund', '--no-audit'],
    `--prefix=${prefix}`,
  ]);
}

function path(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url));
}
