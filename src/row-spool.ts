import { randomUUID } from 'node:crypto';
import { open, unlink, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackgroundError } from './errors.ts';
import { FrameRun, type FrameBlock } from './frame-run.ts';
import type { SpoolBudget } from './spool-budget.ts';

/** Above this many bytes that wait for the disk, the worker's connection is paused. */
const HIGH_WATER_BYTES = 1024 * 1024;

/** About so many bytes are written, and read, at a time. */
const WRITE_BYTES = 256 * 1024;

/** Rows that are less of the memory which they lie in are copied, so that the rest of it is free. */
const MIN_SHARE = 0.25;

/**
 * The rows of one worker's result, as the DataRow messages that brought them: in memory up to a
 * limit, beyond it in a file that has no name, so that nobody else can open it and nothing is left
 * behind. Written once, read once, closed by its owner.
 */
export class RowSpool {
  rowCount = 0;
  readonly #memoryBytes: number;
  readonly #budget: SpoolBudget;
  /** In memory: blocks, and behind them what may still become longer. */
  #blocks: FrameBlock[] = [];
  readonly #run = new FrameRun();
  #waitingBytes = 0;
  #heldBytes = 0;
  #file: FileHandle | undefined;
  /** In the file, one behind the other, and before those in memory. */
  #written: { readonly length: number; readonly count: number }[] = [];
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
   * Keeps a row, and the memory in which it lies. @returns a promise when the caller should pause until it settles
   * @throws BackgroundError 53400 beyond the budget; the promise may reject with the same
   */
  add(frame: Buffer): Promise<void> | undefined {
    if (this.#failure) throw this.#failure;
    const granted = this.#budget.take(frame.length, this.#heldBytes);
    this.#heldBytes += frame.length;
    this.#waitingBytes += frame.length;
    this.rowCount++;
    if (!this.#run.add(frame)) {
      this.#endRun();
      this.#run.add(frame);
    }
    if (
      this.#writing === undefined &&
      this.#waitingBytes > (this.#file ? WRITE_BYTES : this.#memoryBytes)
    ) {
      this.#writing = this.#flush().finally(() => (this.#writing = undefined));
    }
    const written =
      this.#writing !== undefined && this.#waitingBytes > HIGH_WATER_BYTES
        ? this.#writing
        : undefined;
    return granted === undefined ? written : granted.then(() => written);
  }

  /** No row follows for now: what was read with the last ones need not be kept for them. */
  pauseOfRows(): void {
    this.#endRun();
  }

  /** Forgets the rows so far: only the last statement's are kept. */
  reset(): void {
    this.#budget.giveBack(this.#heldBytes);
    this.#heldBytes = 0;
    this.#waitingBytes = 0;
    this.#run.take();
    this.#blocks = [];
    this.#written = [];
    this.#fileBytes = 0;
    this.rowCount = 0;
  }

  /** The rows in their order, many at a time. */
  async *read(): AsyncGenerator<FrameBlock> {
    await this.#writing;
    if (this.#failure) throw this.#failure;
    let at = 0;
    for (const { length, count } of this.#written) {
      if (this.#file === undefined || at >= this.#fileBytes) return; // it was reset
      yield { bytes: await readWhole(this.#file, at, length), count };
      at += length;
    }
    this.#endRun();
    for (let first = 0; first < this.#blocks.length;) {
      const end = this.#endOfPart(first);
      yield joined(this.#blocks.slice(first, end));
      first = end;
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.reset();
    await this.#writing;
    await this.#file?.close();
  }

  #endRun(): void {
    const block = this.#run.take();
    if (block === undefined) return;
    const { bytes, count } = block;
    const isSmallPart = bytes.length < bytes.buffer.byteLength * MIN_SHARE;
    this.#blocks.push(isSmallPart ? { bytes: Buffer.from(bytes), count } : block);
  }

  async #flush(): Promise<void> {
    try {
      this.#file ??= await openUnnamed();
      while (this.#waitingBytes > 0 && !this.#isClosed) {
        const { bytes, count } = this.#takeWaiting();
        const at = this.#fileBytes;
        this.#waitingBytes -= bytes.length;
        this.#fileBytes += bytes.length;
        this.#written.push({ length: bytes.length, count });
        await writeWhole(this.#file, at, bytes);
        if (this.#waitingBytes < WRITE_BYTES) break;
      }
    } catch (cause) {
      this.#failure = new BackgroundError(
        '58030',
        'could not write the temporary file of a result',
        { cause },
      );
    }
  }

  /** The blocks that are first in memory, as one. */
  #takeWaiting(): FrameBlock {
    this.#endRun();
    return joined(this.#blocks.splice(0, this.#endOfPart(0)));
  }

  /** The number of blocks in memory up to which, from the first of these on, they are enough to write or give at a time. */
  #endOfPart(first: number): number {
    let end = first;
    for (let length = 0; end < this.#blocks.length && length < WRITE_BYTES; end++)
      length += (this.#blocks[end] as FrameBlock).bytes.length;
    return end;
  }
}

function joined(blocks: readonly FrameBlock[]): FrameBlock {
  const [only, ...others] = blocks;
  if (only !== undefined && others.length === 0) return only;
  return {
    bytes: Buffer.concat(blocks.map(({ bytes }) => bytes)),
    count: blocks.reduce((sum, { count }) => sum + count, 0),
  };
}

async function writeWhole(file: FileHandle, at: number, bytes: Buffer): Promise<void> {
  for (let done = 0; done < bytes.length;)
    done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
}

async function readWhole(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  for (let done = 0; done < length;) {
    const { bytesRead } = await file.read(bytes, done, length - done, at + done);
    if (bytesRead === 0)
      throw new BackgroundError('58030', 'the temporary file of a result ended early');
    done += bytesRead;
  }
  return bytes;
}

async function openUnnamed(): Promise<FileHandle> {
  const path = join(tmpdir(), `pg-background-proxy-${randomUUID()}`);
  const file = await open(path, 'wx+', 0o600);
  await unlink(path);
  return file;
}
