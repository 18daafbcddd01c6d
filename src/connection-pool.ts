import type { BackendConnection } from './backend-connection.ts';
import type { CallbackHook } from './callback-hook.ts';
import { discardAll, type Setting, type SettingValues } from './session-settings.ts';
import type { EngineSettings } from './settings.ts';

/** How often idle connections are looked at. */
const MIN_EXPIRY_MS = 100;
const MAX_EXPIRY_MS = 60_000;

/** A connection that workers run on, and what it needs to be used again. */
export interface PooledConnection {
  readonly connection: BackendConnection;
  /** Settings as the login left them. */
  readonly baseline: SettingValues;
  /** What its last job has asked for, and what of that the server has let it have. */
  asked: readonly Setting[];
  settings: readonly Setting[];
  /** The role that it has logged in as, whatever that is called by now. */
  readonly roleOid: number;
  readonly openedAt: number;
  /** When it was asked for last. */
  borrowedAt: number;
  /** When it came into the pool. */
  idleSince: number;
  /** Whether it has waited in the pool, where it may have died. */
  wasIdle: boolean;
  /** Whose SQL has run on it: it serves nobody else any more. Undefined while none has. */
  owner: PoolOwner | undefined;
  readonly hook: CallbackHook;
}

/**
 * A session as the pool knows it. What its SQL leaves in a connection, a function may have hidden from
 * us, and DISCARD ALL does not remove: no other session gets that connection.
 */
export interface PoolOwner {
  readonly isClosed: boolean;
}

/** What a pool is told of the server, and how long connections are kept. */
export type PoolSettings = Pick<
  EngineSettings,
  | 'minPoolSize'
  | 'maxPoolSize'
  | 'serverIdleTimeoutMs'
  | 'serverLifetimeMs'
  | 'serverConnectTimeoutMs'
  | 'logger'
>;

/**
 * The connections of a login that nobody uses right now: those that are ready for any session, and those
 * that wait for the next launch of theirs.
 */
export class ConnectionPool {
  readonly #settings: PoolSettings;
  readonly #open: () => Promise<PooledConnection>;
  #idle: PooledConnection[] = [];
  #warming: Promise<void> | undefined;
  #expiry: NodeJS.Timeout | undefined;
  /** What was asked for before that is not kept. */
  #clearedAt = 0;
  #isClosed = false;

  /** @param open logs in once more; what it gives belongs to the caller */
  constructor(settings: PoolSettings, open: () => Promise<PooledConnection>) {
    this.#settings = settings;
    this.#open = open;
  }

  /** Gives a connection that waits, or logs in. It is the owner's from then on; the caller puts it back or closes it. */
  async take(owner: PoolOwner, isUsable: (pid: number) => boolean): Promise<PooledConnection> {
    const now = Date.now();
    // Its own first: those that nobody has used are for whoever has none.
    const own = this.#idle.filter((pooled) => pooled.owner === owner);
    const unused = this.#idle.filter((pooled) => pooled.owner === undefined);
    for (const pooled of [...own, ...unused]) {
      if (!isUsable(pooled.connection.pid)) continue;
      this.#remove(pooled);
      pooled.owner = owner;
      pooled.borrowedAt = now;
      if (pooled.connection.isClosed) continue;
      if (now - pooled.openedAt > this.#settings.serverLifetimeMs) {
        void pooled.connection.close();
        continue;
      }
      this.#keepWarm();
      return pooled;
    }
    for (;;) {
      const opened = await this.#open();
      if (isUsable(opened.connection.pid)) {
        opened.owner = owner;
        this.#keepWarm();
        return opened;
      }
      await opened.connection.close();
    }
  }

