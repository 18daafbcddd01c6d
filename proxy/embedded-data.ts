import { execFile } from 'node:child_process';
import {
  chmod,
  lchown,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  realpath,
  rename,
  rm,
  stat,
} from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { findClosedFolder, runAs } from './embedded-account.ts';
import type { ServerAccount } from './embedded-account.ts';
import type { ServerBinaries } from './embedded-binaries.ts';
import { hasErrno } from './embedded-files.ts';

/** What preparing a data folder needs to know. */
export interface DataDirectoryOptions {
  readonly binaries: ServerBinaries;
  readonly account: ServerAccount | undefined;
  /** False skips flushing the new cluster to disk: for throw-away servers. */
  readonly isDurable: boolean;
  readonly onProgress: (line: string) => void;
}

/**
 * Makes the folder hold a cluster of our major version, owned by the account, with mode 0700.
 * Initialises it when it is empty or missing; throws, naming the folder, when it cannot be used.
 *
 * @returns the folder's real path, the one to start the server with.
 */
export async function prepareDataDirectory(
  given: string,
  options: DataDirectoryOptions,
): Promise<string> {
  const folder = await makeWayTo(resolve(given), options.account);
  const entries = await listFolder(folder);
  if (entries.length === 0) {
    options.onProgress(`creating a database cluster in ${folder}`);
    await createCluster(folder, options);
  } else if (!entries.includes('PG_VERSION')) {
    throw new Error(`data folder "${folder}" is not empty, and holds no PostgreSQL cluster`);
  }
  const version = (await readFile(join(folder, 'PG_VERSION'), 'utf8')).trim();
  if (version !== options.binaries.majorVersion) {
    throw new Error(
      `data folder "${folder}" belongs to PostgreSQL ${version}, ` +
        `but the embedded server is PostgreSQL ${options.binaries.majorVersion}: ` +
        'choose another folder, or upgrade this one with pg_upgrade',
    );
  }
  await takeOwnership(folder, options.account);
  return folder;
}

/** The environment of `initdb` and `postgres`: ours may hold secrets, and PG* variables that matter to them. */
export function serverEnvironment(): NodeJS.ProcessEnv {
  const kept = ['PATH', 'TZ', 'LD_LIBRARY_PATH'].flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  // Untranslated messages, which we read; and no locale that is not installed.
  return { ...Object.fromEntries(kept), LC_ALL: 'C' };
}

/** Creates what is missing above the folder and checks that the account gets there. */
async function makeWayTo(folder: string, account: ServerAccount | undefined): Promise<string> {
  const first = await mkdir(dirname(folder), { recursive: true });
  if (account && first !== undefined) {
    // A umask of 077 would shut the server's user out of the folders that we have just made.
    for (let made = dirname(folder); made.length >= first.length; made = dirname(made)) {
      await chmod(made, 0o711);
    }
  }
  const closed = account && (await findClosedFolder(folder, account));
  if (closed) {
    throw new Error(
      `user "${account.name}" cannot reach the data folder "${folder}", because "${closed}" is closed to it ` +
        '(PostgreSQL does not run as root, so another user runs it): ' +
        `choose another data folder, or open this one with chmod o+x "${closed}"`,
    );
  }
  // Real paths: a link to the folder must not be replaced by it, and one folder has one name.
  return realpath(folder).catch(async () =>
    join(await realpath(dirname(folder)), basename(folder)),
  );
}

async function listFolder(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`cannot read the data folder "${folder}": ${reason}`, { cause: error });
  }
}

/**
 * Initialises beside the folder and renames, so that a run killed in the middle leaves no half
 * cluster, and of two starters one wins.
 */
async function createCluster(folder: string, options: DataDirectoryOptions): Promise<void> {
  let draft: string | undefined;
  try {
    draft = await mkdtemp(`${folder}.initdb-`);
    await initialise(draft, options);
    await rename(draft, folder);
  } catch (error) {
    if (draft) await rm(draft, { recursive: true, force: true });
    // Another starter has filled the folder: the server's own lock decides between us.
    if (hasErrno(error, 'ENOTEMPTY', 'EEXIST')) return;
    // A mounted folder cannot be replaced; nor can one in a folder that we may not write to.
    if (!hasErrno(error, 'EBUSY', 'EXDEV', 'EACCES', 'EPERM', 'EROFS')) throw error;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await initialise(folder, options);
  }
}

async function initialise(folder: string, options: DataDirectoryOptions): Promise<void> {
  const { binaries, account, isDurable } = options;
  if (account) await lchown(folder, account.uid, account.gid);
  const args = ['--pgdata', folder, '--username=postgres', '--auth=trust', '--no-instructions'];
  // The builtin provider came with 17. Before it, only C needs nothing of the operating system.
  const locale = ['--locale=C'];
  if (Number(binaries.majorVersion) >= 17)
    locale.push('--locale-provider=builtin', '--builtin-locale=C.UTF-8');
  if (!isDurable) args.push('--no-sync');
  try {
    await promisify(execFile)(binaries.initdb, [...args, '--encoding=UTF8', ...locale], {
      // Our own working folder may be closed to the account.
      cwd: '/',
      env: serverEnvironment(),
      ...runAs(account),
    });
  } catch (cause) {
    const { stderr } = cause as { stderr?: string };
    throw new Error(`could not create a database cluster in "${folder}": ${stderr?.trim()}`, {
      cause,
    });
  }
}

async function takeOwnership(folder: string, account: ServerAccount | undefined): Promise<void> {
  const { uid } = await stat(folder);
  if (account && uid !== account.uid) {
    await changeOwner(folder, account);
  } else if (!account && uid !== process.getuid?.()) {
    throw new Error(`data folder "${folder}" belongs to another user (uid ${uid})`);
  }
  await chmod(folder, 0o700);
}

async function changeOwner(path: string, account: ServerAccount): Promise<void> {
  await lchown(path, account.uid, account.gid);
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const inner = join(path, entry.name);
    if (entry.isDirectory()) await changeOwner(inner, account);
    else await lchown(inner, account.uid, account.gid);
  }
}
