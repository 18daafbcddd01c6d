import { setTimeout as delay } from 'node:timers/promises';
import { BackendConnection, type LoginTarget } from './backend-connection.ts';
import { NARROW_BYTES, wideBytes } from './callback.ts';
import {
  cancelUnlessIdle,
  DESCRIBE,
  findBackends,
  findBlockers,
  LINK_SETTINGS,
  REPLY,
} from './control-link-sql.ts';
import type { Packet } from './conversation.ts';
import type { TextRows } from './exchange.ts';
import type { FunctionCall } from './frontend-messages.ts';
import { InstalledExtension } from './installed-extension.ts';
import { PacketDisplay } from './packet-display.ts';
import { BackgroundError } from './errors.ts';
import type { Credential } from './credential.ts';
import { ServerClock } from './server-clock.ts';
import { SharedQuestion } from './shared-question.ts';
import type { DatabaseIdentity } from './signing-key.ts';

/** pg_try_advisory_lock(bigint) and pg_advisory_unlock(bigint). The oids of built-in functions never change. */
const TRY_ADVISORY_LOCK = 2882;
const ADVISORY_UNLOCK = 2884;

/** How long to wait before a lock is tried again that somebody else had, at first and at most. */
const LOCK_PAUSE_MS = 1;
const MAX_LOCK_PAUSE_MS = 1_000;

/** A call of a function on its way, and who wants to know whether it has given true. */
interface PendingCall {
  readonly call: FunctionCall;
  answered(isTrue: boolean): void;
}

const unlocking = (key: string): PendingCall => ({
  call: [ADVISORY_UNLOCK, key],
  answered: () => {},
});

/** A frozen server must not hold up all sessions for ever. */
const EXCHANGE_TIMEOUT_MS = 10_000;

/** How long a packet is shown before others for which there was no room. */
const SHOW_MS = 100;

/** With so many who wait for an answer, the next does well to wait without looking all the time. */
const BUSY_READERS = 2;

/** How often, and how long, a backend is given time to begin with what it was sent. */
const CANCEL_RETRY_MS = 5;
const MAX_CANCEL_TRIES = 1_000;

/** A lock that a function sleeps on; whoever took it releases it, once or more often. */
export interface AdvisoryLock {
  readonly link: ControlLink;
  release(): void;
  /** It is released in another way. @returns its key, the first time */
  letGo(): string | undefined;
}

/**
 * The connection through which functions get their answers: its application_name (63 bytes, which
 * every role may read) shows one packet at a time, its query text (for roles with the rights of ours)
 * as many as it has room for. It belongs to all sessions of a (role, database); it never runs
 * anybody's SQL.
 */
