import { BackgroundError } from './errors.ts';
import type { Worker } from './worker.ts';

/** How a function names a worker: v1 functions by pid alone, v2 functions by pid and cookie. */
export interface HandleReference {
  readonly pid: number;
  readonly cookie: string | undefined;
}

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
  #launched = 0;
  #completed = 0;
  #failed = 0;
  #canceled = 0;
  #totalMs = 0;

  /** Handles in the order of their launch. */
  get workers(): Worker[] {
    return [...this.#workers.values()];
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
    this.#workers.delete(worker.pid);
    this.#workers.set(worker.pid, worker);
    this.#launched++;
    void worker.ended.then(() => {
      if (worker.state === 'canceled') this.#canceled++;
      else if (worker.state === 'error') this.#failed++;
      else this.#completed++;
      this.#totalMs += (worker.endedAt ?? new Date()).getTime() - worker.launchedAt.getTime();
    });
  }

  /** @throws BackgroundError 42704 when the session has no worker with this pid */
  find(pid: number): Worker {
    const worker = this.#workers.get(pid);
    if (worker === undefined) throw notAttached(pid);
    return worker;
  }

  /** Forgets a handle; what the worker has said is dropped, what it does goes on. */
  async drop(worker: Worker): Promise<void> {
    this.#workers.delete(worker.pid);
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
      active: this.#workers.size,
      averageMs: ended === 0 ? 0 : this.#totalMs / ended,
    };
  }
}

export function notAttached(pid: number, more = ''): BackgroundError {
  return new BackgroundError('42704', `PID ${pid} is not attached to this session${more}`);
}
