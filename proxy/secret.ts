import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Logger } from '../src/index.ts';
import { ConfigError } from './config.ts';

const MIN_SECRET_BYTES = 16;
const FILE_NAME = 'pg-background-proxy.secret';

/** Where the secret comes from when no option names it: a file that is made at the first start. */
export function defaultSecretFile(dataDirectory: string | undefined): string {
  if (dataDirectory !== undefined) return join(dataDirectory, FILE_NAME);
  const stateHome = process.env['XDG_STATE_HOME'] || join(homedir(), '.local', 'state');
  return join(stateHome, 'pg-background-proxy', FILE_NAME);
}

/** The secret as an option gives it. @throws ConfigError when it is too short to be one */
export function checkSecret(secret: string, option: string): Buffer {
  const bytes = Buffer.from(secret.trim(), 'utf8');
  if (bytes.length < MIN_SECRET_BYTES) {
    throw new ConfigError(
      `${option}: the secret must have at least ${MIN_SECRET_BYTES} characters`,
    );
  }
  return bytes;
}

/** Reads a secret from a file that must exist. */
export async function readSecret(path: string, option: string): Promise<Buffer> {
  const text = await readFile(path, 'utf8').catch((cause: Error) => {
    throw new ConfigError(`${option}: ${cause.message}`);
  });
  return checkSecret(text, `${option} ${path}`);
}

/** Reads the secret of an earlier start. */
export async function readEarlierSecret(path: string): Promise<Buffer> {
  const text = await readFile(path, 'utf8').catch(() => {
    throw new ConfigError(
      `there is no secret in ${path} yet: start the proxy once, or name the secret with --secret-file or PGBG_SECRET`,
    );
  });
  return checkSecret(text, path);
}

/** Reads the secret from its file, which is made, with mode 0600, when there is none. */
export async function readOrCreateSecret(path: string): Promise<Buffer> {
  const mine = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    try {
      await writeFile(mine, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600, flag: 'wx' });
      // A link appears whole or not at all: of two first starts, both end with the same secret.
      await link(mine, path).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error;
      });
    } finally {
      await rm(mine, { force: true });
    }
  } catch (cause) {
    throw new ConfigError(
      `the secret cannot be kept in ${path}: ${(cause as Error).message}; name another file with --secret-file`,
    );
  }
  return readSecret(path, '--secret-file');
}

/** File systems that go with the container or the machine's power: overlayfs, aufs, tmpfs, ramfs. See statfs(2). */
const PASSING_FILE_SYSTEMS = new Set([0x794c7630, 0x61756673, 0x01021994, 0x858458f6]);

/** Warns of a secret that we made ourselves and that will be lost: then no request is believed any more. */
export async function warnOfLoss(path: string, logger: Logger): Promise<void> {
  const { type } = await statfs(path);
  if (!PASSING_FILE_SYSTEMS.has(type)) return;
  logger.warn(
    { file: path },
    'the secret is on a file system that is lost with the container: keep it on a volume, or name it with --secret-file or PGBG_SECRET; ' +
      'with another secret each database needs ALTER EXTENSION pg_background UPDATE',
  );
}

/** Warns of files that hold secrets and that every user of the machine can read. */
export async function warnOfReaders(
  paths: readonly (string | undefined)[],
  logger: Logger,
): Promise<void> {
  for (const path of paths) {
    if (path === undefined) continue;
    const mode = await stat(path).then(
      (found) => found.mode,
      () => 0, // whoever reads it says what is wrong with it
    );
    if ((mode & 0o004) !== 0)
      logger.warn({ file: path }, 'a file with secrets can be read by every user: chmod 600');
  }
}
