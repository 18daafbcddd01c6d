import type { ReportFields } from './errors.ts';
import type { ColumnType } from './messages.ts';

/** A result that could go to the client while it comes. */
export interface StreamableResult {
  readonly columns: readonly ColumnType[];
  /** DateStyle and its like, as the worker's connection has them. */
  readonly formats: ReadonlyMap<string, string>;
  /** Whether the worker's SQL may change them on its way. */
  readonly mayChangeFormats: boolean;
  /** Whether the session prints floating-point numbers with all their digits, as workers do. */
  readonly hasAllDigits: boolean;
  /** Whether its rows are all there, and so few that they can wait for the end of the statement, which comes at once. */
  readonly isAtOnce: boolean;
  /** The text of the statement that the server runs, if it is short: a text of the database. */
  readonly statement: string | undefined;
}

/** Where rows go in place of through the function that returns them. */
export interface RowSink {
  /**
   * Takes whole DataRow messages, and their memory. @returns a promise that settles when more may come,
   * where the client reads slowly
   */
  rows(frames: Buffer): Promise<void> | undefined;
  /** A notice that the worker has raised between its rows. */
  notice(fields: ReportFields, pid: number): void;
  /** These were all: so many. */
  end(rowCount: number): void;
}
