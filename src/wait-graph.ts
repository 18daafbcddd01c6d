/** Asks the server which backends a backend waits for, see pg_blocking_pids(). */
export type FindBlockers = (pid: number) => Promise<readonly number[]>;

/** A session whose backend is inside a call that waits for a worker. */
interface Wait {
  readonly workerPid: number;
  /** Counts calls: the youngest has the highest. */
  readonly order: number;
}

/**
 * Who waits for whom among the sessions of one engine. The server sees a session that waits for an
 * answer of ours, not for which worker it waits: so it cannot see a worker that waits for a lock, or
 * the snapshot, of that very session. Here both halves of such a cycle come together.
 */
export class WaitGraph {
  readonly #waits = new Map<number, Wait>();
  #count = 0;

  /** Notes that a session waits for a worker. @returns ends the note */
  begin(sessionPid: number, workerPid: number): () => void {
    const wait = { workerPid, order: ++this.#count };
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
    const path = await this.#findCycle(sessionPid, findBlockers);
    const orders = path.map((pid) => this.#waits.get(pid)?.order ?? 0);
    return path.length > 0 && this.#waits.get(sessionPid)?.order === Math.max(...orders);
  }

  /** The backends on a way from a session back to itself; none when there is no such way. */
  async #findCycle(sessionPid: number, findBlockers: FindBlockers): Promise<number[]> {
    const seen = new Set<number>();
    const paths: number[][] = [[sessionPid]];
    for (let path = paths.shift(); path !== undefined; path = paths.shift()) {
      const pid = path.at(-1) as number;
      const awaited = this.#waits.get(pid)?.workerPid;
      const next = [...(awaited === undefined ? [] : [awaited]), ...(await findBlockers(pid))];
      for (const follower of next) {
        if (follower === sessionPid) return path;
        if (seen.has(follower)) continue;
        seen.add(follower);
        paths.push([...path, follower]);
      }
    }
    return [];
  }
}