  /** Takes back a connection whose job left nothing that DISCARD ALL does not remove. */
  async putBack(pooled: PooledConnection): Promise<void> {
    try {
      if (this.#keeps(pooled)) {
        await pooled.hook.reset();
        await pooled.connection.answersWithin(
          this.#settings.serverConnectTimeoutMs,
          discardAll(pooled.connection, pooled.settings),
        );
        // Much may have happened meanwhile.
        if (this.#keeps(pooled)) return this.#add(pooled);
      }
    } catch {
      // Closed like others that are not kept.
    }
    await pooled.connection.close();
  }

  /** Closes what a session that ends has used. */
  async forget(owner: PoolOwner): Promise<void> {
    const used = this.#idle.filter((pooled) => pooled.owner === owner);
    this.#idle = this.#idle.filter((pooled) => pooled.owner !== owner);
    await Promise.all(used.map(({ connection }) => connection.close()));
  }

  /** Closes all that there is, and what is in use now when it comes back. */
  async clear(): Promise<void> {
    this.#clearedAt = Date.now();
    await Promise.all(this.#idle.splice(0).map(({ connection }) => connection.close()));
  }

  /** The same for good. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#expiry);
    await this.#warming;
    await this.clear();
  }

  #keeps({ connection, owner, borrowedAt }: PooledConnection): boolean {
    return (
      !this.#isClosed &&
      borrowedAt > this.#clearedAt &&
      !connection.isClosed &&
      owner?.isClosed !== true &&
      this.#settings.maxPoolSize > 0
    );
  }

  #add(pooled: PooledConnection): void {
    pooled.wasIdle = true;
    pooled.idleSince = Date.now();
    this.#idle.push(pooled);
    if (this.#idle.length > this.#settings.maxPoolSize) this.#closeOne();
    this.#watchOver();
  }

  #remove(pooled: PooledConnection): void {
    this.#idle = this.#idle.filter((other) => other !== pooled);
  }

  /** Rather a session's than one that is ready for any: that session has others, or can wait for a login. */
  #closeOne(): void {
    const victim = this.#idle.find(({ owner }) => owner !== undefined) ?? this.#idle[0];
    if (victim === undefined) return;
    this.#remove(victim);
    void victim.connection.close();
  }

  /** Closes, in time, what has waited too long or is too old. */
  #watchOver(): void {
    if (this.#expiry !== undefined || this.#idle.length === 0 || this.#isClosed) return;
    const next = Math.min(...this.#idle.map((pooled) => this.#endOf(pooled)));
    const wait = Math.min(Math.max(next - Date.now(), MIN_EXPIRY_MS), MAX_EXPIRY_MS);
    this.#expiry = setTimeout(() => {
      this.#expiry = undefined;
      for (const pooled of this.#idle.filter((one) => this.#endOf(one) <= Date.now())) {
        this.#remove(pooled);
        void pooled.connection.close();
      }
      this.#keepWarm();
      this.#watchOver();
    }, wait);
    this.#expiry.unref();
  }

  /** When an idle connection is to be closed. Those that are kept ahead of demand wait as long as they live. */
  #endOf({ owner, openedAt, idleSince }: PooledConnection): number {
    const { serverLifetimeMs, serverIdleTimeoutMs } = this.#settings;
    const lifetime = openedAt + serverLifetimeMs;
    return owner === undefined ? lifetime : Math.min(lifetime, idleSince + serverIdleTimeoutMs);
  }

  /** Connections ready ahead of demand that nobody has used, from the first use on. */
  #keepWarm(): void {
    const { minPoolSize, maxPoolSize, logger } = this.#settings;
    if (this.#warming !== undefined || this.#isClosed) return;
    const spare = this.#idle.filter(({ owner }) => owner === undefined).length;
    if (spare >= Math.min(minPoolSize, maxPoolSize)) return;
    let isKept = false;
    this.#warming = this.#open()
      .then(async (pooled) => {
        isKept = !this.#isClosed && pooled.borrowedAt > this.#clearedAt;
        if (isKept) this.#add(pooled);
        else await pooled.connection.close();
      })
      .catch((error: unknown) => logger.debug({ err: error }, 'no spare connection'))
      .finally(() => {
        this.#warming = undefined;
        // A server that refuses one is not asked again before the next launch.
        if (isKept) this.#keepWarm();
      });
  }
}
