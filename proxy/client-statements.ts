import {
  decodeRowDescription,
  MessageType,
  type ColumnType,
  type StatementPlace,
} from '../src/index.ts';
import { ExtendedQuery } from './extended-query.ts';
import { LoneQuery } from './lone-query.ts';
import { PendingAnswers } from './pending-answers.ts';
import type { StatementText } from './statement-text.ts';

const NO_COLUMNS: readonly ColumnType[] = [];

/** What a client has asked and is not answered yet, as far as it shows which statement the server runs. */
export class ClientStatements {
  readonly #pending = new PendingAnswers();
  readonly #extended = new ExtendedQuery();
  #lone: LoneQuery | undefined;
  /** The columns of what runs, as the client was told. */
  #columns = NO_COLUMNS;
  /** How many messages there were, and the number of the first since all was answered. */
  #messageCount = 0;
  #firstUnanswered = 0;
  /** What is known of the last message: whether all before it was answered, and outside a transaction block. */
  #allAnswered = false;
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
    return this.#lone !== undefined
      ? this.#columns
      : (this.#extended.current?.columns ?? NO_COLUMNS);
  }

  /**
   * The statement that the server runs, alone and with all columns as text. One that was prepared only if this is
   * the text that the server has of it: what is known here is its name.
   */
  running(text: string | undefined): StatementText | undefined {
    if (this.#lone !== undefined) return this.#lone;
    const { running } = this.#extended;
    return running?.text === text ? running : undefined;
  }

  /** Whether the session is outside a transaction block, and has been asked nothing since. */
  get isIdle(): boolean {
    return this.#pending.isIdle;
  }

  /** Where the statement stands that running() gives. */
  get place(): StatementPlace {
    return { first: this.#firstUnanswered, last: this.#messageCount };
  }

  /** The client has sent a message of this type. */
  sent(type: number): void {
    this.#messageCount++;
    this.#lone = undefined;
    this.#allAnswered = this.#pending.areNone;
    this.#isInTransaction = !this.#pending.isIdle;
    if (this.#allAnswered) this.#firstUnanswered = this.#messageCount;
    this.#pending.sent(type);
  }

  /** Whether messages that mention nothing of ours have to be shown as well, or be said to be unseen. */
  get isFollowing(): boolean {
    return this.#extended.isFollowing;
  }

  /** That message is forwarded, and was not looked at. */
  unseen(type: number): void {
    this.#extended.unseen(type);
  }

  /**
   * That message, which lies in `bytes`.
   * @param text what textThatMentions() gave, for a Query or Parse
   * @returns whether it has to do with a statement that is followed
   */
  seen(type: number, bytes: Buffer, from: number, to: number, text?: string): boolean {
    if (type === MessageType.query) {
      if (text !== undefined && this.#allAnswered)
        this.#lone = new LoneQuery(text.slice(0, -1), this.#isInTransaction);
      this.#extended.unseen(type);
      return false;
    }
    this.#extended.sent(type, bytes, from, to, this.#allAnswered, text);
    return this.#extended.current !== undefined;
  }

  /** RowDescription. */
  described(frame: Buffer): void {
    this.#columns = decodeRowDescription(frame);
    this.#extended.described(this.#columns);
  }

  /** BindComplete. */
  bound(): void {
    this.#extended.bound();
  }

  /** CopyInResponse. */
  copyBegan(): void {
    this.#pending.copyBegan();
  }

  /** ErrorResponse. */
  failed(): void {
    this.#lone = undefined;
    this.#pending.failed();
    this.#extended.failed();
  }

  /** ReadyForQuery. */
  ready(status: number | undefined): void {
    this.#pending.ready(status);
  }

  /** What ran has ended, and the server is ready. */
  ended(): void {
    this.#lone = undefined;
    this.#columns = NO_COLUMNS;
    this.#extended.ended();
  }
}
