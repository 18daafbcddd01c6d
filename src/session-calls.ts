import { randomBytes } from 'node:crypto';
import type { Verb } from './api.ts';
import { clamp } from './call-arguments.ts';
import type { Arguments, SignedContext } from './callback.ts';
import { arrayLiteral } from './column-chunks.ts';
import type { ControlLink } from './control-link.ts';
import { BackgroundError, type ReportFields } from './errors.ts';
import type { PoolOwner } from './connection-pool.ts';
import { notAttached, Registry } from './registry.ts';
import { ResultStreaming } from './result-streaming.ts';
import type { RowSink, StreamableResult } from './row-sink.ts';
import type { StatementPlace } from './session-events.ts';
import type { SessionLogins } from './session-logins.ts';
import type { SpoolBudget } from './spool-budget.ts';
import { maxWorkers, readSetting } from './setting-value.ts';
import type { EngineSettings } from './settings.ts';
import type { FindBlockers, WaitGraph } from './wait-graph.ts';
import { prepareDirectRows, prepareRows, type PreparedRows } from './transfer.ts';
import { WorkerLauncher } from './worker-launcher.ts';
import { listColumns } from './worker-list.ts';
import type { Worker } from './worker.ts';

/** A worker's error on its way to the reader, with the notices that came before it. */
export class WorkerFailure extends Error {
  readonly error: ReportFields;
  readonly pid: number;
  readonly notices: readonly ReportFields[];
  /** Forgets the worker: to be called when the reader has the error. */
  readonly consume: () => Promise<void>;

  constructor(worker: Worker, error: ReportFields, consume: () => Promise<void>) {
    super('background worker failed');
    this.consume = consume;
    this.error = error;
    this.pid = worker.pid;
    this.notices = worker.output.notices;
  }
}

/** What a function is told, as JSON, and the worker whose notices it is to raise before. */
export type Reply = Readonly<Record<string, unknown>> & { readonly worker?: Worker };

/** Who asks, and through which link the server can be asked about that. */
export interface Caller {
  /** The process ID of the session's backend. */
  readonly pid: number;
  readonly context: SignedContext;
  readonly link: ControlLink;
  /** Asks the server which backends a backend waits for. */
  readonly findBlockers: FindBlockers;
  /** Aborts when nobody waits for the answer any more. */
  readonly abandoned: AbortSignal;
  /** Says what is on its way to the reader; an earlier offer of the same call is withdrawn. */
  offer(result: OfferedResult): void;
  /** Where the result can go while it comes, see SessionEvents. */
  stream(result: StreamableResult): RowSink | undefined;
  /** The place of the asking statement where it is plain, see SessionEvents. */
  plainPlace(): StatementPlace | undefined;
  /** Whether the asking statement can end now and be run again when the worker has ended. */
  leave(worker: Worker): boolean;
  /** How many bytes of an answer one packet carries for the asking role. */
  readonly packetBytes: number;
}

/** A result on its way to its reader: consumed when the receipt comes back, kept when it does not. */
export interface OfferedResult {
  readonly receipt: string;
  /** Forgets the worker: its result was read to the end. */
  consume(): Promise<void>;
  /** Removes what was made for the way. */
  release(): Promise<void>;
}

const ANY_TEXT = 25;

/** Tells a function to return at once: its statement will be run again. */
const LATER = { later: true };

/** Tells a function to launch again, and to send the settings in effect. */
const SEND_SETTINGS = { sendSettings: true };

/** How long a wait lasts before, and between, looking whether it can ever end. */
const CYCLE_CHECK_MS = 1_000;

/** Until all who wait look at the same time: they share what it costs. */
const untilNextCheck = () => CYCLE_CHECK_MS - (performance.now() % CYCLE_CHECK_MS);

const NO_ROWS_REFUSAL =
  'remote query did not return a result set, but result rowtype is not a single text column';

/** One method for each function of the API, for the workers of one session. */
export class SessionCalls implements PoolOwner {
  readonly #logins: SessionLogins;
  readonly #waits: WaitGraph;
  /** Preparations of results that are under way. */
  readonly #preparing = new Set<Promise<unknown>>();
  readonly #registry = new Registry();
  readonly #launcher: WorkerLauncher;
  readonly #launchPatienceMs: number;
  #isClosed = false;

