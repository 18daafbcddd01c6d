import {
  BackendConnection,
  BackgroundError,
  reportFieldsOf,
  type Credential,
  type LoginTarget,
  type Logger,
  type TextRows,
} from '../src/index.ts';

/** What the query is, and who asks it. */
export interface AuthQuerySettings {
  /** Gives (name, secret) for a name, `$1`. */
  readonly sql: string;
  readonly target: LoginTarget;
  /** What the asking role logs in with: asked at each login, for it may change. */
  readonly credential: () => Promise<Credential | undefined>;
  readonly timeoutMs: number;
}

/**
 * Settings of the connection that asks. Nothing of a client's gets there, and what role and database
 * have set is overruled: names without a schema are the server's own.
 */
const SETTINGS = {
  application_name: 'pg-background-proxy auth_query',
  search_path: 'pg_catalog, pg_temp',
  client_encoding: 'UTF8',
  idle_session_timeout: '0',
  client_min_messages: 'error',
} as const;

const STATEMENT = 'auth_query';

/** Asks the server for the secrets of users, by PgBouncer's auth_query, on one connection of its own. */
export class AuthQuery {
  readonly #settings: AuthQuerySettings;
  readonly #logger: Logger;
  #connection: Promise<BackendConnection> | undefined;

  constructor(settings: AuthQuerySettings, logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
  }

  /**
   * The secret of a user; undefined when there is none.
   * @throws BackgroundError 08006 when the query cannot be asked, or fails: the reason is in the log only
   */
  async secretOf(user: string): Promise<string | undefined> {
    const name = Buffer.from(user, 'utf8').toString('latin1');
    let rows: TextRows;
    try {
      rows = await this.#ask(Buffer.from(user, 'utf8'));
    } catch (error) {
      // Nearly always the operator's mistake: no stack helps him.
      const { code, message } = reportFieldsOf(error);
      this.#logger.error(
        { user, code, database: this.#settings.target.database },
        `auth_query failed: ${message}; its search_path is pg_catalog: names elsewhere need a schema`,
      );
      throw new BackgroundError('08006', 'the proxy could not look up the user', {
        hint: 'The log of the proxy says why.',
      });
    }
    const [row] = rows;
    if (row === undefined) return undefined;
    // A query that does not look at its parameter lets nobody in as somebody else.
    if (rows.length > 1 || row.length !== 2 || row[0] !== name) {
      this.#logger.warn(
        { user, rows: rows.length, columns: row.length },
        'auth_query must give one row, name and secret of the user that it was asked for: not let in',
      );
      return undefined;
    }
    return row[1] ?? undefined;
  }

  async close(): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined);
    await connection?.close();
  }

  async #ask(user: Buffer): Promise<TextRows> {
    for (let isFirst = true; ; isFirst = false) {
      const wasOpen = this.#connection !== undefined;
      const connection = await this.#connected();
      try {
        // A parameter in binary format: bytes that no parser looks at.
        const answer = connection.execute(STATEMENT, [user]);
        return await connection.answersWithin(this.#settings.timeoutMs, answer);
      } catch (error) {
        // One that was lost while nobody asked: the next one serves.
        if (!(isFirst && wasOpen && connection.isClosed)) throw error;
        await connection.closed;
      }
    }
  }

  #connected(): Promise<BackendConnection> {
    if (this.#connection === undefined) {
      const opening = this.#open();
      const forget = () => {
        if (this.#connection === opening) this.#connection = undefined;
      };
      opening.then((connection) => connection.closed.then(forget), forget);
      this.#connection = opening;
    }
    return this.#connection;
  }

  async #open(): Promise<BackendConnection> {
    const { sql, target, credential, timeoutMs } = this.#settings;
    const connection = await BackendConnection.open(
      target,
      await credential(),
      SETTINGS,
      timeoutMs,
    );
    try {
      await connection.answersWithin(timeoutMs, connection.prepare(STATEMENT, sql));
      return connection;
    } catch (error) {
      await connection.close();
      throw error;
    }
  }
}
