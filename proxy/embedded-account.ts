import type { Stats } from 'node:fs';
import { readFile, realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/** The user that runs the embedded server when we are root, because PostgreSQL refuses to be root. */
export interface ServerAccount {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * The account for `initdb` and `postgres`: undefined for ordinary users, who run them as themselves.
 *
 * Root gets the owner of an existing cluster, else user `postgres`, else `nobody`. Keeping the owner
 * means that a folder made by an ordinary user stays usable for that user afterwards.
 */
export async function findServerAccount(dataDirectory: string): Promise<ServerAccount | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const accounts = parsePasswd(await readFile('/etc/passwd', 'utf8'));
  const owner = await ownerOfCluster(dataDirectory);
  if (owner && owner.uid !== 0) {
    const { uid, gid } = owner;
    return accounts.find((account) => account.uid === uid) ?? { name: `uid ${uid}`, uid, gid };
  }
  for (const name of ['postgres', 'nobody']) {
    const account = accounts.find((candidate) => candidate.name === name && candidate.uid !== 0);
    if (account) return account;
  }
  throw new Error(
    'PostgreSQL does not run as root, and there is no user "postgres" or "nobody" to run it: ' +
      'start as another user, or use --upstream with a server of your own',
  );
}

/** The spawn options that make a child run as the account; none for undefined. */
export function runAs(account: ServerAccount | undefined): { uid?: number; gid?: number } {
  return account ? { uid: account.uid, gid: account.gid } : {};
}

/**
 * The first folder above `path` that the account may not pass through, or undefined when it can
 * reach `path`. Both the path as written and what its symbolic links stand for are checked.
 */
export async function findClosedFolder(
  path: string,
  account: ServerAccount,
): Promise<string | undefined> {
  for (const folder of [...foldersAbove(path), ...foldersAbove(await realPathOf(path))]) {
    if (!mayAccess(await stat(folder), account, SEARCH)) return folder;
  }
  return undefined;
}

/** Whether the account may open an existing file for reading, leaving aside the folders above it. */
export async function mayRead(file: string, account: ServerAccount): Promise<boolean> {
  return mayAccess(await stat(file), account, READ);
}

const SEARCH = 0o1;
const READ = 0o4;

function mayAccess({ uid, gid, mode }: Stats, account: ServerAccount, wanted: number): boolean {
  // The owner's bits decide for the owner even where the group's or the others' would allow more.
  // Only the primary group counts: spawn drops the supplementary ones with the uid.
  const shift = uid === account.uid ? 6 : gid === account.gid ? 3 : 0;
  return ((mode >> shift) & wanted) === wanted;
}

function foldersAbove(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [] : [...foldersAbove(parent), parent];
}

async function realPathOf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    // Not there yet: its parent is.
    return `${await realpath(dirname(path))}/new`;
  }
}

async function ownerOfCluster(dataDirectory: string): Promise<Stats | undefined> {
  try {
    await stat(`${dataDirectory}/PG_VERSION`);
    return await stat(dataDirectory);
  } catch {
    return undefined;
  }
}

function parsePasswd(text: string): ServerAccount[] {
  return text.split('\n').flatMap((line) => {
    const [name, , uid, gid] = line.split(':');
    // macOS writes nobody's uid as -2, which the kernel knows as an unsigned number.
    return name && uid && gid ? [{ name, uid: Number(uid) >>> 0, gid: Number(gid) >>> 0 }] : [];
  });
}
