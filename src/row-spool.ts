import { randomUUID } from 'node:crypto';
import { open, unlink, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackgroundError } from './errors.ts';
import { FrameReader } from './frames.ts';
import type { SpoolBudget } from './spool-budget.ts';

/** Above this many bytes that wait for the disk, the worker's connection is paused. */
const HIGH_WATER_BYTES = 1024 * 1024;
const READ_BYTES = 256 * 1024;

/**
 * The rows of one worker's result, as the DataRow messages that brought them: in memory up to a
 * limit, beyond it in a file that has no name, so that nobody else can open it and nothing is left
 * behind. Written once, read once, closed by its owner.
 */
export class RowSpool {
  rowCount = 0;
  readonly #memoryBytes: number;
  readonly #budget: SpoolBudget;
  #frames: Buffer[] = [];
  #framesBytes = 0;
  #heldBytes = 0;
  #file: FileHandle | undefined;
  #fileBytes = 0;
  #writing: Promise<void> | undefined;
  #failure: Error | undefined;
  #isClosed = false;

  constructor(memoryBytes: number, budget: SpoolBudget) {
    this.#memoryBytes = memoryBytes;
    this.#budget = budget;
  }

  /** Bytes of all rows, headers included. */
  get bytes(): number {
    return this.#heldBytes;
  }

  /**
   * Keeps a copy of a row. @returns a promise when the caller should pause until it settles
   * @throws BackgroundError 53400 beyond the budget; the promise may reject with the same
   */
  add(frame: Buffer): Promise<void> | undefined {
    if (this.#failure) throw this.#failure;
    const granted = this.#budget.take(frame.length, this.#heldBytes);
    this.#heldBytes += frame.length;
    this.#framesBytes += frame.length;
    this.rowCount++;
    this.#frames.push(Buffer.from(frame));
    if (
      this.#writing === undefined &&
      this.#framesBytes > (this.#file ? READ_BYTES : this.#memoryBytes)
    ) {
      this.#writing = this.#flush().finally(() => (this.#writing = undefined));
    }
    const written =
      this.#writing !== undefined && this.#framesBytes > HIGH_WATER_BYTES
        ? this.#writing
        : undefined;
    return granted === undefined ? written : granted.then(() => written);
  }

  /** Forgets the rows so far: only the last statement's are kept. */
  reset(): void {
    this.#budget.giveBack(this.#heldBytes);
    this.#heldBytes = 0;
    this.#framesBytes = 0;
    this.#frames = [];
    this.#fileBytes = 0;
    this.rowCount = 0;
  }

  /** The rows in their order. The frames belong to the caller. */
  async *read(): AsyncGenerator<Buffer> {
    for await (const frames of this.readBatches()) yield* frames;
  }

  /** The same, many at a time. */
  async *readBatches(): AsyncGenerator<readonly Buffer[]> {
    await this.#writing;
    if (this.#failure) throw this.#failure;
    if (this.#file !== undefined) {
      let ready: Buffer[] = [];
      const reader = new FrameReader((_type, frame) => ready.push(frame));
      for (let at = 0; at < this.#fileBytes;) {
        const chunk = Buffer.allocUnsafe(Math.min(READ_BYTES, this.#fileBytes - at));
        const { bytesRead } = await this.#file.read(chunk, 0, chunk.length, at);
        if (bytesRead === 0)
          throw new BackgroundError('58030', 'the temporary file of a result ended early');
        at += bytesRead;
        reader.push(chunk.subarray(0, bytesRead));
        if (ready.length > 0) yield ready;
        ready = [];
      }
    }
    if (this.#frames.length > 0) yield this.#frames;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.reset();
    await this.#writing;
    await this.#file?.close();
  }

  async #flush(): Promise<void> {
    try {
      this.#file ??= await openUnnamed();
      while (this.#framesBytes > 0 && !this.#isClosed) {
        const chunk = Buffer.concat(this.#frames);
        const at = this.#fileBytes;
        this.#frames = [];
        this.#framesBytes = 0;
        this.#fileBytes += chunk.length;
        for (let done = 0; done < chunk.length;) {
          done += (await this.#file.write(chunk, done, chunk.length - done, at + done))
            .bytesWritten;
        }
        if (this.#framesBytes < READ_BYTES) break;
      }
    } catch (cause) {
      this.#failure = new BackgroundError(
        '58030',
        'could not write the temporary file of a result',
        { cause },
      );
    }
  }
}

async function openUnnamed(): Promise<FileHandle> {
  const path = join(tmpdir(), `pg-background-proxy-${randomUUID()}`);
  const file = await open(path, 'wx+', 0o600);
  await unlink(path);
  return file;
}
