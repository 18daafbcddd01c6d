import { CALLBACK_SQLSTATE } from './callback.ts';
import { BackgroundError, type DatabaseText, type ReportFields } from './errors.ts';
import {
  decodeCommandTag,
  decodeParameterStatus,
  decodeReport,
  decodeRowDescription,
  MessageType,
  type ColumnType,
} from './messages.ts';
import { RowSpool } from './row-spool.ts';
import type { RowStream } from './row-stream.ts';
import type { SpoolBudget } from './spool-budget.ts';

/** Rows beyond this are kept in a file, however large the queue was made. */
const MAX_MEMORY_BYTES = 1024 * 1024;

/** Notices are kept in memory. */
const MAX_NOTICE_BYTES = 16 * 1024 * 1024;

/** Settings that shape values as text: whoever reads the values must have the same. */
const FORMAT_SETTINGS = ['DateStyle', 'IntervalStyle', 'lc_monetary'];

/** What a worker's SQL has said: the rows of its last statement, all tags, all notices. */
export class WorkerOutput {
  /** Types of the last statement's rows; undefined when it returned none. */
  columns: readonly ColumnType[] | undefined;
  readonly tags: DatabaseText[] = [];
  readonly notices: ReportFields[] = [];
  readonly rows: RowSpool;
  /** Settings that shape values as text, as the worker's session had them at its end. */
  readonly formats = new Map<string, string>();
  /** Why the job must end: it says more than may be kept, or what cannot be. */
  failure: Error | undefined;
  /** What the server has reported of the connection's settings. */
  reported = new Map<string, string>();
  /** Where the last statement's rows go now, in place of being kept. */
  stream: RowStream | undefined;
  /** How many statements there are; nothing is known to be the last before that. */
  statements: number | undefined;
  /** Called when the last statement begins to give rows. */
  onLastRows: () => void = () => {};
  #statementsDone = 0;
  #isWanted: boolean;
  #hasRows = false;
  #noticeBytes = 0;
  #isKept: Promise<void> | undefined;

  /** @param settings the session's, which the worker begins with */
  constructor(
    queueBytes: number,
    isWanted: boolean,
    settings: Readonly<Record<string, unknown>>,
    budget: SpoolBudget,
  ) {
    this.rows = new RowSpool(Math.min(queueBytes, MAX_MEMORY_BYTES), budget);
    this.#isWanted = isWanted;
    for (const name of FORMAT_SETTINGS) {
      const value = settings[name];
      if (typeof value === 'string') this.formats.set(name, value);
    }
  }

  /** Takes one message of the server. @returns a promise when no more should come until it settles */
  take(type: number, frame: Buffer): Promise<void> | undefined {
    switch (type) {
      case MessageType.rowDescription:
        this.#takeColumns(decodeRowDescription(frame));
        return undefined;
      case MessageType.dataRow:
        return this.#isWanted && this.failure === undefined ? this.#takeRow(frame) : undefined;
      case MessageType.emptyQueryResponse:
        this.#statementsDone++;
        return undefined;
      case MessageType.commandComplete:
        this.#statementsDone++;
        this.tags.push(decodeCommandTag(frame));
        if (this.#hasRows) this.rows.pauseOfRows();
        else this.#dropRows();
        this.#hasRows = false;
        return undefined;
      case MessageType.noticeResponse:
        this.#takeNotice(decodeReport(frame), frame.length);
        return undefined;
      case MessageType.parameterStatus: {
        const { name, value } = decodeParameterStatus(frame);
        if (this.formats.has(name)) this.formats.set(name, value);
        this.reported.set(name, value);
        return undefined;
      }
      default:
        return undefined;
    }
  }

  /** Settles when all of it is kept, or it is known why it cannot be. */
  async settled(): Promise<void> {
    await this.#isKept;
  }

  /** Nobody will read it: what there is goes, what comes is not kept. */
  async discard(): Promise<void> {
    this.#isWanted = false;
    this.stream?.stop();
    await this.rows.close();
  }

  #takeColumns(columns: readonly ColumnType[]): void {
    this.#dropRows();
    this.columns = columns;
    this.#hasRows = true;
    if (this.#statementsDone + 1 === this.statements) this.onLastRows();
    if (columns.some(({ isBinary }) => isBinary)) {
      this.#fail(new BackgroundError('0A000', 'binary cursors are not supported in pg_background'));
    }
  }

  /** Whether the rows that there are, and those that come, are the result's. */
  get hasLastRows(): boolean {
    return this.#hasRows && this.#statementsDone + 1 === this.statements;
  }

  #takeRow(frame: Buffer): Promise<void> | undefined {
    if (this.stream !== undefined) {
      this.stream.add(frame);
      return undefined;
    }
    try {
      const kept = this.rows.add(frame)?.catch((error: unknown) => this.#fail(error as Error));
      if (kept !== undefined) this.#isKept = kept;
      return kept;
    } catch (error) {
      this.#fail(error as Error);
      return undefined;
    }
  }

  #takeNotice(notice: ReportFields, bytes: number): void {
    if (!this.#isWanted || notice.code === CALLBACK_SQLSTATE) return;
    if (this.stream !== undefined) return this.stream.notice(notice);
    this.#noticeBytes += bytes;
    if (this.#noticeBytes <= MAX_NOTICE_BYTES) {
      this.notices.push(notice);
      return;
    }
    this.#fail(
      new BackgroundError('53400', 'background worker raised too many notices', {
        detail: `The limit is ${MAX_NOTICE_BYTES} bytes.`,
      }),
    );
  }

  /** Only the last statement's rows are kept. */
  #dropRows(): void {
    this.columns = undefined;
    this.rows.reset();
  }

  #fail(reason: Error): void {
    this.failure ??= reason;
    this.rows.reset();
  }
}
