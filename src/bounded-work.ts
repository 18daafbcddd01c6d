/** Work that nobody waits for, so much at a time: of what comes too fast the last is kept, and done later. */
export class BoundedWork {
  readonly #limit: number;
  readonly #track: (work: Promise<void>) => void;
  readonly #onDropped: () => void;
  #running = 0;
  #last: (() => Promise<void>) | undefined;

  /** @param track is given all work that is begun; it must not fail */
  constructor(limit: number, track: (work: Promise<void>) => void, onDropped: () => void) {
    this.#limit = limit;
    this.#track = track;
    this.#onDropped = onDropped;
  }

  add(begin: () => Promise<void>): void {
    if (this.#running >= this.#limit) {
      if (this.#last !== undefined) this.#onDropped();
      this.#last = begin;
      return;
    }
    this.#running++;
    this.#track(
      begin().finally(() => {
        this.#running--;
        const last = this.#last;
        this.#last = undefined;
        if (last !== undefined) this.add(last);
      }),
    );
  }
}
