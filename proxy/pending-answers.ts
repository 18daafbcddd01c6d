import { MessageType } from '../src/index.ts';

/** ReadyForQuery outside a transaction block. */
const IDLE = 'I'.charCodeAt(0);

/**
 * What a client has asked that is not answered yet: how many ReadyForQuery are to come, and in what
 * state the last one has left the session. A message too many means only that the session never
 * counts as idle again, so where the client does what no client does, it is counted.
 */
export class PendingAnswers {
  /** ReadyForQuery messages that are to come; the first one ends the startup. */
  #expected = 1;
  /** Whether messages of the extended protocol were sent behind the last that ReadyForQuery answers. */
  #hasUnsynced = false;
  /** The transaction status of the last ReadyForQuery, if nothing was sent since. */
  #status: number | undefined;
  /** Syncs behind the last statement that may turn out to be a COPY, and have not met its end. */
  #syncs = 0;
  /** ReadyForQuery messages to come for what was asked before the last statement. */
  #before = 0;
  /** Whether the client has already ended that COPY. */
  #hasEndedCopy = false;
  /** Whether the server takes data: it ignores a Sync then. */
  #isCopying = false;

  /** Whether everything was answered that was asked. */
  get areNone(): boolean {
    return this.#expected === 0 && this.#status !== undefined;
  }

  /** Whether the session is outside a transaction block, and has been asked nothing since. */
  get isIdle(): boolean {
    return this.#expected === 0 && this.#status === IDLE;
  }

  /** The client has sent a message of this type. */
  sent(type: number): void {
    this.#status = undefined;
    switch (type) {
      case MessageType.query:
      case MessageType.functionCall:
        this.#hasUnsynced = false;
        this.#statementSent();
        this.#expected++;
        return;
      case MessageType.parse:
      case MessageType.bind:
      case MessageType.describe:
      case MessageType.close:
        this.#hasUnsynced = true;
        return;
      case MessageType.execute:
        this.#hasUnsynced = true;
        return this.#statementSent();
      case MessageType.sync:
        if (this.#isCopying) return;
        this.#expected++;
        this.#hasUnsynced = false;
        if (!this.#hasEndedCopy) this.#syncs++;
        return;
      case MessageType.copyDone:
      case MessageType.copyFail:
        this.#isCopying = false;
        this.#hasEndedCopy = true;
        return;
    }
  }

  #statementSent(): void {
    this.#before = this.#expected;
    this.#syncs = 0;
    this.#hasEndedCopy = false;
  }

  /** CopyInResponse: a Sync that came before the end of the data, as from libpq, gets no answer. */
  copyBegan(): void {
    // Of an earlier statement: those Syncs are not its own.
    if (this.#before > 0) return;
    this.#expected -= this.#syncs;
    this.#syncs = 0;
    this.#isCopying = !this.#hasEndedCopy;
  }

  /** ErrorResponse: ends a COPY, too. */
  failed(): void {
    this.#isCopying = false;
  }

  /** ReadyForQuery; undefined where its transaction status is not for the client to know. */
  ready(status: number | undefined): void {
    this.#expected = Math.max(this.#expected - 1, 0);
    this.#before = Math.max(this.#before - 1, 0);
    this.#status = this.#expected === 0 && !this.#hasUnsynced ? status : undefined;
    this.#isCopying = false;
  }
}
