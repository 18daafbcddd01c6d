import { createHash } from 'node:crypto';
import { BackgroundError } from './errors.ts';
import { NARROW_BYTES, sealPacket, type ReplyAddress } from './callback.ts';

/** How long the asking function may take to read a packet before it counts as gone. */
const READ_TIMEOUT_MS = 6_000;

/** Why work on an answer ends: nobody waits for it any more. */
export const ABANDONED = new BackgroundError('57014', 'the call that asked is gone');

/** A part of an answer, sealed, as the control link shows it. */
export interface Packet {
  readonly text: string;
  /** Shown as query text, not as application_name. */
  readonly isWide: boolean;
  /** Counts from 1 within the conversation. */
  readonly number: number;
}

/**
 * One request of a function and what it is still told. The function reads a packet, acknowledges
 * it and waits for the next; when it was told to wait for news, it reports when it is awake again.
 * A conversation ends when its statement does, whether it was finished or not.
 */
export class Conversation {
  readonly #nonce: string;
  readonly #seed: Buffer;
  readonly #wide: boolean;
  /** The key of the advisory lock on which the function sleeps while its answer takes long. */
  readonly wakeKey: string;
  #packet = 0;
  #isAbandoned = false;
  #onRead: ((packet: number) => void) | undefined;
  #onAwake: (() => void) | undefined;
  #wasAwake = false;
  readonly #abandonment = new AbortController();

  /** @param seal the session's: the half of the seed that does not stand in the request */
  constructor({ nonce, seed, isWide, wakeKey }: ReplyAddress, seal: string) {
    this.#nonce = nonce;
    this.#seed = createHash('sha256').update(seed).update(seal, 'latin1').digest();
    this.#wide = isWide;
    this.wakeKey = wakeKey;
  }

  get isWide(): boolean {
    return this.#wide;
  }

  get nonce(): string {
    return this.#nonce;
  }

  /** Aborts when nobody waits for the answer any more. */
  get abandoned(): AbortSignal {
    return this.#abandonment.signal;
  }

  abandon(): void {
    if (this.#isAbandoned) return;
    this.#isAbandoned = true;
    this.#abandonment.abort(ABANDONED);
  }

  acknowledge(packet: number): void {
    this.#onRead?.(packet);
  }

  /** The function has said something that only the last packet can have told it. */
  acknowledgeLast(): void {
    this.#onRead?.(this.#packet);
  }

  awake(): void {
    this.#wasAwake = true;
    this.#onAwake?.();
  }

  /** A message as the packets to show one after the other, each sealed when its turn comes. */
  *packets(message: Buffer, wideBytes: number): Generator<Packet> {
    const isWide = this.#wide && wideBytes > NARROW_BYTES;
    const size = isWide ? wideBytes : NARROW_BYTES;
    for (let at = 0; at === 0 || at < message.length; at += size) {
      const number = ++this.#packet;
      const more = at + size < message.length;
      const text = sealPacket(
        this.#nonce,
        this.#seed,
        number,
        more,
        message.subarray(at, at + size),
      );
      yield { text, isWide, number };
    }
  }

  /** Settles when the function has read this packet. @throws BackgroundError when it never will */
  async read(number: number): Promise<void> {
    await this.#until((done) => {
      this.#onRead = (packet) => {
        if (packet === number) done();
      };
    }, READ_TIMEOUT_MS);
    this.#onRead = undefined;
  }

  /** Settles when the function that waits for news has woken up. */
  async untilAwake(): Promise<void> {
    await this.#until((done) => {
      if (this.#wasAwake) done();
      else this.#onAwake = done;
    });
    this.#onAwake = undefined;
    this.#wasAwake = false;
  }

  async #until(subscribe: (done: () => void) => void, timeoutMs?: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const signal = this.#abandonment.signal;
      const give = () => {
        finish();
        reject(ABANDONED);
      };
      const timer = timeoutMs === undefined ? undefined : setTimeout(give, timeoutMs);
      const finish = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', give);
      };
      if (signal.aborted) return give();
      signal.addEventListener('abort', give);
      subscribe(() => {
        finish();
        resolve();
      });
    });
  }
}
