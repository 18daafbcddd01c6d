import type { BackendConnection } from './backend-connection.ts';
import { BackgroundError, type DatabaseText, type ReportFields } from './errors.ts';
import type { PooledConnection, PoolOwner } from './connection-pool.ts';
import type { Login } from './login.ts';
import type { RowSink, StreamableResult } from './row-sink.ts';
import { RowStream } from './row-stream.ts';
import type { SpoolBudget } from './spool-budget.ts';
import { hasCustomSettings, settingsWithTheSql } from './session-settings.ts';
import { MAX_INLINE_LENGTH, vetAnyWorkerSql } from './sql-vetting.ts';
import { borrowFor } from './worker-connection.ts';
import { WorkerEnd } from './worker-end.ts';
import { describeFailure, TERMINATED, TIMED_OUT } from './worker-failure.ts';
import {
  mayChangeFormats,
  mayLeaveTraces,
  type Progress,
  type WorkerOrder,
  type WorkerState,
} from './worker-order.ts';
import { WorkerOutput } from './worker-output.ts';

const CANCELED = 'canceling statement due to user request';

/** How long after a time-out, or a cancel that may have been ignored, the statement is cancelled once more. */
const CANCEL_AGAIN_MS = 1_000;

/** More of the SQL than a list shows, for it may be cut inside a character. */
const PREVIEW_BYTES = 256;

/**
 * One SQL text running on one connection, and what came of it.
 *
 * `starting`: a connection is borrowed, settings and role are put on it, the text is vetted.
 * `running`: the text was sent; rows, tags and notices are collected as they come.
 * `stopped`, `canceled`, `error`: the server has answered ReadyForQuery, or the connection is gone;
 * the connection went back to the pool or was closed. Nothing changes after that.
 */
export class Worker {
  order: WorkerOrder;
  /** The beginning of the SQL, for lists. */
  readonly sqlPreview: DatabaseText;
  readonly launchedAt = new Date();
  /** Settles, never fails, when it has no connection any more: that is back in the pool, or closed. */
  readonly released: Promise<void>;
  readonly output: WorkerOutput;
  progress: Progress | undefined;
  error: ReportFields | undefined;
  endedAt: Date | undefined;
  readonly #login: Login;
  #pooled: PooledConnection | undefined;
  #state: WorkerState = 'starting';
  #pid = 0;
  #wasCanceled = false;
  #wasTimedOut = false;
  /** Its SQL is through, or was told to end. */
  #isEnding = false;
  readonly #mayChangeFormats: boolean;
  /** Aborts when the SQL is not to be sent any more; what is sent already must be cancelled. */
  readonly #unsent = new AbortController();
  readonly #end = new WorkerEnd();
  #settleReleased: () => void = () => {};

