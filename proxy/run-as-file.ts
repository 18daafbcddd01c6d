import { readFile } from 'node:fs/promises';
import { Password, toDatabaseText, type Credential, type EngineSettings } from '../src/index.ts';

/**
 * Reads the stored credentials of roles that SECURITY DEFINER functions run as: `database:role:password`
 * on each line, with `\:` and `\\` as in .pgpass, and comments behind `#`. There is no `*`: whoever owns
 * the extension in a database can use what is stored for that database.
 * @throws Error that names the file and the line, and repeats nothing of a password
 */
export async function readRunAsFile(path: string): Promise<EngineSettings['runAs']> {
  const credentials = new Map<string, Credential>();
  const lines = (await readFile(path, 'utf8')).split(/\r?\n/);
  for (const [index, line] of lines.entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const fail = (reason: string) => new Error(`${path}, line ${index + 1}: ${reason}`);
    const [, ...fields] = /^((?:\\.|[^:\\])+):((?:\\.|[^:\\])+):((?:\\.|[^\\])+)$/.exec(line) ?? [];
    const [database, role, password] = fields.map((field) => field.replace(/\\(.)/g, '$1'));
    if (database === undefined || role === undefined || password === undefined)
      throw fail('expected database:role:password');
    if (fields[0] === '*' || fields[1] === '*')
      throw fail('"*" is not allowed: name each database and role');
    credentials.set(keyOf(database, toDatabaseText(role)), new Password(Buffer.from(password)));
  }
  return (database, role) => credentials.get(keyOf(database, role));
}

function keyOf(database: string, role: string): string {
  return `${database}\0${role}`;
}
