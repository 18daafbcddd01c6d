/** Who holds how much of a total. */
export class ByteLedger<Holder> {
  readonly #totalBytes: number;
  readonly #held = new Map<Holder, number>();

  constructor(totalBytes: number) {
    this.#totalBytes = totalBytes;
  }

  /** @returns how many bytes the holder has got: from those it needs to those it would like, or 0 */
  take(holder: Holder, neededBytes: number, wantedBytes: number): number {
    let left = this.#totalBytes;
    for (const bytes of this.#held.values()) left -= bytes;
    if (neededBytes > left) return 0;
    const got = Math.min(wantedBytes, left);
    this.#held.set(holder, (this.#held.get(holder) ?? 0) + got);
    return got;
  }

  giveBack(holder: Holder, bytes: number): void {
    this.#held.set(holder, (this.#held.get(holder) ?? 0) - bytes);
  }

  /** The holder is gone, and holds nothing. */
  forget(holder: Holder): void {
    this.#held.delete(holder);
  }
}
