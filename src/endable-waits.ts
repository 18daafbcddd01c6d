/**
 * Waits that can be ended before what they wait for. Unlike a race with one promise that stays for long, a wait
 * that is over leaves nothing behind.
 */
export class EndableWaits {
  readonly #ends = new Set<() => void>();

  /** Settles, and never fails, with the other promise or by end(). */
  until(other: Promise<unknown>): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        this.#ends.delete(end);
        resolve();
      };
      this.#ends.add(end);
      other.then(end, end);
    });
  }

  end(): void {
    for (const end of this.#ends) end();
  }
}
