import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { writeCompatibility } from './compatibility.ts';

/**
 * Runs the conformance suite, the attacks and the comparison with the server itself on each version that
 * PostgreSQL supports, or on those that are named, one after the other: `npm run test:versions -- 14 17`.
 * All of them run, whatever fails. When all versions have run, docs/compatibility.md is written from what
 * conforms.
 */
const VERSIONS = ['14', '15', '16', '17', '18'];

/** The version that the proxy itself embeds; the others have a folder with a package.json here. */
const OWN_VERSION = '18';

const asked = process.argv.slice(2);
const unknown = asked.filter((version) => !VERSIONS.includes(version));
if (unknown.length > 0) {
  process.stderr.write(
    `unknown version ${unknown.join(', ')}: give some of ${VERSIONS.join(', ')}\n`,
  );
  process.exit(2);
}

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const failed: string[] = [];
for (const version of asked.length > 0 ? asked : VERSIONS) {
  process.stdout.write(`\nPostgreSQL ${version}\n`);
  const isReady = version === OWN_VERSION || (await install(version));
  const hasPassed = isReady && [
    await runSuite(version, 'conformance'),
    await runSuite(version, 'security'),
    await runSuite(version, 'differential'),
  ];
  if (!hasPassed || hasPassed.includes(false)) failed.push(version);
}
if (asked.length === 0) {
  writeCompatibility(
    path('../../../docs/compatibility.md'),
    VERSIONS.map((version) => ({ version, file: resultsOf(version) })),
  );
}
if (failed.length > 0) {
  process.stderr.write(`failed on PostgreSQL ${failed.join(', ')}\n`);
  process.exitCode = 1;
}

function resultsOf(version: string): string {
  return path(`./results-${version}.json`);
}

function install(version: string): Promise<boolean> {
  const folder = path(`../../../test/versions/${version}`);
  // Not ci: a lock file may not know the packages of every platform.
  return run('npm', [
    'install',
    '--no-save',
    '--silent',
    '--no-fund',
    '--no-audit',
    `--prefix=${folder}`,
  ]);
}

function runSuite(
  version: string,
  suite: 'conformance' | 'security' | 'differential',
): Promise<boolean> {
  const options = [
    '--no-config',
    '--timeout=30000',
    ...(process.env['CI'] ? ['--forbid-only'] : []),
    `--require=${path('../support/root-hooks.js')}`,
    path(`../${suite}/*.test.js`),
  ];
  const mocha = fileURLToPath(import.meta.resolve('mocha/bin/mocha.js'));
  return run(process.execPath, ['--enable-source-maps', mocha, ...options], {
    PGBG_TEST_VERSION: version,
    ...(suite === 'conformance' && { PGBG_TEST_RESULTS: resultsOf(version) }),
  });
}

/** Runs a program to its end. @returns whether it ended well */
function run(program: string, options: string[], environment = {}): Promise<boolean> {
  const child = spawn(program, options, {
    stdio: 'inherit',
    env: { ...process.env, ...environment },
  });
  return new Promise((resolve) => child.on('close', (code) => resolve(code === 0)));
}
