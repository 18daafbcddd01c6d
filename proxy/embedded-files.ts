import { lstat } from 'node:fs/promises';

/** Whether an error of the file system carries one of these codes (`ENOENT`). */
export function hasErrno(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

/** Whether something, be it a dangling link, has this path. */
export async function pathExists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch {
    return false;
  }
}
