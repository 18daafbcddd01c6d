/** The end of a worker, which is waited for: for ever, or only for so long. It comes once. */
export class WorkerEnd {
  /** Settles, never fails, when it has come. */
  readonly reached: Promise<void>;
  #hasCome = false;
  #settle: () => void = () => {};
  readonly #waiting = new Set<() => void>();

  constructor() {
    this.reached = new Promise((resolve) => (this.#settle = resolve));
  }

  come(): void {
    this.#hasCome = true;
    this.#settle();
    for (const settle of this.#waiting) settle();
  }

  /**
   * Whether it comes before the time is over.
   * @param watch is given what stops the waiting earlier
   * Not a race with `reached`: that would keep whoever has waited, for as long as the worker runs.
   */
  comesWithin(
    timeoutMs: number,
    watch: (stopWaiting: () => void) => void = () => {},
  ): Promise<boolean> {
    if (this.#hasCome || timeoutMs <= 0) return Promise.resolve(this.#hasCome);
    return new Promise((resolve) => {
      const settle = () => {
        clearTimeout(timer);
        this.#waiting.delete(settle);
        resolve(this.#hasCome);
      };
      const timer = setTimeout(settle, timeoutMs);
      this.#waiting.add(settle);
      watch(settle);
    });
  }
}
