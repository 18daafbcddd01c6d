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

/*
 * A startup parameter wins over ALTER ROLE … SET and ALTER DATABASE … SET, which are meant to win over
 * a default; and where the C extension is installed, it has its own. Whether our defaults are in the
 * way is asked in the session itself, whose search_path and transaction defaults are anybody's: a
 * serializable, read-only and deferrable transaction could wait for long.
 */
const ask = (query: string) => `BEGIN ISOLATION LEVEL READ COMMITTED; ${query}; COMMIT`;

const HAS_EXTENSION = `EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE e.extname OPERATOR(pg_catalog.=) 'pg_background')`;

/** Gives a row if our defaults may be in the way of anybody in this database. Cheap: a session waits for it. */
export const MAY_BE_MISPLACED = ask(`SELECT 1 FROM pg_catalog.pg_db_role_setting AS s
 WHERE s.setconfig::pg_catalog.text OPERATOR(pg_catalog.~*) 'pg_background[.]'
UNION ALL SELECT 1 WHERE ${HAS_EXTENSION}`);

/** Gives the names of what this session should not have been given. */
export const MISPLACED_DEFAULTS =
  ask(`SELECT pg_catalog.lower(pg_catalog.split_part(c.entry, '=', 1))
  FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS c(entry)
 WHERE c.entry OPERATOR(pg_catalog.~*) '^pg_background[.]'
   AND (s.setdatabase OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.setdatabase OPERATOR(pg_catalog.=)
        (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))
   AND (s.setrole OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.setrole OPERATOR(pg_catalog.=)
        (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) SESSION_USER))
UNION ALL
SELECT n.name FROM pg_catalog.unnest(ARRAY['${[...sessionDefaults.keys()].join("','")}']) AS n(name) WHERE ${HAS_EXTENSION}`);

/** How long an answer holds that nobody in a database has anything of his own. */
const TRUST_MS = 1_000;

/** What is known of the defaults that sessions should not be given. */
export class MisplacedDefaults {
  /** By login: what its sessions have of their own. */
  readonly #names = new Map<string, readonly string[]>();
  /** By database: when it was found that nobody has. */
  readonly #clearedAt = new Map<string, number>();

  /** The defaults for a session of a login. */
  defaultsFor(login: string, isGiven: (name: string) => boolean): [string, string][] {
    const names = this.#names.get(login) ?? [];
    return [...sessionDefaults].filter(([name]) => !isGiven(name) && !names.includes(name));
  }

  /** Whether a session need not ask, for another has just done so. */
  isClear(login: string, database: string): boolean {
    const clearedAt = this.#clearedAt.get(database);
    return !this.#names.has(login) && clearedAt !== undefined && Date.now() - clearedAt < TRUST_MS;
  }

  /** Nobody in the database has anything of his own. */
  clear(login: string, database: string): void {
    this.#names.delete(login);
    this.#clearedAt.set(database, Date.now());
  }

  /** A login's sessions have these of their own. */
  note(login: string, names: readonly string[]): void {
    if (names.length > 0) this.#names.set(login, names);
    else this.#names.delete(login);
  }

  /** Somebody may just have changed that: the next session asks. */
  doubt(): void {
    this.#clearedAt.clear();
  }
}

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
