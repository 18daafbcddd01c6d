import { randomBytes } from 'node:crypto';
import { statementOf } from './call-arguments.ts';
import type { Arguments } from './callback.ts';
import type { RowSink } from './row-sink.ts';
import type { RowStream } from './row-stream.ts';
import type { Caller, Reply } from './session-calls.ts';
import { fitsInReply } from './transfer.ts';
import type { Worker } from './worker.ts';

/**
 * A result that goes to the client past the function which returns it, if it can: from the moment in which
 * the last statement of the SQL gives rows. The function returns none then. What the client was given is
 * gone: when its statement ends early, so are handle and result.
 */
export class ResultStreaming {
  readonly #worker: Worker;
  readonly #args: Arguments;
  readonly #caller: Caller;
  readonly #consume: () => Promise<void>;
  #sink: RowSink | undefined;
  #stream: RowStream | undefined;
  #fed: Promise<void> | undefined;
  #isOff: boolean;

  /** @param consume forgets the worker */
  constructor(worker: Worker, args: Arguments, caller: Caller, consume: () => Promise<void>) {
    this.#worker = worker;
    this.#args = args;
    this.#caller = caller;
    this.#consume = consume;
    this.#isOff = args['isDirect'] !== true;
  }

  /** Begins as soon as there are rows, if they can be streamed then. */
  beginWithRows(): void {
    const worker = this.#worker;
    if (this.#isOff || worker.hasEnded) return;
    // Most results are small, and there before it would be known whether they could be streamed.
    const soon = () => void setImmediate(() => !worker.hasEnded && this.begin());
    if (worker.streamable === undefined) worker.output.onLastRows = soon;
    else soon();
  }

  /** The caller while it waits for the worker: once rows were given, its statement cannot be run again. */
  watching(caller: Caller): Caller {
    return {
      ...caller,
      leave: (worker) => {
        if (this.#stream !== undefined || !caller.leave(worker)) return false;
        this.#isOff = true;
        return true;
      },
    };
  }

  /** The worker has ended. @returns what the function is told when it is not to return the rows itself */
  async finish(): Promise<Reply | undefined> {
    if (this.#stream === undefined && this.#worker.error === undefined) this.begin();
    this.#isOff = true;
    const stream = this.#stream;
    if (stream === undefined) return undefined;
    await this.#fed;
    await stream.hasRoom();
    this.#caller.abandoned.throwIfAborted();
    if (this.#worker.error !== undefined) return undefined;
    this.#sink?.end(stream.rowCount);
    const receipt = randomBytes(12).toString('base64url');
    this.#caller.offer({
      receipt,
      consume: () => Promise.resolve(),
      release: () => this.#consume(),
    });
    return { receipt, isStreamed: true };
  }

  /** Begins now, if there are rows that can be streamed. @returns whether it has begun */
  begin(): boolean {
    const { abandoned, packetBytes } = this.#caller;
    const result = this.#worker.streamable;
    if (this.#isOff || abandoned.aborted || result === undefined) return false;
    this.#sink = this.#caller.stream({
      ...result,
      hasAllDigits: Number(this.#args['extraFloatDigits']) >= 1,
      isAtOnce: this.#worker.hasEnded && fitsInReply(this.#worker.output.rows, packetBytes),
      statement: statementOf(this.#args),
    });
    this.#isOff = true;
    if (this.#sink === undefined) return false;
    const stream = this.#worker.streamTo(this.#sink);
    this.#stream = stream;
    this.#fed = this.#worker.feed(stream);
    this.#fed.catch(() => {}); // told by finish()
    const giveUp = () => {
      stream.stop();
      void this.#consume();
    };
    abandoned.addEventListener('abort', giveUp, { once: true });
    return true;
  }
}
