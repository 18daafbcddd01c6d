import { plainResultOf, type PlainResult } from '../src/index.ts';

/** A simple Query that mentions us, to which nothing was sent before or behind it that is unanswered. */
export class LoneQuery {
  readonly text: string;
  readonly startedAt = Date.now();
  readonly isInTransaction: boolean;
  /** Its place among all messages of the client. */
  readonly place: number;
  #plainResult: { readonly found: PlainResult | undefined } | undefined;

  constructor(text: string, isInTransaction: boolean, place: number) {
    this.text = text;
    this.isInTransaction = isInTransaction;
    this.place = place;
  }

  /** What it reads, if it does nothing else. Found out when it is asked for first: that takes time. */
  get plainResult(): PlainResult | undefined {
    this.#plainResult ??= { found: plainResultOf(this.text) };
    return this.#plainResult.found;
  }

  /** Whether it is nothing but the result of a launch. */
  get isResultOfLaunch(): boolean {
    const result = this.plainResult;
    return result?.verb === 'pg_background_result' && result.isOfLaunch;
  }
}
