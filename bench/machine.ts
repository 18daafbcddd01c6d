import { readFile } from 'node:fs/promises';
import { arch, cpus, release, totalmem } from 'node:os';
import { runProgram } from './program.ts';
import type { Resources } from './resources.ts';

/** What a measurement was made on. */
export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly system: string;
  readonly node: string;
}

export function describeMachine(): Machine {
  const all = cpus();
  return {
    processor: all[0]?.model ?? 'unknown',
    cores: all.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${process.platform} ${release()} ${arch()}`,
    node: process.version,
  };
}

/** The commit that is checked out, with a `+` when files differ from it; undefined without git. */
export async function findCommit(resources: Resources, root: string): Promise<string | undefined> {
  try {
    const run = (...parameters: string[]) =>
      runProgram(resources, 'git', ['-C', root, ...parameters]);
    const { stdout, code } = await run('rev-parse', 'HEAD');
    if (code !== 0) return undefined;
    const { stdout: changes } = await run('status', '--porcelain', '--untracked-files=no');
    return `${stdout.trim()}${changes === '' ? '' : '+'}`;
  } catch {
    return undefined;
  }
}

/** The version of the proxy itself. */
export async function readOwnVersion(packageFile: string): Promise<string> {
  const { version } = JSON.parse(await readFile(packageFile, 'utf8')) as { version: string };
  return version;
}
