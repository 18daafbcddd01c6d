import { BackgroundError, frameOf, MessageType } from '../src/index.ts';
import { errorResponse } from './replies.ts';

/** What happens to a session's streams while a statement is repeated. */
export interface SessionStreams {
  toServer(bytes: Buffer): void;
  toClient(bytes: Buffer): void;
  /** The client may be heard again: takes what it has sent meanwhile, as if it came now. */
  replayClient(chunks: readonly Buffer[]): void;
}

type State = 'idle' | 'leaving' | 'waiting' | 'repeating';

/** So much of what the client sends is kept; for more it must wait. */
const MAX_HELD_BYTES = 64 * 1024;

/**
 * Runs a statement a second time. Its function waits for a worker, and the worker waits for the
 * session's own snapshot or locks, which go when the statement ends. So the statement ends without
 * the client being told, and is run again when the worker has ended.
 *
 * `idle`: everything passes.
 * `leaving`: the function was told to return; what the client sends is held, and what the statement
 * still answers is dropped. An error of it passes, and that is the end of the matter.
 * `waiting`: the server is done with the statement, the worker is not. Here the proxy watches over
 * statement_timeout and cancel requests.
 * `repeating`: the statement runs again. Its RowDescription was sent the first time.
 */
export class StatementRepeater {
  readonly #streams: SessionStreams;
  #state: State = 'idle';
  #statement: Buffer | undefined;
  #startedAt = 0;
  #timeoutMs = 0;
  #when: Promise<void> | undefined;
  #wasCanceled = false;
  #hasDescription = false;
  #timer: NodeJS.Timeout | undefined;
  #held: Buffer[] = [];
  #heldBytes = 0;

  constructor(streams: SessionStreams) {
    this.#streams = streams;
  }

  /** Whether what the client sends must wait. */
  get isHolding(): boolean {
    return this.#state !== 'idle';
  }

  /** Keeps what the client sends. @returns false when it should send no more for now */
  hold(chunk: Buffer): boolean {
    this.#held.push(Buffer.from(chunk));
    this.#heldBytes += chunk.length;
    return this.#heldBytes <= MAX_HELD_BYTES;
  }

  /** The statement that runs will be repeated as this one. */
  begin(sql: string, startedAt: number): void {
    this.#statement = frameOf(MessageType.query, Buffer.from(`${sql}\0`, 'latin1'));
    this.#startedAt = startedAt;
    this.#when = undefined;
    this.#wasCanceled = false;
    this.#enter('leaving');
  }

  /** Its function returns early; `when` settles when the worker has ended, and never fails. */
  repeatAt(when: Promise<void>, timeoutMs: number): void {
    if (this.#state !== 'leaving') return;
    this.#when = when;
    this.#timeoutMs = timeoutMs;
  }

  /** Whether a message of the server, of this type, is not for the client. */
  drops(type: number): boolean {
    switch (this.#state) {
      case 'leaving':
        return type === MessageType.dataRow || type === MessageType.commandComplete;
      case 'repeating':
        return type === MessageType.rowDescription && !this.#hasDescription;
      case 'idle':
      case 'waiting':
        return false;
    }
  }

  /** Such a message was dropped. */
  dropped(): void {
    this.#hasDescription = true;
  }

  /** The statement has failed: its error passes, and it is not run again. */
  failed(): void {
    this.#when = undefined;
  }

  /** The server is ready for the next. @returns whether the client is not to know, for the statement goes on */
  ready(): boolean {
    if (this.#state === 'leaving' && this.#when !== undefined) {
      this.#enter('waiting');
      return true;
    }
    this.#enter('idle');
    return false;
  }

  /** The statement is over, for the client too: what it has sent meanwhile comes now. */
  release(): void {
    const held = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    this.#streams.replayClient(held);
  }

  /** The client wants no more of it. @returns whether that is taken care of here */
  cancel(): boolean {
    // While the statement leaves, the request may still meet it at the server, or come too late.
    this.#wasCanceled = true;
    if (this.#state !== 'waiting') return false;
    this.#give('canceling statement due to user request');
    return true;
  }

  /** The session has ended. */
  close(): void {
    clearTimeout(this.#timer);
    this.#state = 'idle';
    this.#held = [];
  }

  #enter(state: State): void {
    clearTimeout(this.#timer);
    this.#state = state;
    switch (state) {
      case 'idle':
        this.#statement = undefined;
        return;
      case 'leaving':
        return;
      case 'waiting':
        return this.#wait();
      case 'repeating':
        this.#hasDescription = false;
        return this.#streams.toServer(this.#statement as Buffer);
    }
  }

  #wait(): void {
    if (this.#wasCanceled) return this.#give('canceling statement due to user request');
    if (this.#timeoutMs > 0) {
      const left = this.#startedAt + this.#timeoutMs - Date.now();
      this.#timer = setTimeout(
        () => this.#give('canceling statement due to statement timeout'),
        Math.max(left, 0),
      );
    }
    const when = this.#when;
    void when?.then(() => {
      if (this.#state === 'waiting' && this.#when === when) this.#enter('repeating');
    });
  }

  /** The client is answered here: the server has been done with the statement for long. */
  #give(message: string): void {
    this.#enter('idle');
    this.#streams.toClient(
      Buffer.concat([
        errorResponse('ERROR', new BackgroundError('57014', message)),
        frameOf(MessageType.readyForQuery, Buffer.from('I')),
      ]),
    );
    this.release();
  }
}
