import { readFile } from 'node:fs/promises';
import { createHmac } from 'node:crypto';
import {
  DEFAULT_ITERATIONS,
  parseVerifier,
  scramKeys,
  verifierOf,
  type Logger,
  type ScramVerifier,
} from '../src/index.ts';

/** The users of a list by their names; undefined for one whose secret is of no use, and who is not let in. */
export type AuthFile = ReadonlyMap<string, ListedUser | undefined>;

/** What the list has of one user. */
export interface ListedUser {
  readonly verifier: ScramVerifier;
  /** Undefined where the list has only the verifier. */
  readonly password: Buffer | undefined;
}

/**
 * Reads a list of users in the format of PgBouncer's userlist.txt: `"user" "secret"` on each line, in
 * which two quotes stand for one, and comments begin with a semicolon. A secret is a SCRAM verifier or
 * a password in clear text. md5 hashes are no use to SCRAM: their users are barred, and named in the log.
 * @param secret makes the salts for passwords in clear text: the same after a restart
 * @throws Error that names the file and the line, and repeats nothing of a secret
 */
export async function readAuthFile(
  path: string,
  secret: Buffer,
  logger: Logger,
): Promise<AuthFile> {
  const users = new Map<string, ListedUser | undefined>();
  const lines = (await readFile(path, 'utf8')).split(/\r?\n/);
  for (const [index, line] of lines.entries()) {
    if (/^\s*(;|$)/.test(line)) continue;
    const [, user, text] = /^\s*"((?:[^"]|"")*)"\s+"((?:[^"]|"")*)"/.exec(line) ?? [];
    if (user === undefined || text === undefined || user === '')
      throw new Error(
        `${path}, line ${index + 1}: expected "user" "secret", or a comment behind ;`,
      );
    const name = unquoted(user);
    const listed = await listedUser(name, unquoted(text), secret);
    users.set(name, listed);
    if (listed === undefined)
      logger.warn(
        { file: path, user: name },
        'no SCRAM verifier and no password in clear text (an md5 hash logs nobody in): not let in',
      );
  }
  return users;
}

async function listedUser(
  user: string,
  text: string,
  secret: Buffer,
): Promise<ListedUser | undefined> {
  const verifier = parseVerifier(text);
  if (verifier !== undefined) return { verifier, password: undefined };
  if (text === '' || /^md5[0-9a-f]{32}$/.test(text) || text.startsWith('SCRAM-SHA-256$'))
    return undefined;
  // All at once, when the list is read: else the time of a login would tell who is in it.
  const password = Buffer.from(text);
  const salt = createHmac('sha256', secret).update(`pgbg list salt\0${user}`).digest();
  const keys = await scramKeys(password, salt.subarray(0, 16), DEFAULT_ITERATIONS);
  return { verifier: verifierOf(keys), password };
}

function unquoted(text: string): string {
  return text.replaceAll('""', '"');
}
