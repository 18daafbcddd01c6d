import type { DatabaseText } from './errors.ts';

const LEAVES_TRACES = /\b(set|set_config|load|call|do|dblink\w*|create\s+temp|lo_\w+)\b/i;
const CHANGES_FORMATS = /\b(re)?set(_config)?\b|\bdiscard\b/i;

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

/** Whether SQL may leave something in its session that DISCARD ALL does not remove, or hides what it does. */
export function mayLeaveTraces(sql: DatabaseText): boolean {
  return LEAVES_TRACES.test(sql);
}

/** Whether SQL may change how the rows behind it are written. */
export function mayChangeFormats(sql: DatabaseText): boolean {
  return CHANGES_FORMATS.test(sql);
}
