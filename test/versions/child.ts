import { spawn } from 'node:child_process';

/** How a program has ended. */
export interface Ended {
  readonly isWell: boolean;
  /**
   * What it has said last, to be repeated where much is printed behind it: what mocha says of the
   * tests that failed, or else some lines. Empty where it has ended well.
   */
  readonly lastWords: string;
}

/** Where mocha's account of the failed tests begins. */
const FAILURES = /^\s*(?:\x1b\[[\d;]*m)*\s*\d+ failing/m;

const LINES_OF_OTHERS = 20;

/** Runs a program to its end, and passes on what it says as it says it. */
export async function run(
  program: string,
  options: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<Ended> {
  const child = spawn(program, options, {
    stdio: ['inherit', 'pipe', 'pipe'],
    env: {
      ...process.env,
      // It sees a pipe where its user may look at a terminal.
      ...(process.stdout.isTTY && { FORCE_COLOR: '1' }),
      ...environment,
    },
  });
  let said = '';
  for (const [from, to] of [
    [child.stdout, process.stdout],
    [child.stderr, process.stderr],
  ] as const) {
    from.setEncoding('utf8').on('data', (text: string) => {
      to.write(text);
      said += text;
    });
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('close', resolve);
  });
  return code === 0 ? { isWell: true, lastWords: '' } : { isWell: false, lastWords: lastOf(said) };
}

/** @returns mocha's account of the failed tests, or else the last lines */
export function lastOf(said: string): string {
  const failures = FAILURES.exec(said);
  if (failures !== null) return said.slice(failures.index).trim();
  return said.trim().split('\n').slice(-LINES_OF_OTHERS).join('\n');
}
