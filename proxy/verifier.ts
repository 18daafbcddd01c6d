import { randomBytes } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { DEFAULT_ITERATIONS, formatVerifier, scramKeys, verifierOf } from '../src/index.ts';
import { ConfigError } from './config.ts';

/**
 * Reads a password, the first line of what comes, and gives a SCRAM verifier for it, with a salt of
 * its own. @throws ConfigError when there is none
 */
export async function readVerifier(input: NodeJS.ReadableStream): Promise<string> {
  const [password = ''] = (await text(input)).split(/\r?\n/, 1);
  if (password === '') throw new ConfigError('expected a password on stdin');
  const keys = await scramKeys(Buffer.from(password), randomBytes(16), DEFAULT_ITERATIONS);
  return formatVerifier(verifierOf(keys));
}
