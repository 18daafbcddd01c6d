import type { BackendConnection } from './backend-connection.ts';
import { ServerError, type DatabaseText } from './errors.ts';
import { sessionDefaults } from './session-defaults.ts';

/** Settings by name, as pg_settings gives them: values in the setting's base unit. */
export type SettingValues = ReadonlyMap<string, DatabaseText>;

/** Makes a connection speak the database's encoding; what it logged in with is SQL_ASCII. */
export const SPEAK_DATABASE_ENCODING = `SELECT pg_catalog.set_config('client_encoding', pg_catalog.getdatabaseencoding(), false)`;

const READ_ALL = `SELECT s.name, s.setting FROM pg_catalog.pg_show_all_settings() AS s
 WHERE s.context OPERATOR(pg_catalog.=) 'user' OR s.context OPERATOR(pg_catalog.=) 'superuser'`;

/** Goes along in the moment in which the SQL is sent: before, it could end the connection. */
export const IDLE_SESSION_TIMEOUT = 'idle_session_timeout';

/**
 * What does not go along: the transaction's own, the identity (which the worker gets in another way)
 * and the client's encoding, for a worker speaks the database's.
 */
const NOT_INHERITED =
  /^(transaction_(isolation|read_only|deferrable)|role|session_authorization|seed|is_superuser|client_encoding|idle_session_timeout)$/;

/** Reads a connection's own settings, and makes it speak the database's encoding. */
export async function readBaseline(connection: BackendConnection): Promise<SettingValues> {
  const [, rows] = await Promise.all([
    connection.query(SPEAK_DATABASE_ENCODING),
    connection.query(READ_ALL),
  ]);
  return new Map(rows.map(([name, value]) => [String(name), value ?? '']));
}

/** The settings that must be changed in a connection for it to have the session's. */
export function settingsToReplay(
  baseline: SettingValues,
  session: Readonly<Record<string, unknown>>,
): [string, DatabaseText][] {
  // Values travel as text: below 1, floating-point numbers would lose digits on their way.
  if (Number(session['extra_float_digits']) < 1) session = { ...session, extra_float_digits: '1' };
  // In other styles a time zone is an abbreviation, which may mean another zone to the reader.
  const order = /, (\w+)$/.exec(String(session['DateStyle']))?.[1];
  if (order !== undefined) session = { ...session, DateStyle: `ISO, ${order}` };
  return Object.entries(session).filter(
    (entry): entry is [string, DatabaseText] =>
      typeof entry[1] === 'string' &&
      !NOT_INHERITED.test(entry[0]) &&
      baseline.get(entry[0]) !== entry[1],
  );
}

/** The custom settings that must be set: a worker's connection has none but our defaults. */
export function customToReplay(
  session: Readonly<Record<string, unknown>>,
): [string, DatabaseText][] {
  return Object.entries(session).filter(
    (entry): entry is [string, DatabaseText] =>
      typeof entry[1] === 'string' && sessionDefaults.get(entry[0]) !== entry[1],
  );
}

/**
 * Puts settings, and last the role, on a connection. When it returns, the server has confirmed all.
 * A setting that only a superuser may change is left out where the role may not: the session has got
 * it in a way that a worker of the same role cannot repeat.
 */
export async function replay(
  connection: BackendConnection,
  settings: readonly (readonly [string, DatabaseText])[],
  role: DatabaseText | undefined,
): Promise<void> {
  const steps: (readonly [string, DatabaseText])[] =
    role === undefined ? [...settings] : [...settings, ['role', role]];
  if (steps.length === 0) return;
  try {
    await connection.query(`SELECT ${steps.map(setConfig).join(', ')}`);
  } catch (error) {
    if (!(error instanceof ServerError) || error.fields.code !== '42501' || connection.isClosed)
      throw error;
    for (const step of settings) {
      await connection.query(`SELECT ${setConfig(step)}`).catch((failure: unknown) => {
        if (!(failure instanceof ServerError) || failure.fields.code !== '42501') throw failure;
      });
    }
    if (role !== undefined) await connection.query(`SELECT ${setConfig(['role', role])}`);
  }
}

function setConfig([name, value]: readonly [string, DatabaseText]): string {
  return `pg_catalog.set_config(${literal(name)}, ${literal(value)}, false)`;
}

/** A literal that means the same whatever standard_conforming_strings and backslash_quote are. */
function literal(text: DatabaseText): string {
  return `E'${text.replace(/[\\']/g, '$&$&')}'`;
}
