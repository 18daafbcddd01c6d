/**
 * A question about many things at once. Whoever asks before it goes out shares it, so that hundreds who ask at
 * the same time cost one answer.
 */
export class SharedQuestion<Answer> {
  readonly #ask: (about: readonly number[]) => Promise<Answer>;
  readonly #inTurn: <T>(action: () => Promise<T>) => Promise<T>;
  readonly #about = new Set<number>();
  #next: Promise<Answer> | undefined;

  /** @param inTurn runs an action when it may go out */
  constructor(
    inTurn: <T>(action: () => Promise<T>) => Promise<T>,
    ask: (about: readonly number[]) => Promise<Answer>,
  ) {
    this.#inTurn = inTurn;
    this.#ask = ask;
  }

  /** An answer that is not older than this question, and says something about this too. */
  about(thing: number): Promise<Answer> {
    this.#about.add(thing);
    this.#next ??= this.#inTurn(() => {
      const about = [...this.#about];
      this.#about.clear();
      this.#next = undefined;
      return this.#ask(about);
    });
    return this.#next;
  }
}
