import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** All that PostgreSQL supports. */
export const VERSIONS: readonly string[] = ['14', '15', '16', '17', '18'];

/** The version that the proxy itself embeds; the others have a folder with a package.json here. */
export const OWN_VERSION = '18';

/** Tests that run on one version. */
export interface Suite {
  /** The compiled tests, from here. */
  readonly files: string;
  /** Where it is written what became of each test, when that is wanted. */
  readonly results?: (version: string) => string;
}

/** A suite of which a document is made. */
type DocumentedSuite = Required<Suite>;

export const conformance: DocumentedSuite = {
  files: '../conformance/*.test.js',
  results: (version) => path(`./results-${version}.json`),
};
export const security: Suite = { files: '../security/*.test.js' };
export const differential: Suite = { files: '../differential/*.test.js' };
export const clients: DocumentedSuite = {
  files: '../clients/**/*.clients.js',
  results: (version) => path(`./clients-${version}.json`),
};
/** The programs that come with PostgreSQL, but for psql: they refuse servers that are newer. */
export const serverTools: Suite = { files: '../clients/server-tools/*.clients.js' };

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

/** Installs a version and runs suites on it, all of them, whatever fails. @returns whether all have passed */
export async function runVersion(version: string, suites: readonly Suite[]): Promise<boolean> {
  process.stdout.write(`\nPostgreSQL ${version}\n`);
  // Not ci: a lock file may not know the packages of every platform.
  const isReady = version === OWN_VERSION || (await npm('install', version, ['--no-save']));
  if (!isReady) return false;
  let hasPassed = true;
  for (const suite of suites) hasPassed = (await runSuite(version, suite)) && hasPassed;
  return hasPassed;
}

/** Installs the clients that are packages of npm; without them the others run, and the process fails. */
export async function installClients(): Promise<void> {
  if (await npm('ci', '../clients')) return;
  process.stderr.write('the packages of test/clients could not be installed\n');
  process.exitCode = 1;
}

/** Says which versions have failed, and makes the process fail with them. */
export function report(failed: readonly string[]): void {
  if (failed.length === 0) return;
  process.stderr.write(`failed on PostgreSQL ${failed.join(', ')}\n`);
  process.exitCode = 1;
}

function runSuite(version: string, { files, results }: Suite): Promise<boolean> {
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
): Promise<boolean> {
  const prefix = path(`../../../test/versions/${folder}`);
  return run('npm', [
    ...[command, ...options, '--silent', '--no-fund', '--no-audit'],
    `--prefix=${prefix}`,
  ]);
}

/** Runs a program to its end. @returns whether it ended well */
function run(program: string, options: readonly string[], environment = {}): Promise<boolean> {
  const child = spawn(program, options, {
    stdio: 'inherit',
    env: { ...process.env, ...environment },
  });
  return new Promise((resolve) => child.on('close', (code) => resolve(code === 0)));
}

function path(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url));
}
