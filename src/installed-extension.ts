import { setTimeout as delay } from 'node:timers/promises';
import type { TextRows } from './exchange.ts';
import { BackgroundError, toDatabaseText } from './errors.ts';
import { SERVER_CLOCK, type ServerClock } from './server-clock.ts';

const READ_INSTALLATION = `SELECT
  pg_catalog.substring(pg_catalog.obj_description(n.oid, 'pg_namespace'), 'key ([0-9a-f-]{36})$'),
  pg_catalog.pg_has_role(n.nspowner, 'USAGE'),
  (SELECT pg_catalog.json_agg(owner.rolname) FROM pg_catalog.pg_roles AS me, pg_catalog.pg_roles AS owner
    WHERE me.rolname OPERATOR(pg_catalog.=) CURRENT_USER AND me.rolsuper AND NOT owner.rolsuper
      AND (owner.oid OPERATOR(pg_catalog.=) n.nspowner
           OR EXISTS (SELECT FROM pg_catalog.pg_class AS c
                       WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid AND c.relowner OPERATOR(pg_catalog.=) owner.oid))),
  ${SERVER_CLOCK}
  FROM pg_catalog.pg_namespace AS n WHERE n.nspname OPERATOR(pg_catalog.=) 'pgbackground'`;

/** What is committed of the extension in this database. */
export interface Installation {
  /** The ID of the key with which requests are signed; undefined when there is none. */
  readonly keyId: string | undefined;
  /** Whether our role has the privileges of the owner. */
  readonly isOurs: boolean;
  /** False for a superuser where others own the objects that sign, and the operator trusts them not. */
  readonly isTrusted: boolean;
}

/** How often the installation is read at most: requests with foreign keys cost no more than that. */
const READ_INTERVAL_MS = 100;

/** What was read longer ago is read again: another proxy may have changed it. */
const MAX_AGE_MS = 5_000;

/** What a database has of the extension, read through a control link when it is needed. */
export class InstalledExtension {
  readonly #trustedOwners: ReadonlySet<string>;
  readonly #clock: ServerClock;
  readonly #ask: (sql: string) => Promise<TextRows>;
  #latest: Installation | undefined;
  #next: Promise<Installation | undefined> | undefined;
  #lastReadAt = 0;
  /** Whether somebody may have changed it since it was read. */
  #isDoubted = false;

  /** @param clock set with each reading */
  constructor(
    trustedOwners: readonly string[],
    clock: ServerClock,
    ask: (sql: string) => Promise<TextRows>,
  ) {
    this.#trustedOwners = new Set(trustedOwners.map(toDatabaseText));
    this.#clock = clock;
    this.#ask = ask;
  }

  /** What is installed, as it was read since anybody here has changed it, and not long ago. */
  async current(): Promise<Installation | undefined> {
    const isFresh = !this.#isDoubted && Date.now() - this.#lastReadAt <= MAX_AGE_MS;
    return isFresh ? this.#latest : this.read();
  }

  /** Somebody may just have changed what is installed. */
  doubt(): void {
    this.#isDoubted = true;
  }

  /**
   * What is installed now. The answer is never older than the question, and yet few questions reach
   * the server: whoever asks before the next one goes out shares its answer.
   */
  read(): Promise<Installation | undefined> {
    this.#next ??= (async () => {
      await delay(Math.max(0, this.#lastReadAt + READ_INTERVAL_MS - Date.now()));
      this.#next = undefined;
      return this.#readNow();
    })();
    return this.#next;
  }

  /** @throws BackgroundError 42501 where somebody who is not trusted could sign as our role, a superuser */
  checkOwner(): void {
    if (this.#latest?.isTrusted !== false) return;
    throw new BackgroundError(
      '42501',
      'pg_background is not trusted for superusers in this database',
      {
        detail:
          'Its objects belong to a role that is no superuser, and that role could act as you.',
        hint: 'Let a superuser drop and create the extension, log in as another role, or name the owner, as it is written in pg_roles, in trusted_owners of the proxy.',
      },
    );
  }

  async #readNow(): Promise<Installation | undefined> {
    this.#lastReadAt = Date.now();
    this.#isDoubted = false;
    const [row] = await this.#ask(READ_INSTALLATION);
    this.#clock.set(row?.[3]);
    this.#latest = row && {
      keyId: row[0] ?? undefined,
      isOurs: row[1] === 't',
      isTrusted: ownersIn(row[2] ?? null).every((owner) => this.#trustedOwners.has(owner)),
    };
    return this.#latest;
  }
}

/** Names as JSON, in the database's encoding; null for none. */
function ownersIn(names: string | null): readonly string[] {
  return names === null ? [] : (JSON.parse(names) as string[]);
}
