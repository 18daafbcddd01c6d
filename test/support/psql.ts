import { execFileSync } from 'node:child_process';
import { runProgram, type ProgramOutput } from './program.ts';

/** Whether a psql is on the path; CI installs one. */
export const hasPsql = (() => {
  try {
    execFileSync('psql', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

/** The environment of a psql that is nobody's: without the user's settings and passwords. */
export const PSQL_ENVIRONMENT: Readonly<Record<string, string>> = {
  LC_ALL: 'C',
  PGOPTIONS: '',
  PGPASSFILE: '/nowhere', // psql warns of /dev/null
};

/** Runs a script in psql: unaligned, tuples only, without the user's psqlrc and passwords. */
export function runPsql(
  url: string,
  script: string,
  options: readonly string[] = ['-A', '-t'],
  environment: Readonly<Record<string, string>> = {},
): Promise<ProgramOutput> {
  return runProgram('psql', ['-X', '-q', '-w', ...options, url], {
    input: script,
    environment: { ...PSQL_ENVIRONMENT, ...environment },
  });
}
