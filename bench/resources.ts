type Close = () => unknown;

/** Owns what a run has started, and closes it: the last first, each once. */
export class Resources {
  readonly #closers = new Set<Close>();
  #closing: Promise<void> | undefined;

  /**
   * Takes something over. What comes after the end has begun is closed at once.
   * @returns closes it before the others
   */
  own(close: Close): () => Promise<void> {
    const release = async () => {
      if (this.#closers.delete(close)) await close();
    };
    this.#closers.add(close);
    if (this.#closing !== undefined) void release().catch(() => {});
    return release;
  }

  get isClosing(): boolean {
    return this.#closing !== undefined;
  }

  /** Closes all that is left. A failure does not keep the others from being closed. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const failures: unknown[] = [];
    for (const close of [...this.#closers].reverse()) {
      if (!this.#closers.delete(close)) continue;
      try {
        await close();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'not all could be closed');
  }
}
