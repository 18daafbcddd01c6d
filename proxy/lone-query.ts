import { StatementText } from './statement-text.ts';

/** A simple Query that mentions us, to which nothing was sent before or behind it that is unanswered. */
export class LoneQuery extends StatementText {
  readonly startedAt = Date.now();
  readonly isInTransaction: boolean;

  constructor(text: string, isInTransaction: boolean) {
    super(text);
    this.isInTransaction = isInTransaction;
  }
}
