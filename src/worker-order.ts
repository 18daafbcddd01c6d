import type { DatabaseText } from './errors.ts';

/** What list_v2 shows. `stopped` is a good end. */
export type WorkerState = 'starting' | 'running' | 'stopped' | 'canceled' | 'error';

/** What a launch asks for. Texts are bytes of the database's encoding. */
export interface WorkerOrder {
  readonly sql: DatabaseText;
  /** What the session has set, see session_settings() in sql/. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Custom settings of the session, see custom_settings() in sql/. */
  readonly custom: Readonly<Record<string, unknown>>;
  /** The role to take on after the login; undefined for the login's own. */
  readonly role: DatabaseText | undefined;
  readonly roleOid: number;
  /** The role that the connection must have logged in as. */
  readonly loginOid: number;
  readonly cookie: string;
  readonly queueBytes: number;
  /** 0: no limit but the session's statement_timeout. */
  readonly timeoutMs: number;
  /** submit_v2: rows are discarded, and nobody will ask for a result. */
  readonly isSubmitted: boolean;
}

/** How far a worker's SQL says it is. */
export interface Progress {
  readonly pct: number;
  readonly message: DatabaseText;
}
