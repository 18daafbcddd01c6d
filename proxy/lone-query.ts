import { StatementText } from './statement-text.ts';

/** A simple Query that mentions us, to which nothing was sent before or behind it that is unanswered. */
export class LoneQuery extends StatementText {
  readonly startedAt = Date.now();
  readonly isInTransaction: boolean;
  /** Its place among all messages of the client. */
  readonly place: number;

  constructor(text: string, isInTransaction: boolean, place: number) {
    super(text);
    this.isInTransaction = isInTransaction;
    this.place = place;
  }

  /** Whether it is nothing but the result of a launch. */
  get isResultOfLaunch(): boolean {
    const result = this.plainResult;
    return result?.verb === 'pg_background_result' && result.isOfLaunch;
  }
}
