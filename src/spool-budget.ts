import { BackgroundError } from './errors.ts';
import type { ByteLease } from './peers.ts';

/** What is leased at a time, and what is kept for the next rows when others have been given back. */
const LEASE_BYTES = 1024 * 1024;

/**
 * How many bytes all spools of an engine may hold together. Where several processes share the total,
 * each leases what it needs, and a little more, from whoever counts it: so the total is never
 * exceeded, and may be found used up when each still has a megabyte or two.
 */
export class SpoolBudget {
  readonly perWorkerBytes: number;
  readonly totalBytes: number;
  readonly #lease: ByteLease | undefined;
  #usedBytes = 0;
  #leasedBytes: number;
  #leasing: Promise<boolean> | undefined;

  /** @param lease undefined: the total is this budget's alone */
  constructor(perWorkerBytes: number, totalBytes: number, lease?: ByteLease) {
    this.perWorkerBytes = perWorkerBytes;
    this.totalBytes = totalBytes;
    this.#lease = lease;
    this.#leasedBytes = lease === undefined ? totalBytes : 0;
  }

  /**
   * Counts bytes that the caller gives back in any case but a thrown error.
   * @returns a promise where more must be leased first: it rejects when there is no more
   * @throws BackgroundError 53400 when a limit would be exceeded; the promise rejects with the same
   */
  take(bytes: number, heldBytes: number): Promise<void> | undefined {
    if (heldBytes + bytes > this.perWorkerBytes)
      throw tooLarge('max_result_size', this.perWorkerBytes);
    const fits = this.#usedBytes + bytes <= this.#leasedBytes;
    if (!fits && this.#lease === undefined)
      throw tooLarge('max_total_result_size', this.totalBytes);
    this.#usedBytes += bytes;
    return fits || this.#lease === undefined ? undefined : this.#leaseMore(this.#lease);
  }

  giveBack(bytes: number): void {
    this.#usedBytes -= bytes;
    if (this.#lease === undefined) return;
    const spare = this.#leasedBytes - this.#usedBytes - LEASE_BYTES;
    if (spare < LEASE_BYTES) return;
    this.#leasedBytes -= spare;
    this.#lease.giveBack(spare);
  }

  async #leaseMore(lease: ByteLease): Promise<void> {
    // Rows that come while an answer is awaited may need more than was asked for.
    while (this.#usedBytes > this.#leasedBytes) {
      this.#leasing ??= this.#leaseOnce(lease).finally(() => (this.#leasing = undefined));
      if (!(await this.#leasing)) throw tooLarge('max_total_result_size', this.totalBytes);
    }
  }

  async #leaseOnce(lease: ByteLease): Promise<boolean> {
    const needed = this.#usedBytes - this.#leasedBytes;
    const got = await lease.take(needed, needed + LEASE_BYTES);
    this.#leasedBytes += got;
    return got > 0;
  }
}

function tooLarge(setting: string, bytes: number): BackgroundError {
  return new BackgroundError('53400', 'result of background worker is too large', {
    detail: `The limit ${setting} of the proxy is ${bytes} bytes.`,
    hint: 'Large result sets should be written to a table instead.',
  });
}
