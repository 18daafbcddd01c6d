/** What becomes of a message: forwarded as it comes, held until its beginning tells, or taken whole. */
export type Verdict = 'pass' | 'peek' | 'take';

/** Decides about messages. Frames that are handed out live until the call returns. */
export interface FilterRules {
  /** Called for each header. `at` is where the message begins in the chunk; all of it may not be there yet. */
  header(type: number, length: number, chunk: Buffer, at: number): Verdict;
  /** Called for a message that is peeked at, with its beginning; `peek` asks for more of it. */
  peek(beginning: Buffer): Verdict;
  /** Called with a whole message: gives what is forwarded in its place. */
  take(frame: Buffer): Buffer | undefined;
  /** A message above maxTakenBytes was to be taken: it is dropped while it streams in. */
  tooLarge(length: number): void;
}

const HEADER_BYTES = 5;
const PEEK_STEP = 128;

/**
 * Looks for the few messages of a stream that concern us, and lets everything else through in the
 * chunks in which it came: no copy, no decoding, one header read a message. Behind a length that is
 * none there are no messages any more: all of it passes, for the other side to judge.
 */
export class MessageFilter {
  readonly #rules: FilterRules;
  readonly #maxTakenBytes: number;
  /** Bytes of the current message that are still to be forwarded, or dropped. */
  #passing = 0;
  #dropping = 0;
  /** The beginning of a message that cannot be decided yet, or that is being taken. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  /** How much must be held before the next look at it. */
  #wanted = HEADER_BYTES;
  #verdict: Verdict | undefined;
  #length = 0;

  constructor(rules: FilterRules, maxTakenBytes: number) {
    this.#rules = rules;
    this.#maxTakenBytes = maxTakenBytes;
  }

  /** Whether all that was forwarded are whole messages. */
  get isBetweenMessages(): boolean {
    return this.#passing === 0;
  }

  /** Takes a chunk and gives to `forward`, in order, what goes on: views into the chunk where possible. */
  push(chunk: Buffer, forward: (bytes: Buffer) => void): void {
    if (this.#dropping === 0 && this.#heldBytes === 0) {
      // Nearly every chunk is such: messages that pass, and nothing is held of the last one.
      let at = this.#passing;
      let verdict: Verdict = 'pass';
      while (at + HEADER_BYTES <= chunk.length) {
        const length = frameLength(chunk, at);
        verdict = this.#judge(length, chunk, at);
        if (verdict !== 'pass') break;
        at += length;
      }
      if (at >= chunk.length) {
        this.#passing = at - chunk.length;
        if (chunk.length > 0) forward(chunk);
        return;
      }
      this.#passing = 0;
      this.#divide(chunk, forward, at, verdict === 'pass' ? undefined : verdict);
    } else {
      this.#divide(chunk, forward, 0, undefined);
    }
  }

  /** Takes what is in a chunk from a place on; what is before it passes. */
  #divide(
    chunk: Buffer,
    forward: (bytes: Buffer) => void,
    start: number,
    known: Verdict | undefined,
  ): void {
    let at = start;
    let from = 0;
    const flush = () => {
      if (at > from) forward(from === 0 && at === chunk.length ? chunk : chunk.subarray(from, at));
      from = at;
    };
    while (at < chunk.length) {
      if (this.#passing > 0) {
        const bytes = Math.min(this.#passing, chunk.length - at);
        this.#passing -= bytes;
        at += bytes;
      } else if (this.#dropping > 0) {
        flush();
        const bytes = Math.min(this.#dropping, chunk.length - at);
        this.#dropping -= bytes;
        at += bytes;
        from = at;
      } else if (this.#heldBytes > 0) {
        const bytes = Math.min(this.#wanted - this.#heldBytes, chunk.length - at);
        this.#hold(chunk.subarray(at, at + bytes));
        at += bytes;
        from = at;
        if (this.#heldBytes === this.#wanted) this.#lookAtHeld(forward);
      } else if (chunk.length - at < HEADER_BYTES) {
        flush();
        this.#hold(chunk.subarray(at));
        at = from = chunk.length;
      } else {
        const length = frameLength(chunk, at);
        let verdict = known ?? this.#judge(length, chunk, at);
        known = undefined;
        if (verdict === 'pass') {
          this.#passing = length;
          continue;
        }
        flush();
        const end = at + length;
        if (end <= chunk.length && length <= this.#maxTakenBytes) {
          const frame = chunk.subarray(at, end);
          if (verdict === 'peek') verdict = this.#rules.peek(frame);
          if (verdict === 'take') {
            const replacement = this.#rules.take(frame);
            if (replacement !== undefined) forward(replacement);
            at = from = end;
          } else {
            this.#passing = length;
          }
        } else {
          // Held from its header on; the loop takes in the rest of the chunk.
          this.#hold(chunk.subarray(at, at + HEADER_BYTES));
          at = from = at + HEADER_BYTES;
          this.#startHolding(verdict, length, forward);
        }
      }
    }
    flush();
  }

  /** The stream has ended: what is held of a message that will never be whole goes on as it is. */
  finish(forward: (bytes: Buffer) => void): void {
    const held = this.#held;
    this.#clear();
    for (const bytes of held) forward(bytes);
  }

  #judge(length: number, chunk: Buffer, at: number): Verdict {
    if (length === Infinity) return 'pass';
    return this.#rules.header(chunk[at] as number, length, chunk, at);
  }

  #hold(bytes: Buffer): void {
    this.#held.push(Buffer.from(bytes));
    this.#heldBytes += bytes.length;
  }

  #lookAtHeld(forward: (bytes: Buffer) => void): void {
    const held =
      this.#held.length === 1
        ? (this.#held[0] as Buffer)
        : Buffer.concat(this.#held, this.#heldBytes);
    this.#held = [held];
    if (this.#verdict === undefined) {
      const length = frameLength(held, 0);
      const verdict = this.#judge(length, held, 0);
      if (verdict === 'pass') this.#release(held, length, forward);
      else this.#startHolding(verdict, length, forward);
      return;
    }
    if (this.#verdict === 'peek') {
      const verdict = this.#rules.peek(held);
      if (verdict === 'pass' || (verdict === 'peek' && held.length === this.#length)) {
        this.#release(held, this.#length, forward);
        return;
      }
      this.#startHolding(verdict, this.#length, forward);
      return;
    }
    this.#clear();
    const replacement = this.#rules.take(held);
    if (replacement !== undefined) forward(replacement);
  }

  #startHolding(verdict: Verdict, length: number, forward: (bytes: Buffer) => void): void {
    if (verdict === 'take' && length > this.#maxTakenBytes) {
      const rest = length - this.#heldBytes;
      this.#clear();
      this.#dropping = rest;
      this.#rules.tooLarge(length);
      return;
    }
    this.#verdict = verdict;
    this.#length = length;
    this.#wanted = verdict === 'take' ? length : Math.min(length, this.#heldBytes + PEEK_STEP);
    if (this.#wanted === this.#heldBytes) this.#lookAtHeld(forward);
  }

  #release(held: Buffer, length: number, forward: (bytes: Buffer) => void): void {
    this.#clear();
    this.#passing = length - held.length;
    forward(held);
  }

  #clear(): void {
    this.#held = [];
    this.#heldBytes = 0;
    this.#wanted = HEADER_BYTES;
    this.#verdict = undefined;
    this.#length = 0;
  }
}

/** Length of a message with its type byte; without end where it is none. */
function frameLength(bytes: Buffer, at: number): number {
  const length = bytes.readInt32BE(at + 1);
  return length < 4 ? Infinity : length + 1;
}