export class ControlLink {
  readonly identity: DatabaseIdentity;
  /** The database's encoding by its PostgreSQL name. */
  readonly encoding: string;
  /** The role that the link has logged in as, whatever it is called by now. */
  readonly roleOid: number;
  /** What is installed in the database. */
  readonly installed: InstalledExtension;
  readonly clock = new ServerClock();
  readonly #connection: BackendConnection;
  readonly #wideBytes: number;
  readonly #display: PacketDisplay;
  /** How those learn that the link is lost who wait for a packet to be read. */
  readonly #readers = new Set<(reason: unknown) => void>();
  /** What is to be called in the link's next turn. */
  readonly #calls: PendingCall[] = [];
  /** The same of those who hold a lock. */
  readonly #holders = new Set<() => void>();
  #isRefreshing = false;
  #rotation: NodeJS.Timeout | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #blockers = new SharedQuestion(
    (action) => this.#inTurn(action),
    (pids) => this.#run(findBlockers(pids)),
  );
  readonly #ownBackends = new SharedQuestion(
    (action) => this.#inTurn(action),
    (pids) => this.#run(findBackends(pids, this.roleOid)),
  );

  private constructor(
    connection: BackendConnection,
    trustedOwners: readonly string[],
    description: readonly (string | null)[],
  ) {
    const [systemIdentifier, databaseOid, trackActivities, querySize, encoding, clock, roleOid] =
      description;
    this.#connection = connection;
    this.installed = new InstalledExtension(trustedOwners, this.clock, (sql) => this.#ask(sql));
    this.identity = {
      systemIdentifier: String(systemIdentifier),
      databaseOid: Number(databaseOid),
    };
    this.encoding = encoding ?? 'UTF8';
    this.roleOid = Number(roleOid);
    this.clock.set(clock);
    this.#wideBytes = trackActivities === 'on' ? wideBytes(Number(querySize)) : 0;
    this.#display = new PacketDisplay(Number(querySize));
    void connection.closed.then((error) => {
      clearTimeout(this.#rotation);
      for (const lose of this.#readers)
        lose(error ?? new BackgroundError('08006', 'the control link was closed'));
      for (const lose of this.#holders) lose();
    });
  }

  static async open(
    target: LoginTarget,
    credential: Credential | undefined,
    trustedOwners: readonly string[],
    timeoutMs: number,
  ): Promise<ControlLink> {
    const connection = await BackendConnection.open(target, credential, LINK_SETTINGS, timeoutMs);
    try {
      const [description = []] = await connection.answersWithin(
        timeoutMs,
        connection.query(DESCRIBE),
      );
      await connection.answersWithin(timeoutMs, connection.prepare('reply', REPLY));
      const link = new ControlLink(connection, trustedOwners, description);
      await link.installed.read();
      return link;
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  /** Of the backend whose pg_stat_activity entry is looked at. */
  get pid(): number {
    return this.#connection.pid;
  }

  get isClosed(): boolean {
    return this.#connection.isClosed;
  }

  /** Settles when the link is gone. */
  get closed(): Promise<unknown> {
    return this.#connection.closed;
  }

  /** How many bytes of a message one packet carries, for a role that may read our query text or not. */
  packetBytes(isWide: boolean): number {
    return isWide && this.#wideBytes > 0 ? this.#wideBytes : NARROW_BYTES;
  }

  /** Bytes of a message that one wide packet carries; 0 where the server shows no query texts. */
  get wideBytes(): number {
    return this.#wideBytes;
  }

  /** Whether several functions wait for what they are to read. */
  get isBusy(): boolean {
    return this.#readers.size >= BUSY_READERS;
  }

  /**
   * Shows a packet, beside others, until it was read. @throws what wasRead throws, and when the link is lost
   * @param sleepsOn what its reader may sleep on: woken earlier, he would look for it in vain, again and again
   */
  async show(packet: Packet, wasRead: Promise<void>, sleepsOn?: AdvisoryLock): Promise<void> {
    let lose: (reason: unknown) => void = () => {};
    const lost = new Promise<never>((_, reject) => (lose = reject));
    this.#readers.add(lose);
    this.#display.add(packet, sleepsOn);
    try {
      this.#refresh();
      await Promise.race([wasRead, lost]);
    } finally {
      this.#readers.delete(lose);
      const others = this.#display.isFull;
      this.#display.remove(packet);
      if (others) this.#refresh();
    }
  }

  /** Shows what is to be shown now, when the link's turn comes. */
  #refresh(): void {
    if (this.#isRefreshing) return;
    this.#isRefreshing = true;
    this.#inTurn(() => {
      this.#isRefreshing = false;
      return this.#showPackets();
    }).catch((error: unknown) => {
      for (const lose of this.#readers) lose(error);
    });
  }

  async #showPackets(): Promise<void> {
    const { query, applicationName, wakes } = this.#display.show();
    if (applicationName !== undefined)
      await this.#exchange(this.#connection.execute('reply', [applicationName]));
    // A comment is an empty query: it is shown in pg_stat_activity and leaves no trace in pg_stat_statements.
    // Calling functions does not change what is shown.
    const unlocks = wakes
      .flatMap((lock) => (lock.link === this ? (lock.letGo() ?? []) : []))
      .map((key) => unlocking(key));
    const calls = [...this.#calls.splice(0), ...unlocks];
    const results = await this.#exchange(
      this.#connection.queryAndCall(
        query,
        calls.map(({ call }) => call),
      ),
    );
    for (const [at, { answered }] of calls.entries()) answered(results[at] === 't');
    if (!this.#display.isFull || this.#rotation !== undefined) return;
    this.#rotation = setTimeout(() => {
      this.#rotation = undefined;
      this.#display.rotate();
      this.#refresh();
    }, SHOW_MS);
  }

  /**
   * Takes an advisory lock as soon as nobody else has it; functions sleep on it. A function that looks at that
   * very moment has it for an instant, so one try is not enough.
   * @param onLost called when the link is lost while it has the lock: the server lets go of it then
   * @throws BackgroundError 08006 when it is lost already
   */
  lock(key: string, onLost: () => void): AdvisoryLock {
    if (this.isClosed) throw new BackgroundError('08006', 'the control link was closed');
    let isWanted = true;
    let retry: NodeJS.Timeout | undefined;
    const take = (pauseMs: number) =>
      this.#callSoon({
        call: [TRY_ADVISORY_LOCK, key],
        answered: (isTaken) => {
          if (isTaken || !isWanted) return;
          retry = setTimeout(() => take(Math.min(2 * pauseMs, MAX_LOCK_PAUSE_MS)), pauseMs);
        },
      });
    const lose = () => {
      clearTimeout(retry);
      onLost();
    };
    const letGo = () => {
      if (!isWanted) return undefined;
      isWanted = false;
      clearTimeout(retry);
      this.#holders.delete(lose);
      return key;
    };
    const release = () => {
      // When the link is lost, the server has released the lock itself.
      if (letGo() !== undefined && !this.isClosed) this.#callSoon(unlocking(key));
    };
    this.#holders.add(lose);
    take(LOCK_PAUSE_MS);
    return { link: this, letGo, release };
  }

  /** Calls a function when the link's turn comes, with others. */
  #callSoon(call: PendingCall): void {
    this.#calls.push(call);
    this.#refresh();
  }

  /** Ends another backend of our role, if that is still wanted when its turn comes. */
  async terminate(pid: number, isWanted: () => boolean): Promise<void> {
    await this.#inTurn(async () => {
      if (isWanted()) await this.#run(`SELECT pg_catalog.pg_terminate_backend(${pid})`);
    });
  }

  /**
   * Cancels the statement of another backend of our role, in the same way. Unlike a CancelRequest it
   * comes once. A backend that has not begun with what it was sent would ignore it: that is waited for.
   * @returns false where it may have been ignored
   */
  async cancel(pid: number, isWanted: () => boolean): Promise<boolean> {
    for (let tries = 0; tries < MAX_CANCEL_TRIES && isWanted(); tries++) {
      const rows = await this.#inTurn(async () =>
        isWanted() ? this.#run(cancelUnlessIdle(pid)) : [],
      );
      if (rows[0]?.[0] !== 'idle') return rows[0]?.[0] !== 'unsure';
      await delay(CANCEL_RETRY_MS);
    }
    return true;
  }

  /** The backends that a backend waits for. */
  async blockersOf(pid: number): Promise<number[]> {
    const rows = await this.#blockers.about(pid);
    return rows.filter(([waiting]) => Number(waiting) === pid).map(([, other]) => Number(other));
  }

  /** Whether a backend has logged in as our role: our name may be another's by now. */
  async isLoginOf(pid: number): Promise<boolean> {
    const rows = await this.#ownBackends.about(pid);
    return rows.some(([own]) => Number(own) === pid);
  }

  /** Whether a role has the privileges of another, as the server says. */
  async hasPrivilegesOf(roleOid: number, otherOid: number): Promise<boolean> {
    if (!Number.isSafeInteger(roleOid) || !Number.isSafeInteger(otherOid)) {
      throw new BackgroundError('XX000', 'not an oid');
    }
    const rows = await this.#ask(`SELECT pg_catalog.pg_has_role(${roleOid}, ${otherOid}, 'USAGE')`);
    return rows[0]?.[0] === 't';
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }

  /** Any statement of the link's own: it changes the query text, so what is to be read is shown again behind it. */
  #ask(sql: string): Promise<TextRows> {
    return this.#inTurn(() => this.#run(sql));
  }

  async #run(sql: string): Promise<TextRows> {
    const answer = this.#exchange(this.#connection.query(sql));
    if (this.#readers.size > 0) this.#refresh();
    return answer;
  }

  #exchange<T>(answer: Promise<T>): Promise<T> {
    return this.#connection.answersWithin(EXCHANGE_TIMEOUT_MS, answer);
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(action);
    this.#turn = result.catch(() => {});
    return result;
  }
}
