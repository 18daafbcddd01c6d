import { plainResultOf, type PlainResult } from '../src/index.ts';

/** The text of a statement that mentions us. */
export class StatementText {
  readonly text: string;
  #plainResult: { readonly found: PlainResult | undefined } | undefined;

  /** @param text a byte for a character */
  constructor(text: string) {
    this.text = text;
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
