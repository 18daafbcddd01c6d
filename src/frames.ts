import { ProtocolError } from './errors.ts';

/**
 * Cuts the server's byte stream into messages: a type byte, a length that counts itself, a body.
 * The frames it hands out include the header and are views into what was received, which must be memory
 * that nobody writes to again, as `data` events give it: frames may be kept.
 * @see https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-MESSAGE-CONCEPTS
 */
export class FrameReader {
  readonly #onFrame: (type: number, frame: Buffer) => void;
  #pieces: Buffer[] = [];
  #held = 0;
  #wanted = 5;

  constructor(onFrame: (type: number, frame: Buffer) => void) {
    this.#onFrame = onFrame;
  }

  push(chunk: Buffer): void {
    if (this.#held > 0) {
      // A message that began in an earlier chunk: pieces are joined once, when it is complete.
      this.#pieces.push(chunk);
      this.#held += chunk.length;
      if (this.#held < this.#wanted) return;
      chunk = Buffer.concat(this.#pieces, this.#held);
      this.#pieces = [];
      this.#held = 0;
      this.#wanted = 5;
    }
    let start = 0;
    while (chunk.length - start >= 5) {
      const length = chunk.readInt32BE(start + 1);
      if (length < 4) throw new ProtocolError(`message length ${length} is below 4`);
      const end = start + 1 + length;
      if (end > chunk.length) {
        this.#wanted = 1 + length;
        break;
      }
      this.#onFrame(chunk[start] as number, chunk.subarray(start, end));
      start = end;
    }
    if (start < chunk.length) {
      const rest = Buffer.from(chunk.subarray(start));
      this.#pieces = [rest];
      this.#held = rest.length;
    }
  }
}
