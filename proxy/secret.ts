import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
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