  constructor(
    logins: SessionLogins,
    budget: SpoolBudget,
    waits: WaitGraph,
    plainLaunches: Pick<EngineSettings, 'launchPatienceMs' | 'unchangedSettingsMs'>,
    onLaunched: (worker: Worker) => void,
  ) {
    this.#launchPatienceMs = plainLaunches.launchPatienceMs;
    this.#logins = logins;
    this.#waits = waits;
    this.#launcher = new WorkerLauncher(
      logins,
      budget,
      this.#registry,
      this,
      plainLaunches.unchangedSettingsMs,
      onLaunched,
    );
  }

  /** Does what a function asks for. @returns its answer, as JSON @throws what the function raises */
  async perform(verb: Verb, args: Arguments, caller: Caller): Promise<Reply> {
    switch (verb) {
      case 'pg_background_launch':
      case 'pg_background_launch_v2':
      case 'pg_background_submit_v2':
        return this.#launch(verb, args, caller);
      case 'pg_background_result':
      case 'pg_background_result_v2':
        return this.#result(args, caller);
      case 'pg_background_detach':
      case 'pg_background_detach_v2':
        await this.#registry.drop(await this.#find(args, caller));
        return {};
      case 'pg_background_cancel_v2':
        await (await this.#find(args, caller)).cancel();
        return {};
      case 'pg_background_cancel_v2_grace':
        await (await this.#find(args, caller)).cancelGently(clamp(args['graceMs'], 3_600_000));
        return {};
      case 'pg_background_wait_v2':
        return (await this.#untilEnd(await this.#find(args, caller), caller)) ? {} : LATER;
      case 'pg_background_wait_v2_timeout': {
        const worker = await this.#find(args, caller);
        return { ended: await worker.endsWithin(clamp(args['timeoutMs'], 86_400_000)) };
      }
      case 'pg_background_list_v2':
        return { columns: await this.#list(caller) };
      case 'pg_background_stats_v2':
        return {
          ...this.#registry.counts,
          maxWorkers: readSetting(maxWorkers, args['maxWorkers']),
        };
      case 'pg_background_progress':
        return {}; // a report, which is never asked for
      case 'pg_background_get_progress_v2':
        return this.#progressOf(args, caller);
    }
  }

  /** Forgets all handles; the workers go on. */
  forgetWorkers(): Promise<void> {
    return this.#registry.dropAll();
  }

  /** The same, for good: settles when nothing is being prepared any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#registry.dropAll();
    await Promise.all(this.#preparing);
    await this.#logins.forget(this);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  async #launch(verb: Verb, args: Arguments, caller: Caller): Promise<Reply> {
    const launched = await this.#launcher.launch(verb, args, caller);
    if (launched === undefined) return SEND_SETTINGS;
    const { worker, isPlain } = launched;
    return {
      pid: worker.pid,
      cookie: worker.order.cookie,
      ...(isPlain && { isPlain }),
      ...(await this.#passOn(worker, args, caller)),
    };
  }

  /** Gives the result of a statement that is nothing but a launch and its result to the client, if rows come at once. */
  async #passOn(worker: Worker, args: Arguments, caller: Caller): Promise<Reply | undefined> {
    if (args['isDirect'] !== true || caller.plainPlace() === undefined) return undefined;
    await worker.endsOrGivesRows(this.#launchPatienceMs);
    const streaming = this.#streaming(worker, args, caller);
    if (worker.error !== undefined || !streaming.begin()) return undefined;
    // There are rows, so the statement cannot be run again later.
    await this.#untilEnd(worker, streaming.watching(caller));
    const streamed = await streaming.finish();
    this.#throwErrorOf(worker);
    return streamed;
  }

  /** @throws WorkerFailure if the worker has failed: with that its result is read */
  #throwErrorOf(worker: Worker): void {
    if (worker.error === undefined) return;
    throw new WorkerFailure(worker, worker.error, () => this.#registry.drop(worker));
  }

  #streaming(worker: Worker, args: Arguments, caller: Caller): ResultStreaming {
    return new ResultStreaming(worker, args, caller, () => this.#registry.drop(worker));
  }

  /** A result is read in two steps: its types first, so that a wrong column list destroys nothing. */
  async #result(args: Arguments, caller: Caller): Promise<Reply> {
    const worker = this.#registry.find(Number(args['pid']), args['cookie']);
    await this.#checkRights(worker, caller);
    if (typeof args['cookie'] === 'string' && args['cookie'] !== worker.order.cookie) {
      throw notAttached(worker.pid, ' (cookie mismatch)');
    }
    if (worker.order.isSubmitted) {
      throw new BackgroundError(
        '0A000',
        `results are disabled for PID ${worker.pid} (submitted via submit_v2)`,
      );
    }
    if (args['isDirect'] === true) this.#launcher.confirm(caller);
    const streaming = this.#streaming(worker, args, caller);
    if (args['step'] === 'describe') streaming.beginWithRows();
    if (!(await this.#untilEnd(worker, streaming.watching(caller)))) return LATER;
    const streamed = args['step'] === 'describe' ? await streaming.finish() : undefined;
    this.#throwErrorOf(worker);
    if (streamed !== undefined) return streamed;
    return args['step'] === 'take'
      ? this.#take(worker, args, caller)
      : this.#describe(worker, caller);
  }

  /**
   * Settles when the worker has ended: true. When it waits, perhaps through others, for this very
   * session: false where the asking statement can end, which frees the worker, and be run again.
   * @throws BackgroundError 40P01 where it cannot
   */
  async #untilEnd(worker: Worker, caller: Caller): Promise<boolean> {
    if (worker.hasEnded) return true;
    const { pid, findBlockers, abandoned } = caller;
    const done = this.#waits.begin(pid, worker.pid);
    abandoned.addEventListener('abort', done);
    try {
      for (let time = CYCLE_CHECK_MS; !(await worker.endsWithin(time)); time = untilNextCheck()) {
        abandoned.throwIfAborted();
        if (!(await this.#waits.mustGiveWay(pid, findBlockers))) continue;
        if (caller.leave(worker)) return false;
        throw new BackgroundError('40P01', 'deadlock detected', {
          detail: `Process ${pid} waits for background worker ${worker.pid}, which waits for process ${pid}.`,
          hint: 'Wait outside the transaction, in a statement of its own, or look at the worker from time to time with pg_background_wait_v2_timeout.',
        });
      }
      // A call that was cancelled reads nothing, so it consumes nothing.
      abandoned.throwIfAborted();
      return true;
    } finally {
      abandoned.removeEventListener('abort', done);
      done();
    }
  }

  async #describe(worker: Worker, caller: Caller): Promise<Reply> {
    const { columns, rows, tags } = worker.output;
    if (columns === undefined) {
      const told = { columns: [arrayLiteral(tags)], rowCount: tags.length };
      const direct = { rows: told, release: () => Promise.resolve() };
      const offer = await this.#offer(worker, caller, Promise.resolve(direct));
      return { types: [ANY_TEXT], refusal: NO_ROWS_REFUSAL, ...offer };
    }
    const direct = prepareDirectRows(rows, columns.length, caller.packetBytes);
    const types = columns.map(({ oid }) => oid);
    return { types, ...(await this.#offer(worker, caller, direct)) };
  }

  #take(worker: Worker, args: Arguments, caller: Caller): Promise<Reply> {
    const { rows, columns = [] } = worker.output;
    const canUseTable = args['throughTable'] === true;
    return this.#offer(
      worker,
      caller,
      prepareRows(
        { login: this.#logins.own, owner: this },
        rows,
        columns.length,
        canUseTable,
        caller.abandoned,
      ),
    );
  }

  /** Offers what is being prepared, or removes it when nobody waits for it any more. */
  async #offer(
    worker: Worker,
    caller: Caller,
    preparation: Promise<PreparedRows | undefined>,
  ): Promise<Reply> {
    const offering = (async (): Promise<Reply> => {
      const prepared = await preparation;
      if (prepared === undefined) return {};
      if (caller.abandoned.aborted) await prepared.release();
      caller.abandoned.throwIfAborted();
      const receipt = randomBytes(12).toString('base64url');
      caller.offer({
        receipt,
        consume: () => this.#registry.drop(worker),
        release: () => prepared.release(),
      });
      const formats = { ...Object.fromEntries(worker.output.formats), array_nulls: 'on' };
      return { receipt, worker, formats, ...prepared.rows };
    })();
    const settled: Promise<void> = offering.then(
      () => void this.#preparing.delete(settled),
      () => void this.#preparing.delete(settled),
    );
    this.#preparing.add(settled);
    return offering;
  }

  /** The worker of a v2 call: known, allowed, and with the right cookie, in this order. */
  async #find(args: Arguments, caller: Caller): Promise<Worker> {
    const worker = this.#registry.find(Number(args['pid']), args['cookie']);
    await this.#checkRights(worker, caller);
    if (typeof args['cookie'] === 'string' && args['cookie'] !== worker.order.cookie) {
      throw new BackgroundError('55000', `cookie mismatch for PID ${worker.pid}`, {
        hint: 'The worker may have been restarted or the handle is stale.',
      });
    }
    return worker;
  }

  async #mayUse(worker: Worker, { context, link }: Caller): Promise<boolean> {
    const { roleOid } = worker.order;
    return roleOid === context.roleOid || link.hasPrivilegesOf(context.roleOid, roleOid);
  }

  async #checkRights(worker: Worker, caller: Caller): Promise<void> {
    if (await this.#mayUse(worker, caller)) return;
    throw new BackgroundError(
      '42501',
      `permission denied for background worker with PID "${worker.pid}"`,
    );
  }

  async #list(caller: Caller): Promise<string[]> {
    const visible: Worker[] = [];
    for (const worker of this.#registry.workers) {
      if (await this.#mayUse(worker, caller)) visible.push(worker);
    }
    return listColumns(visible, caller.link.encoding);
  }

  async #progressOf(args: Arguments, caller: Caller): Promise<Reply> {
    const worker = this.#registry.workers.find(
      ({ pid, order }) => pid === args['pid'] && order.cookie === args['cookie'],
    );
    if (worker === undefined) return {};
    await this.#checkRights(worker, caller);
    const { progress } = worker;
    return progress === undefined ? {} : { pct: progress.pct, msg: progress.message };
  }
}
