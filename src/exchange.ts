import { BackgroundError, type ServerError } from './errors.ts';
import { decodeFunctionResult, decodeTextRow, MessageType } from './messages.ts';

/**
 * What a statement gives to whoever follows it message by message. Frames are views of what was read, which
 * nobody writes to: who keeps one keeps all of that.
 */
export interface MessageHandler {
  /** Every message up to ReadyForQuery, which ends the exchange; notices go to onNotice too. */
  message(type: number, frame: Buffer): void;
}

/** SQL that runs right before other SQL, whatever comes of it. */
export interface Preface {
  readonly sql: string;
  /** The server is through with it, and begins with the other. Not called when the connection is lost before. */
  ended(): void;
}

/** All rows of one exchange, as text. */
export type TextRows = readonly (readonly (string | null)[])[];

/** What the server gives from one message that begins something to its ReadyForQuery. */
export class Exchange {
  /** Settles at ReadyForQuery; fails with the first error, or with what became of the connection. */
  readonly outcome: Promise<TextRows>;
  readonly #handler: MessageHandler | undefined;
  readonly #rows: (string | null)[][] = [];
  #error: ServerError | undefined;
  #resolve: (rows: TextRows) => void = () => {};
  #reject: (error: Error) => void = () => {};

  /** @param handler is given the messages; without it rows are kept */
  constructor(handler?: MessageHandler) {
    this.#handler = handler;
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** Any message of the server. Of an ErrorResponse and a ReadyForQuery failed() and ready() are told as well. */
  take(type: number, frame: Buffer): void {
    if (this.#handler !== undefined) this.#handler.message(type, frame);
    else if (type === MessageType.dataRow) this.#rows.push(decodeTextRow(frame));
    else if (type === MessageType.functionCallResponse)
      this.#rows.push([decodeFunctionResult(frame)]);
  }

  /** ErrorResponse. */
  failed(error: ServerError): void {
    this.#error ??= error;
  }

  /** ReadyForQuery. */
  ready(): void {
    if (this.#error !== undefined) this.#reject(this.#error);
    else this.#resolve(this.#rows);
  }

  /** The connection is gone, for this reason if it is known. */
  lost(reason: Error | undefined): void {
    this.#reject(
      this.#error ??
        reason ??
        new BackgroundError('08006', 'the server closed the connection unexpectedly'),
    );
  }
}
