import type { BackendConnection } from './backend-connection.ts';

/** Random texts that a session's backend knows from its startup packet. */
export interface SessionMarks {
  /** Stands in each request: it is this session's. */
  readonly token: string;
  /** Stands in none: who sees requests and answers, in a log for one, cannot open them. */
  readonly seal: string;
}

/** The session that a worker's connection is itself: its marks, and its beginning and end. */
export interface CallbackHook {
  readonly marks: SessionMarks;
  /** Listens to the connection's notices. */
  attach(connection: BackendConnection): void;
  /** Forgets what one job has left. */
  reset(): Promise<void>;
}
