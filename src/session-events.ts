import type { Verb } from './api.ts';
import type { DatabaseText, ReportFields } from './errors.ts';
import type { RowSink, StreamableResult } from './row-sink.ts';

/** The numbers of a statement's messages among all that the client has sent. */
export interface StatementPlace {
  readonly first: number;
  readonly last: number;
}

/** What a session's stream has to be told, so that the client sees what the C extension would show. */
export interface SessionEvents {
  /** A statement that was put in the place of another begins to run. */
  replacementBegan(): void;
  /** It ends well: the next CommandComplete is its, and this is the tag of the original. */
  tagReplaced(tag: string): void;
  /** A function is about to raise this error; `pid` when it is a worker's. */
  errorRaised(error: ReportFields, pid: number | undefined): void;
  /** A function is about to raise a worker's notices again. */
  noticesRaised(notices: readonly ReportFields[], pid: number): void;
  /** A function will get no answer, for this reason, and raise 53000. */
  unanswered(reason: ReportFields): void;
  /**
   * Whether the statement that runs is nothing but this call, so that it can end now and be run
   * again when the worker has ended. If so, nothing that the client sends reaches the server before.
   */
  canRepeat(verb: Verb, worker: { readonly pid: number; readonly cookie: string }): boolean;
  /**
   * Where the statement that runs stands, if it is nothing but a result of a launch and cannot have changed a
   * setting; undefined for any other.
   * @param statement the text that the server runs, as the function has told it
   */
  plainPlace(statement: DatabaseText | undefined): StatementPlace | undefined;
  /**
   * Where a result's rows can go while they come, if the statement that runs is nothing but this call and
   * the client would be sent the same bytes; undefined where the function must return them.
   */
  stream(verb: Verb, result: StreamableResult): RowSink | undefined;
  /** The function returns early: its statement is to be run again at this time. */
  repeat(when: Promise<void>, timeoutMs: number): void;
}
