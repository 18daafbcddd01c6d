import { spawn } from 'node:child_process';

/** What a program has printed, and how it ended. */
export interface ProgramOutput {
  readonly stdout: string;
  readonly stderr: string;
  /** Null when a signal has ended it. */
  readonly code: number | null;
}

/** How a program is run. */
export interface ProgramOptions {
  /** What it reads. */
  readonly input?: string;
  /** Added to ours. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly folder?: string;
  /** Killed when it has not ended by then. */
  readonly timeoutMs?: number;
}

/** Runs a program to its end. */
export function runProgram(
  program: string,
  parameters: readonly string[],
  { input = '', environment = {}, folder, timeoutMs }: ProgramOptions = {},
): Promise<ProgramOutput> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, parameters, {
      env: { ...process.env, ...environment },
      ...(folder !== undefined && { cwd: folder }),
      ...(timeoutMs !== undefined && { timeout: timeoutMs, killSignal: 'SIGKILL' }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', reject);
    child.on('close', (code) => resolve({ stdout, stderr, code }));
    child.stdin.on('error', () => {}); // it may end before it has read all of it
    child.stdin.end(input);
  });
}
