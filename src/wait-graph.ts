import type { SessionWait } from './peers.ts';

/** Asks the server which backends a backend waits for, see pg_blocking_pids(). */
export type FindBlockers = (pid: number) => Promise<readonly number[]>;

/**
 * Who waits for whom among the sessions of all engines. The server sees a session that waits for an
 * answer of ours, not for which worker it waits: so it cannot see a worker that waits for a lock, or
 * the snapshot, of that very session. Here both halves of such a cycle come together.
 */
export class WaitGraph {
  readonly #waits = new Map<number, SessionWait>();
  readonly #findOthers: () => Promise<readonly SessionWait[]>;
  #latest = 0;

  /** @param findOthers the waits of other processes' sessions */
  constructor(findOthers: () => Promise<readonly SessionWait[]>) {
    this.#findOthers = findOthers;
  }

  /** The waits that were begun here. */
  get waits(): readonly SessionWait[] {
    return [...this.#waits.values()];
  }

  /** Notes that a session waits for a worker. @returns ends the note */
  begin(sessionPid: number, workerPid: number): () => void {
    this.#latest = Math.max(this.#latest + 1, microsecondsNow());
    const wait = { sessionPid, workerPid, order: this.#latest };
    this.#waits.set(sessionPid, wait);
    return () => {
      if (this.#waits.get(sessionPid) === wait) this.#waits.delete(sessionPid);
    };
  }

  /**
   * Whether this session waits for itself and is the one to give way: of all calls in the cycle, the
   * youngest is.
   */
  async mustGiveWay(sessionPid: number, findBlockers: FindBlockers): Promise<boolean> {
    const others = await this.#findOthers();
    const waitOf = (pid: number) =>
      this.#waits.get(pid) ?? others.find((wait) => wait.sessionPid === pid);
    const path = await findCycle(sessionPid, waitOf, findBlockers);
    const own = this.#waits.get(sessionPid);
    return (
      own !== undefined && path.every((pid) => !isYounger(waitOf(pid), own)) && path.length > 0
    );
  }
}

/** Two calls in different processes may have begun in the same microsecond. */
function isYounger(wait: SessionWait | undefined, than: SessionWait): boolean {
  if (wait === undefined) return false;
  if (wait.order !== than.order) return wait.order > than.order;
  return wait.sessionPid > than.sessionPid;
}

/** The backends on a way from a session back to itself; none when there is no such way. */
async function findCycle(
  sessionPid: number,
  waitOf: (pid: number) => SessionWait | undefined,
  findBlockers: FindBlockers,
): Promise<number[]> {
  const seen = new Set<number>();
  const paths: number[][] = [[sessionPid]];
  for (let path = paths.shift(); path !== undefined; path = paths.shift()) {
    const pid = path.at(-1) as number;
    const awaited = waitOf(pid)?.workerPid;
    // A backend that is in a call waits for nothing else.
    const next = awaited === undefined ? await findBlockers(pid) : [awaited];
    for (const follower of next) {
      if (follower === sessionPid) return path;
      if (seen.has(follower)) continue;
      seen.add(follower);
      paths.push([...path, follower]);
    }
  }
  return [];
}

/** Of the machine's own clock, which no process and nobody sets. */
function microsecondsNow(): number {
  return Number(process.hrtime.bigint() / 1_000n);
}
