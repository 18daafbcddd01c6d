import { decodeCommandTag, frameOf, MessageType } from '../src/index.ts';
import {
  movePosition,
  replaceExtensionStatements,
  type Replacement,
} from './extension-statements.ts';

/**
 * CREATE, ALTER and DROP EXTENSION pg_background, which the server gets as DO blocks, and the client sees as
 * what it has sent: tags, positions and notices are put right on their way back.
 */
export class ReplacedStatements {
  #isRunning = false;
  #tag: string | undefined;
  /** In the statement string that runs. */
  #replacements: readonly Replacement[] = [];

  /** Whether what the server says now is about a block that the client knows nothing of. */
  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Whether the next CommandComplete has to be put right. */
  get hasTag(): boolean {
    return this.#tag !== undefined;
  }

  /**
   * A Query or Parse as the server gets it.
   * @param clientEncoding of positions; undefined where other texts are on their way, and none can be put right
   */
  replaceIn(
    frame: Buffer,
    newGrantToken: () => string,
    clientEncoding: { readonly name: string | undefined } | undefined,
  ): Buffer {
    const replaced = replaceExtensionStatements(frame, newGrantToken);
    this.#replacements =
      clientEncoding === undefined ? [] : replaced.replacements(clientEncoding.name);
    return replaced.frame;
  }

  /** A block has begun. */
  began(): void {
    this.#isRunning = true;
  }

  /** A block has ended; the client expects this tag. */
  tagged(tag: string): void {
    this.#isRunning = false;
    this.#tag = tag;
  }

  /** CommandComplete. */
  putTagRight(frame: Buffer): Buffer {
    const tag = this.#tag;
    this.#tag = undefined;
    return tag !== undefined && decodeCommandTag(frame) === 'DO' ? commandComplete(tag) : frame;
  }

  /** ErrorResponse. */
  putPositionRight(frame: Buffer): Buffer {
    return movePosition(frame, this.#replacements);
  }

  /** ReadyForQuery. */
  ended(): void {
    this.#isRunning = false;
    this.#tag = undefined;
    this.#replacements = [];
  }
}

/** A CommandComplete with this tag. */
export function commandComplete(tag: string): Buffer {
  return frameOf(MessageType.commandComplete, Buffer.from(`${tag}\0`));
}
