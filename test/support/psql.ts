import { execFileSync, spawn } from 'node:child_process';

/** Whether a psql is on the path; CI installs one. */
export const hasPsql = (() => {
  try {
    execFileSync('psql', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

/** What a run of psql has printed. */
export interface PsqlOutput {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number | null;
}

/** Runs a script in psql: unaligned, tuples only, without the user's psqlrc and passwords. */
export function runPsql(
  url: string,
  script: string,
  options: readonly string[] = ['-A', '-t'],
  environment: Readonly<Record<string, string>> = {},
): Promise<PsqlOutput> {
  return new Promise((resolve, reject) => {
    const child = spawn('psql', ['-X', '-q', '-w', ...options, url], {
      env: {
        ...process.env,
        LC_ALL: 'C',
        PGOPTIONS: '',
        PGPASSFILE: '/nowhere', // psql warns of /dev/null
        ...environment,
      },
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', reject);
    child.on('close', (code) => resolve({ stdout, stderr, code }));
    child.stdin.on('error', () => {}); // it may end before it has read all of it
    child.stdin.end(script);
  });
}
