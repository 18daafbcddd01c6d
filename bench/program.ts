import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import type { Resources } from './resources.ts';

const KILL_AFTER_MS = 20_000;

/** What a program printed, and how it ended. */
export interface ProgramOutput {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number | null;
}

/** How a program is run. */
export interface ProgramOptions {
  readonly folder?: string;
  /** Nobody looks at what it prints. */
  readonly ignoresOutput?: boolean;
}

/** Runs a program to its end; it is killed when its owner closes. */
export async function runProgram(
  resources: Resources,
  program: string,
  parameters: readonly string[],
  { folder, ignoresOutput = false }: ProgramOptions = {},
): Promise<ProgramOutput> {
  const child = spawn(program, parameters, {
    stdio: ['ignore', ignoresOutput ? 'ignore' : 'pipe', 'pipe'],
    ...(folder !== undefined && { cwd: folder }),
  });
  const release = resources.own(() => stopProgram(child, 'SIGTERM'));
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    return { stdout, stderr, code };
  } finally {
    await release();
  }
}

/** Starts a program that stays; the owner stops it. */
export function startProgram(
  resources: Resources,
  program: string,
  parameters: readonly string[],
  options: SpawnOptions,
  signals: readonly NodeJS.Signals[],
): { child: ChildProcess; stop: () => Promise<void> } {
  const child = spawn(program, parameters, options);
  const stop = resources.own(() => stopProgram(child, ...signals));
  return { child, stop };
}

/** Sends the signals, two seconds apart, and SIGKILL when it has not ended by then. */
async function stopProgram(child: ChildProcess, ...signals: NodeJS.Signals[]): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  const timers = signals.map((signal, index) =>
    setTimeout(() => child.kill(signal), 2_000 * index),
  );
  timers.push(setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS));
  await ended;
  timers.forEach((timer) => clearTimeout(timer));
}

/** The first line that a program prints for `--version`; undefined when it is not installed. */
export async function versionOf(
  resources: Resources,
  program: string,
): Promise<string | undefined> {
  try {
    const { stdout, code } = await runProgram(resources, program, ['--version']);
    return code === 0 ? stdout.split('\n')[0] : undefined;
  } catch {
    return undefined;
  }
}
