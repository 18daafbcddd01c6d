import { BackgroundError } from './errors.ts';
import type { Worker } from './worker.ts';

/** What became of a session's workers. */
export interface WorkerCounts {
  readonly launched: number;
  readonly completed: number;
  readonly failed: number;
  readonly canceled: number;
  readonly active: number;
  readonly averageMs: number;
}

/** The workers that one session holds handles of, and its statistics. */
export class Registry {
  readonly #workers = new Map<number, Worker>();
  /** Submitted workers that have ended and whose pid another worker of the session has got. */
  #displaced: Worker[] = [];
  #launched = 0;
  #completed = 0;
  #failed = 0;
  #canceled = 0;
  #totalMs = 0;

  /** Handles: first those of ended submitted workers whose pid another has now, then in the order of launch. */
  get workers(): Worker[] {
    return [...this.#displaced, ...this.#workers.values()];
  }

  /** How many handles count against max_workers: a submitted worker no longer once it has ended. */
  get counted(): number {
    return this.workers.filter((worker) => !(worker.order.isSubmitted && worker.hasEnded)).length;
  }

  /** Whether a new worker may have a pid: no handle that is still of use has it. */
  isFreePid(pid: number): boolean {
    const worker = this.#workers.get(pid);
    return worker === undefined || (worker.order.isSubmitted && worker.hasEnded);
  }

  add(worker: Worker): void {
    // Who had this pid before is known by its cookie from now on.
    const earlier = this.#workers.get(worker.pid);
    if (earlier !== undefined) this.#displaced.push(earlier);
    this.#workers.delete(worker.pid);
    this.#workers.set(worker.pid, worker);
    this.#launched++;
    void worker.ended.then(() => {
      if (worker.order.isSubmitted) this.#forgetOldSubmitted();
      if (worker.state === 'canceled') this.#canceled++;
      else if (worker.state === 'error') this.#failed++;
      else this.#completed++;
      this.#totalMs += (worker.endedAt ?? new Date()).getTime() - worker.launchedAt.getTime();
    });
  }

  /**
   * The worker with a pid, and, where a cookie is given, with that cookie if there is one.
   * @throws BackgroundError 42704 when the session has no worker with this pid
   */
  find(pid: number, cookie?: unknown): Worker {
    const displaced = this.#displaced.find(
      (candidate) => candidate.pid === pid && candidate.order.cookie === cookie,
    );
    const worker = displaced ?? this.#workers.get(pid);
    if (worker === undefined) throw notAttached(pid);
    return worker;
  }

  #forgetOldSubmitted(): void {
    const ended = this.workers.filter(({ order, hasEnded }) => order.isSubmitted && hasEnded);
    for (const worker of ended.slice(0, -MAX_ENDED_SUBMITTED)) void this.drop(worker);
  }

  /** Forgets a handle; what the worker has said is dropped, what it does goes on. */
  async drop(worker: Worker): Promise<void> {
    if (this.#workers.get(worker.pid) === worker) this.#workers.delete(worker.pid);
    else this.#displaced = this.#displaced.filter((other) => other !== worker);
    await worker.abandon();
  }

  async dropAll(): Promise<void> {
    await Promise.all(this.workers.map((worker) => this.drop(worker)));
  }

  get counts(): WorkerCounts {
    const ended = this.#completed + this.#failed + this.#canceled;
    return {
      launched: this.#launched,
      completed: this.#completed,
      failed: this.#failed,
      canceled: this.#canceled,
      active: this.workers.length,
      averageMs: ended === 0 ? 0 : this.#totalMs / ended,
    };
  }
}

/** So many ended submitted workers are remembered: they need no detach, so nobody else forgets them. */
const MAX_ENDED_SUBMITTED = 100;

export function notAttached(pid: number, more = ''): BackgroundError {
  return new BackgroundError('42704', `PID ${pid} is not attached to this session${more}`);
}