  constructor(login: Login, order: WorkerOrder, budget: SpoolBudget) {
    this.#login = login;
    this.order = order;
    this.#mayChangeFormats = mayChangeFormats(order.sql);
    this.sqlPreview = order.sql.slice(0, PREVIEW_BYTES);
    this.output = new WorkerOutput(order.queueBytes, !order.isSubmitted, order.settings, budget);
    this.released = new Promise((resolve) => (this.#settleReleased = resolve));
  }

  get state(): WorkerState {
    return this.#state;
  }

  get pid(): number {
    return this.#pid;
  }

  /** Settles, never fails, when the worker has reached one of its last three states. */
  get ended(): Promise<void> {
    return this.#end.reached;
  }

  get hasEnded(): boolean {
    return this.endedAt !== undefined;
  }

  get connection(): BackendConnection | undefined {
    return this.#pooled?.connection;
  }

  /**
   * Settles when the SQL was sent, without waiting for what comes of it: errors of the SQL are for
   * result. @throws the reason for which no worker could be started
   * @param onRunning called before the SQL is sent
   */
  async start(
    owner: PoolOwner,
    isFreePid: (pid: number) => boolean,
    onRunning: () => void,
  ): Promise<void> {
    try {
      await this.#start(owner, isFreePid, onRunning);
    } catch (error) {
      this.#settleReleased();
      throw error;
    }
  }

  async #start(
    owner: PoolOwner,
    isFreePid: (pid: number) => boolean,
    onRunning: () => void,
  ): Promise<void> {
    for (;;) {
      const pooled = await borrowFor(this.order, this.#login, owner, isFreePid);
      this.#pooled = pooled;
      this.#pid = pooled.connection.pid;
      this.#state = 'running';
      onRunning();
      // Nothing was run on a connection that died in the pool: the next one serves.
      const canTryAgain = pooled.wasIdle && this.order.sql.length <= MAX_INLINE_LENGTH;
      const begun = new Promise<boolean>((resolve) => {
        void this.#run(pooled, canTryAgain, resolve);
      });
      if (!canTryAgain || (await begun)) return;
      await this.#login.retire(pooled);
    }
  }

  /** What is to be known of the result before it can go to a client while it comes; undefined as long as that is not known. */
  get streamable(): Omit<StreamableResult, 'hasAllDigits' | 'isAtOnce' | 'statement'> | undefined {
    const { columns, failure, notices, reported, hasLastRows } = this.output;
    // Those that were raised already would come behind the rows.
    if (columns === undefined || failure !== undefined || notices.length > 0) return undefined;
    if (!this.hasEnded && !hasLastRows) return undefined;
    return { columns, formats: reported, mayChangeFormats: this.#mayChangeFormats };
  }

  /** A way for the rows to a sink, which feed() fills. */
  streamTo(sink: RowSink): RowStream {
    return new RowStream(sink, this.hasEnded ? undefined : this.connection, this.pid);
  }

  /** Gives the rows that there are to a stream, and those that come when they come. Settles when the first of these are given. */
  async feed(stream: RowStream): Promise<void> {
    const connection = this.hasEnded ? undefined : this.connection;
    connection?.pause();
    try {
      for await (const { bytes, count } of this.output.rows.read()) {
        stream.add(bytes, count);
        await stream.hasRoom();
        if (stream.isStopped) break;
      }
      this.output.rows.reset();
      this.output.stream = stream;
    } finally {
      connection?.resume();
    }
  }

  /** Output is for nobody any more: what there is goes, what comes is discarded. The SQL goes on. */
  abandon(): Promise<void> {
    return this.output.discard();
  }

  /** Terminates the worker. Settles when the server was told, not when the worker has ended. */
  async cancel(): Promise<void> {
    if (this.hasEnded) return;
    this.#wasCanceled = true;
    this.#unsent.abort(new BackgroundError('57P01', TERMINATED));
    const link = await this.#login.controlLink();
    await link.terminate(this.#pid, () => !this.hasEnded);
  }

  /** Cancels the statement, then terminates the worker when it still runs after the grace. */
  async cancelGently(graceMs: number): Promise<void> {
    if (this.hasEnded) return;
    const deadline = Date.now() + graceMs;
    for (let left = graceMs; left > 0; left = deadline - Date.now()) {
      this.#wasCanceled = true;
      const isSure = await this.#interrupt(CANCELED);
      if (await this.endsWithin(isSure ? left : Math.min(left, CANCEL_AGAIN_MS))) return;
      if (isSure) break;
    }
    await this.cancel();
  }

  /** Ends the worker without the help of the control link: for the end of the engine. */
  async stop(): Promise<void> {
    const connection = this.connection;
    this.#wasCanceled = true;
    this.#unsent.abort(new BackgroundError('57014', CANCELED));
    await connection?.cancel();
    if (!(await this.endsWithin(1_000))) await connection?.close();
    await this.released;
  }

  /**
   * Cancels the statement that runs, or keeps the SQL from being sent. A CancelRequest only where the
   * control link is not to be had: some servers (14 for one) signal twice then, and hit what SQL does
   * after it has caught the first.
   * @returns false where it may have been ignored
   */
  async #interrupt(message: string): Promise<boolean> {
    this.#unsent.abort(new BackgroundError('57014', message));
    try {
      const link = await this.#login.controlLink();
      return await link.cancel(this.#pid, () => !this.hasEnded);
    } catch {
      await this.connection?.cancel();
      return true;
    }
  }

  /** Whether the worker has ended before the time is over. */
  endsWithin(timeoutMs: number): Promise<boolean> {
    return this.#end.comesWithin(timeoutMs);
  }

  /** Settles when the worker has ended, or goes on behind rows of its last statement, or the time is over. */
  async endsOrGivesRows(timeoutMs: number): Promise<void> {
    await this.#end.comesWithin(timeoutMs, (stopWaiting) => {
      // Most results are all there in what is read with the first row.
      const soon = () => void setImmediate(stopWaiting);
      if (this.streamable === undefined) this.output.onLastRows = soon;
      else soon();
    });
  }

  /**
   * Vets and runs the SQL. Never fails.
   * @param onBegun told whether the server has begun with the SQL, or will not; false, where the caller can
   * try again, when the connection turns out to be dead: then it is still the caller's
   */
  async #run(
    pooled: PooledConnection,
    canTryAgain: boolean,
    onBegun: (hasBegun: boolean) => void,
  ): Promise<void> {
    const { connection } = pooled;
    const { sql, timeoutMs } = this.order;
    let hasBegun = false;
    const ended = () => {
      hasBegun = true;
      onBegun(true);
    };
    let timer: NodeJS.Timeout | undefined;
    const timeOut = () => {
      this.#wasTimedOut = true;
      void this.#interrupt(TIMED_OUT);
      // SQL may catch a cancel, and go on.
      timer = setTimeout(timeOut, CANCEL_AGAIN_MS);
    };
    if (timeoutMs > 0) timer = setTimeout(timeOut, timeoutMs);
    let failure: unknown;
    try {
      if (this.order.settings['standard_conforming_strings'] === 'off' && sql.includes('\\')) {
        // A backslash means something else to the server then than to the parser that vets.
        throw new BackgroundError(
          '0A000',
          'SQL with backslashes cannot run in pg_background while standard_conforming_strings is off',
          { hint: 'SET standard_conforming_strings = on.' },
        );
      }
      const statements = await vetAnyWorkerSql(sql, this.#unsent.signal);
      if (statements === undefined) {
        // Unvetted text never runs. The server says what is wrong with it.
        await connection.parseOnly(Buffer.from(sql, 'latin1'));
        throw new BackgroundError('42601', 'pg_background cannot read this SQL', {
          detail: "The server accepts its syntax, but the proxy's parser does not.",
        });
      }
      this.#unsent.signal.throwIfAborted();
      this.output.statements = statements;
      this.output.reported = new Map(connection.parameters);
      await connection.query(
        sql,
        { message: (type, frame) => this.#collect(connection, type, frame) },
        { sql: settingsWithTheSql(pooled.baseline, this.order.settings), ended },
      );
      this.#isEnding = true;
      await this.output.settled();
    } catch (error) {
      failure = error;
    } finally {
      clearTimeout(timer);
    }
    const wasDead = canTryAgain && !hasBegun && connection.isClosed && !this.#wasCanceled;
    onBegun(!wasDead);
    if (wasDead) return;
    await this.#finish(pooled, failure);
    this.#settleReleased();
  }

  #collect(connection: BackendConnection, type: number, frame: Buffer): void {
    const kept = this.output.take(type, frame);
    if (kept !== undefined) {
      connection.pause();
      void kept.then(() => {
        connection.resume();
        this.#endFailed(connection);
      });
    }
    this.#endFailed(connection);
  }

  /** Its output cannot be kept: then the SQL need not go on. */
  #endFailed(connection: BackendConnection): void {
    if (this.output.failure === undefined || this.#isEnding || this.hasEnded) return;
    this.#isEnding = true;
    void connection.cancel();
  }

  async #finish(pooled: PooledConnection, failure: unknown): Promise<void> {
    this.output.stream?.letGo();
    const wasLost = pooled.connection.isClosed;
    const error = this.output.failure ?? failure;
    if (error !== undefined) {
      this.output.rows.reset();
      this.error = describeFailure(error, {
        pid: this.#pid,
        sql: this.order.sql,
        wasTimedOut: this.#wasTimedOut,
        wasLost,
      });
    }
    this.#state =
      this.#wasCanceled && error !== undefined
        ? 'canceled'
        : error !== undefined
          ? 'error'
          : 'stopped';
    this.endedAt = new Date();
    // Not awaited by those who wait for the worker: the SQL has ended, whatever the pool still does.
    const isReusable =
      !wasLost &&
      !this.#wasCanceled &&
      !this.#wasTimedOut &&
      !hasCustomSettings(this.order.custom) &&
      !this.output.failure &&
      this.order.role === undefined &&
      !mayLeaveTraces(this.order.sql);
    // A handle may be kept for long: what is not needed any more need not be kept with it.
    this.order = { ...this.order, sql: '', settings: {}, custom: {} };
    this.#end.come();
    if (!isReusable) return this.#login.retire(pooled);
    // Those who wait for the worker are told first: the server takes a processor for what is sent now.
    await new Promise(setImmediate);
    await this.#login.giveBack(pooled);
  }
}
