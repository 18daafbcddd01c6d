import type { Admission } from '../admission.ts';
import type { Ticket } from './calls.ts';

/** The places and logins of one serving process, counted in the primary. */
export class Tickets {
  readonly #admission: Admission;
  readonly #releases = new Map<Ticket, () => void>();

  constructor(admission: Admission) {
    this.#admission = admission;
  }

  /** @returns whether a client may have a place */
  enter(ticket: Ticket): boolean {
    try {
      this.#releases.set(ticket, this.#admission.enter());
      return true;
    } catch {
      return false; // too many; the process tells its client
    }
  }

  /** Settles when a login may begin: true; or when nobody waits for that any more: false. */
  async beginLogin(ticket: Ticket): Promise<boolean> {
    const patience = new AbortController();
    this.#releases.set(ticket, () => patience.abort());
    try {
      const end = await this.#admission.beginLogin(patience.signal);
      // Released in the moment in which its turn came.
      if (patience.signal.aborted) end();
      else this.#releases.set(ticket, end);
    } catch {
      // Released before its turn came.
    }
    return !patience.signal.aborted;
  }

  release(ticket: Ticket): void {
    this.#releases.get(ticket)?.();
    this.#releases.delete(ticket);
  }

  /** The process is gone. */
  releaseAll(): void {
    for (const ticket of [...this.#releases.keys()]) this.release(ticket);
  }
}
