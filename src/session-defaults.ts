import { defaultQueueSize, maxWorkers, workerTimeout } from './setting-value.ts';

/**
 * What SHOW pg_background.… gives before anybody has SET it: startup parameters, for a server without
 * the C extension knows no such settings.
 */
export const sessionDefaults: ReadonlyMap<string, string> = new Map([
  [maxWorkers.name, '16'],
  [defaultQueueSize.name, '64kB'],
  [workerTimeout.name, '0'],
]);

/**
 * Gives the names of what a session should not have been given, if anything. A startup parameter
 * wins over ALTER ROLE … SET and ALTER DATABASE … SET, which are meant to win over a default; and
 * where the C extension is installed, it has its own.
 *
 * It runs in the session itself, whose search_path and transaction defaults are anybody's: a
 * serializable, read-only and deferrable transaction could wait for long.
 */
export const MISPLACED_DEFAULTS = `BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT pg_catalog.lower(pg_catalog.split_part(c.entry, '=', 1))
  FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS c(entry)
 WHERE c.entry OPERATOR(pg_catalog.~*) '^pg_background[.]'
   AND (s.setdatabase OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.setdatabase OPERATOR(pg_catalog.=)
        (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))
   AND (s.setrole OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.setrole OPERATOR(pg_catalog.=)
        (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) SESSION_USER))
UNION ALL
SELECT n.name FROM pg_catalog.unnest(ARRAY['${[...sessionDefaults.keys()].join("','")}']) AS n(name)
 WHERE EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE e.extname OPERATOR(pg_catalog.=) 'pg_background');
COMMIT`;

/** Names of custom settings in a startup packet: as parameters of their own, and within `options`. */
export function customSettingsOf(parameters: ReadonlyMap<string, string>): string[] {
  const named = [...parameters.keys(), ...settingsInOptions(parameters.get('options') ?? '')];
  return named.filter((name) => isCustomSetting(name) && !/^pgbg_proxy\./i.test(name));
}

/** What a client has said itself: our default must not follow, for of two the server takes the later. */
export function namesGivenIn(parameters: ReadonlyMap<string, string>): Set<string> {
  const names = [...parameters.keys(), ...settingsInOptions(parameters.get('options') ?? '')];
  return new Set(names.map((name) => name.toLowerCase()));
}

/** Whether a name is one of a custom setting, `a.b`, that can be asked for and set. */
export function isCustomSetting(name: string): boolean {
  return /^[a-z_][\w$]*(\.[a-z_][\w$]*)+$/i.test(name);
}

/** The settings that command-line options name: `-c name=value`, `--name=value`, with `-` for `_`. */
function settingsInOptions(options: string): string[] {
  const found = options.matchAll(/(?:-c\s*|--)([\w.$-]+)=/g);
  return [...found].map(([, name = '']) => name.replaceAll('-', '_'));
}
