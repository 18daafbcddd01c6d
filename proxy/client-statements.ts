import { decodeRowDescription, MessageType, type ColumnType } from '../src/index.ts';
import { ExtendedQuery } from './extended-query.ts';
import { LoneQuery } from './lone-query.ts';
import { PendingAnswers } from './pending-answers.ts';
import type { StatementText } from './statement-text.ts';

/** Longer messages of the extended protocol are not looked at. */
const MAX_FOLLOWED_BYTES = 64 * 1024;

const NO_COLUMNS: readonly ColumnType[] = [];

/** What a client has asked and is not answered yet, as far as it shows which statement the server runs. */
export class ClientStatements {
  readonly pending = new PendingAnswers();
  readonly #extended = new ExtendedQuery();
  #lone: LoneQuery | undefined;
  /** The columns of what runs, as the client was told. */
  #columns = NO_COLUMNS;
  #messageCount = 0;
  /** What is known of the last message: whether all before it was answered, and outside a transaction block. */
  #isFirst = false;
  #isInTransaction = false;

  /** A simple Query that mentions us, to which nothing was sent before or behind it that is unanswered. */
  get lone(): LoneQuery | undefined {
    return this.#lone;
  }

  /** Whether the columns of what comes next are to be shown. */
  get awaitsColumns(): boolean {
    return this.#lone !== undefined || this.#extended.current !== undefined;
  }

  get columns(): readonly ColumnType[] {
    return this.#extended.current?.columns ?? this.#columns;
  }

  /**
   * The statement that the server runs, alone and with all columns as text, when this is the text that the server
   * has of it: of a prepared one only the server knows.
   */
  running(text: string | undefined): StatementText | undefined {
    if (this.#lone !== undefined) return this.#lone;
    const { running } = this.#extended;
    return running?.text === text ? running : undefined;
  }

  /** The client has sent a message of this type. */
  sent(type: number): void {
    this.#messageCount++;
    this.#lone = undefined;
    this.#isFirst = this.pending.areNone;
    this.#isInTransaction = !this.pending.isIdle;
    this.pending.sent(type);
  }

  /** Whether that message, whatever it is, is to be shown in all its length. @param length its bytes */
  wants(type: number, length: number): boolean {
    if (!this.#extended.isFollowing) return false;
    if (!FOLLOWED.has(type)) {
      this.#extended.sent(type, NOTHING, 0, 0, this.#isFirst);
      return false;
    }
    if (length <= MAX_FOLLOWED_BYTES) return true;
    this.#extended.passed();
    return false;
  }

  /** That message, which lies in `bytes`. @returns whether what it begins, or goes on with, is to be followed */
  look(type: number, bytes: Buffer, from: number, to: number, text?: string): boolean {
    if (type === MessageType.query && text !== undefined && this.#isFirst)
      this.#lone = new LoneQuery(text.slice(0, -1), this.#isInTransaction, this.#messageCount);
    if (type === MessageType.parse || this.#extended.isFollowing)
      this.#extended.sent(type, bytes, from, to, this.#isFirst, text);
    return this.#extended.current !== undefined;
  }

  /** RowDescription. */
  described(frame: Buffer): void {
    this.#columns = decodeRowDescription(frame);
    this.#extended.described(this.#columns);
  }

  /** ErrorResponse. */
  failed(): void {
    this.pending.failed();
    this.#extended.failed();
  }

  /** ReadyForQuery. */
  ready(status: number | undefined): void {
    this.pending.ready(status);
  }

  /** What ran has ended, and the server is ready. */
  ended(): void {
    this.#lone = undefined;
    this.#columns = NO_COLUMNS;
    this.#extended.ended();
  }
}

const NOTHING = Buffer.alloc(0);

/** Messages that say more than their type. */
const FOLLOWED: ReadonlySet<number> = new Set([
  MessageType.parse,
  MessageType.bind,
  MessageType.describe,
  MessageType.execute,
  MessageType.close,
]);
