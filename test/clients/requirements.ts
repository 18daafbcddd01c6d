import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { testedVersion } from '../support/server.ts';

/** A program that a client needs. */
export interface Requirement {
  readonly program: string;
  /** What must be installed, or is not possible; undefined when it is here. */
  readonly missing: string | undefined;
}

/** A Python that has a module: that of the system, where distributions put their packages, or else the user's. */
export function pythonWith(module: string, debianPackage: string): Requirement {
  const program = ['/usr/bin/python3', 'python3'].find((candidate) =>
    runs(candidate, ['-c', `import ${module}`]),
  );
  return { program: program ?? 'python3', missing: program ? undefined : debianPackage };
}

/** A program of PostgreSQL's own, of at least the version of the server: on the path, or where Debian has it. */
export function serverTool(name: string): Requirement {
  const program = [name, ...debianFolders().map((folder) => join(folder, name))].find((candidate) =>
    runs(candidate, ['--version']),
  );
  if (program === undefined) {
    return { program: name, missing: `${name} (postgresql-client and postgresql)` };
  }
  const major = toolVersion(program);
  return {
    program,
    missing:
      major >= testedVersion
        ? undefined
        : `${name} of version ${testedVersion} or later: this one is ${major}`,
  };
}

/** The major version of a program of PostgreSQL's own. */
export function toolVersion(program: string): number {
  const { stdout } = spawnSync(program, ['--version'], { encoding: 'utf8' });
  return Number(/\(PostgreSQL\) (\d+)/.exec(stdout)?.[1]);
}

/** Whether a program runs to a good end. */
export function runs(program: string, parameters: readonly string[]): boolean {
  return spawnSync(program, parameters, { stdio: 'ignore' }).status === 0;
}

/** Where Debian keeps the programs that are not on everybody's path, newest first. */
function debianFolders(): string[] {
  const root = '/usr/lib/postgresql';
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .sort((one, other) => Number(other) - Number(one))
    .map((version) => join(root, version, 'bin'));
}
