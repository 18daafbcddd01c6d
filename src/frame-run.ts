/** Whole messages, one behind the other. */
export interface FrameBlock {
  readonly bytes: Buffer;
  readonly count: number;
}

/** Messages that lie behind each other in memory, as they do when one read has brought them: one block, without a copy. */
export class FrameRun {
  #memory: ArrayBufferLike | undefined;
  #from = 0;
  #to = 0;
  #count = 0;

  get isEmpty(): boolean {
    return this.#memory === undefined;
  }

  /** @returns false when these do not lie right behind those that are there, which have to be taken first */
  add(frames: Buffer, count = 1): boolean {
    if (this.#memory === undefined) {
      this.#memory = frames.buffer;
      this.#from = frames.byteOffset;
    } else if (frames.buffer !== this.#memory || frames.byteOffset !== this.#to) {
      return false;
    }
    this.#to = frames.byteOffset + frames.length;
    this.#count += count;
    return true;
  }

  /** What there is; the run is empty then. */
  take(): FrameBlock | undefined {
    if (this.#memory === undefined) return undefined;
    const bytes = Buffer.from(this.#memory, this.#from, this.#to - this.#from);
    const block = { bytes, count: this.#count };
    this.#memory = undefined;
    this.#count = 0;
    return block;
  }
}
