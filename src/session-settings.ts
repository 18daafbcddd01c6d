import type { BackendConnection } from './backend-connection.ts';
import { ServerError, type DatabaseText } from './errors.ts';
import type { SentSettings } from './sent-settings.ts';
import { sessionDefaults } from './session-defaults.ts';

/** Settings by name, as pg_settings gives them: values in the setting's base unit. */
export type SettingValues = ReadonlyMap<string, DatabaseText>;

/** A name and its value. */
export type Setting = readonly [name: string, value: DatabaseText];

const READ_ALL = `SELECT s.name, s.setting FROM pg_catalog.pg_show_all_settings() AS s
 WHERE s.context OPERATOR(pg_catalog.=) 'user' OR s.context OPERATOR(pg_catalog.=) 'superuser'`;

/** Whatever the role has set: how long a connection of ours may wait is not for it to say. */
export const IDLE_SESSION_TIMEOUT = 'idle_session_timeout';

/**
 * Go along in the moment in which the SQL is sent. Before, the one could end the connection, and the other
 * would name the session where a connection only waits. Neither can fail, or change what the SQL does.
 */
const WITH_THE_SQL = [IDLE_SESSION_TIMEOUT, 'application_name'];

/**
 * What does not go along: the transaction's own, the identity (which the worker gets in another way)
 * and the client's encoding, for a worker speaks the database's.
 */
const NOT_INHERITED =
  /^(transaction_(isolation|read_only|deferrable)|role|session_authorization|seed|is_superuser|client_encoding|idle_session_timeout|application_name)$/;

/** Reads a connection's own settings. */
export async function readBaseline(connection: BackendConnection): Promise<SettingValues> {
  const rows = await connection.query(READ_ALL);
  return new Map(rows.map(([name, value]) => [String(name), value ?? '']));
}

/** What settingsToReplay() has given: most launches of a session ask for the same. */
const replays = new WeakMap<SettingValues, WeakMap<SentSettings, readonly Setting[]>>();

/** The settings that must be changed in a connection for it to have the session's. */
export function settingsToReplay(
  baseline: SettingValues,
  session: SentSettings,
): readonly Setting[] {
  const known = replays.get(baseline) ?? new WeakMap<SentSettings, readonly Setting[]>();
  replays.set(baseline, known);
  const changes = known.get(session) ?? changesOf(baseline, session);
  known.set(session, changes);
  return changes;
}

function changesOf(baseline: SettingValues, session: SentSettings): readonly Setting[] {
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

/** A statement to be sent right before the SQL; empty where nothing is to be set. */
export function settingsWithTheSql(baseline: SettingValues, session: SentSettings): string {
  const settings = WITH_THE_SQL.flatMap((name): Setting[] => {
    const value = session[name];
    return typeof value === 'string' && value !== baseline.get(name) ? [[name, value]] : [];
  });
  return settings.length === 0 ? '' : setAll(settings);
}

/** The custom settings that must be set: a worker's connection has none but our defaults. */
export function customToReplay(session: Readonly<Record<string, unknown>>): Setting[] {
  return Object.entries(session).filter(
    (entry): entry is [string, DatabaseText] =>
      typeof entry[1] === 'string' && sessionDefaults.get(entry[0]) !== entry[1],
  );
}

/** Whether a job gets any that DISCARD ALL makes empty, which is not the same as never set. */
export function hasCustomSettings(session: Readonly<Record<string, unknown>>): boolean {
  return customToReplay(session).some(([name]) => !sessionDefaults.has(name));
}

/**
 * Puts settings, and last the role, on a connection. When it returns, the server has confirmed all.
 * A setting that only a superuser may change is left out where the role may not: the session has got
 * it in a way that a worker of the same role cannot repeat.
 * @param mustReset whether the connection carries settings of an earlier job
 * @returns the settings that it has now
 */
export async function replay(
  connection: BackendConnection,
  settings: readonly Setting[],
  role: DatabaseText | undefined,
  mustReset: boolean,
): Promise<readonly Setting[]> {
  const before = mustReset ? ['RESET ALL'] : [];
  const steps: Setting[] = role === undefined ? [...settings] : [...settings, ['role', role]];
  try {
    await connection.queryEach([...before, ...(steps.length > 0 ? [setAll(steps)] : [])]);
    return settings;
  } catch (error) {
    if (!(error instanceof ServerError) || error.fields.code !== '42501' || connection.isClosed)
      throw error;
    const put: Setting[] = [];
    for (const step of settings) {
      try {
        await connection.query(setAll([step]));
        put.push(step);
      } catch (failure) {
        if (!(failure instanceof ServerError) || failure.fields.code !== '42501') throw failure;
      }
    }
    if (role !== undefined) await connection.query(setAll([['role', role]]));
    return put;
  }
}

/**
 * Removes what a job has left in a connection, and puts the settings on again that it was given: the
 * next job of its session will want the same.
 */
export function discardAll(
  connection: BackendConnection,
  settings: readonly Setting[],
): Promise<void> {
  const texts = ['DISCARD ALL'];
  return connection.queryEach(settings.length > 0 ? [...texts, setAll(settings)] : texts);
}

/** Whether two lists say the same, in the same order. */
export function areSameSettings(some: readonly Setting[], others: readonly Setting[]): boolean {
  return (
    some === others ||
    (some.length === others.length &&
      some.every(([name, value], at) => name === others[at]?.[0] && value === others[at][1]))
  );
}

function setAll(steps: readonly Setting[]): string {
  return `SELECT ${steps.map(setConfig).join(', ')}`;
}

function setConfig([name, value]: Setting): string {
  return `pg_catalog.set_config(${literal(name)}, ${literal(value)}, false)`;
}

/** A literal that means the same whatever standard_conforming_strings and backslash_quote are. */
function literal(text: DatabaseText): string {
  return `E'${text.replace(/[\\']/g, '$&$&')}'`;
}
