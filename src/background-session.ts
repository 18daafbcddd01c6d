import { randomBytes } from 'node:crypto';
import type { Verb } from './api.ts';
import {
  isVerb,
  openPayload,
  parseCallback,
  privilegeIndex,
  type Arguments,
  type Payload,
  type SignedContext,
} from './callback.ts';
import { arrayLiteral } from './column-chunks.ts';
import type { AdvisoryLock, ControlLink } from './control-link.ts';
import { Conversation } from './conversation.ts';
import { BackgroundError, reportFieldsOf, type DatabaseText, type ReportFields } from './errors.ts';
import type { Login } from './login.ts';
import { notAttached, Registry } from './registry.ts';
import type { SpoolBudget } from './row-spool.ts';
import { defaultQueueSize, maxWorkers, readSetting, workerTimeout } from './setting-value.ts';
import type { EngineSettings } from './settings.ts';
import {
  isGrantToken,
  isSignedWith,
  newGrantToken,
  newKeyMaterial,
  signingKey,
} from './signing-key.ts';
import { prepareRows, type StoredRows } from './transfer.ts';
import { Worker, type Progress } from './worker.ts';

/** What a session's stream has to be told. */
export interface SessionEvents {
  /** The next CommandComplete belongs to a statement that was replaced: this is its own tag. */
  tagReplaced(tag: string): void;
  /** A function is about to raise this error; `pid` when it is a worker's. */
  errorRaised(error: ReportFields, pid: number | undefined): void;
  /** A function is about to raise a worker's notices again. */
  noticesRaised(): void;
}

/** A worker's error on its way to the reader, with the notices that came before it. */
class WorkerFailure extends Error {
  readonly worker: Worker;

  constructor(worker: Worker) {
    super('background worker failed');
    this.worker = worker;
  }
}

/** What a function is told, undefined for nothing at all, and what it will raise then. */
interface Answer {
  readonly reply: object | undefined;
  readonly raises?: {
    readonly error?: ReportFields;
    readonly pid?: number;
    readonly notices?: boolean;
  };
}

/** A quick answer needs no lock to sleep on. */
const QUICK_MS = 5;
const ANY_TEXT = 25;

/**
 * One session as the engine sees it: who it is, which workers it has, and its requests, one at a
 * time. Requests come as notices of its backend; answers go through the login's control link.
 */
export class BackgroundSession {
  readonly #login: Login;
  readonly #settings: EngineSettings;
  readonly #budget: SpoolBudget;
  readonly #token: string;
  readonly #events: SessionEvents;
  readonly #onWorker: (worker: Worker) => void;
  readonly #registry = new Registry();
  readonly #issuedKeys = new Set<string>();
  #pid = 0;
  #lastNumber = 0;
  #conversation: Conversation | undefined;
  #stored: StoredRows | undefined;
  /** What this session's own worker reports, when the session is a worker's connection. */
  #onProgress: ((progress: Progress) => void) | undefined;
  #work: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(
    login: Login,
    settings: EngineSettings,
    budget: SpoolBudget,
    token: string,
    events: SessionEvents,
    onWorker: (worker: Worker) => void,
  ) {
    this.#login = login;
    this.#settings = settings;
    this.#budget = budget;
    this.#token = token;
    this.#events = events;
    this.#onWorker = onWorker;
  }

  /** The process ID of the session's backend, once BackendKeyData told it. */
  set pid(pid: number) {
    this.#pid = pid;
  }

  set onProgress(report: ((progress: Progress) => void) | undefined) {
    this.#onProgress = report;
  }

  /** A token for a statement that the proxy puts in the place of CREATE or DROP EXTENSION. */
  newGrantToken(): string {
    return newGrantToken(this.#settings.secret);
  }

  /** Takes the message of one callback notice. Whatever it is, it never fails. */
  receive(text: string): void {
    const message = parseCallback(text);
    switch (message?.kind) {
      case 'acknowledge':
        if (message.nonce === this.#conversation?.nonce)
          this.#conversation.acknowledge(message.packet);
        break;
      case 'awake':
        if (message.nonce === this.#conversation?.nonce) this.#conversation.awake();
        break;
      case 'fetched':
        if (message.transfer === this.#stored?.key) this.#releaseStored();
        break;
      case 'tag':
        if (isGrantToken(this.#settings.secret, message.grantToken))
          this.#events.tagReplaced(message.tag);
        else this.#drop('a tag without a valid token');
        break;
      case 'install':
        this.#begin(message.payload, (payload) => {
          if (!isGrantToken(this.#settings.secret, message.grantToken) || payload.verb !== 'key')
            return undefined;
          return (link) => Promise.resolve(this.#newKey(link));
        });
        break;
      case 'request':
        this.#begin(message.payload, (payload) => {
          const { context, mac } = message;
          if (!isVerb(payload.verb)) return undefined;
          const verb = payload.verb;
          return async (link) => {
            await this.#verify(link, context, message.payload, mac, verb);
            return this.#perform(verb, payload.arguments, context, link);
          };
        });
        break;
      case undefined:
        this.#drop('a message that is none of ours');
        break;
    }
  }

  /** The server has answered ReadyForQuery: whoever asked something in that statement is gone. */
  statementEnded(): void {
    this.#endConversation();
  }

  /** Forgets all handles; the workers go on. */
  forgetWorkers(): Promise<void> {
    return this.#registry.dropAll();
  }

  /** Ends the session: its workers go on, their output is discarded. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#endConversation();
    await this.#registry.dropAll();
    await this.#work;
  }

  #endConversation(): void {
    this.#conversation?.abandon();
    this.#conversation = undefined;
    this.#releaseStored();
  }

  #releaseStored(): void {
    const stored = this.#stored;
    this.#stored = undefined;
    if (stored !== undefined) this.#track(stored.release());
  }

  /** Remembers work that goes on, so that close() waits for it. */
  #track(work: Promise<unknown>): void {
    this.#work = Promise.allSettled([this.#work, work]);
  }

  #drop(what: string): void {
    this.#settings.logger.warn({ pid: this.#pid }, `callback dropped: ${what}`);
  }

  #begin(
    sealed: string,
    choose: (payload: Payload) => ((link: ControlLink) => Promise<unknown>) | undefined,
  ): void {
    const payload = openPayload(sealed);
    const act = payload && choose(payload);
    if (payload === undefined || act === undefined) return this.#drop('a malformed request');
    if (payload.nonce === undefined || payload.seed === undefined) {
      // One way: nobody waits, so nobody is told when it is refused.
      this.#track(
        this.#login
          .controlLink()
          .then(act)
          .catch((error: unknown) =>
            this.#settings.logger.warn({ err: error }, 'one-way callback refused'),
          ),
      );
      return;
    }
    this.#endConversation();
    const conversation = new Conversation(payload.nonce, payload.seed, payload.wide);
    this.#conversation = conversation;
    this.#track(
      this.#converse(conversation, act).catch((error: unknown) => {
        if (conversation.abandoned.aborted) return;
        // The function hears nothing and fails with 53000 after its own time-out.
        this.#settings.logger.warn({ pid: this.#pid, err: error }, 'a call could not be answered');
      }),
    );
  }

  async #converse(
    conversation: Conversation,
    act: (link: ControlLink) => Promise<unknown>,
  ): Promise<void> {
    const link = await this.#login.controlLink();
    const answer = act(link).then(
      (ok): Answer => ({ reply: { ok } }),
      (error: unknown) => this.#refusal(error),
    );
    const { reply, raises } =
      (await within(QUICK_MS, answer)) ?? (await this.#makeWait(conversation, answer));
    if (reply === undefined) return;
    const current = await this.#login.controlLink();
    if (raises?.notices) this.#events.noticesRaised();
    if (raises?.error) this.#events.errorRaised(raises.error, raises.pid);
    await current.deliver(conversation, encode(reply));
  }

  /** Lets the function sleep on a lock until the answer is there. */
  async #makeWait(conversation: Conversation, answer: Promise<Answer>): Promise<Answer> {
    let isAnswered = false;
    const hasAnswer = () => isAnswered;
    let lock: AdvisoryLock | undefined;
    void answer.then(() => {
      isAnswered = true;
      lock?.release();
    });
    try {
      while (!hasAnswer()) {
        // Every ten seconds the function looks whether we live; it wakes at once when the link is lost.
        const link = await this.#login.controlLink();
        if (lock?.link !== link) lock = await link.lock();
        if (hasAnswer()) break;
        await link.deliver(conversation, encode({ wait: lock.key }));
        await conversation.untilAwake();
      }
      return await answer;
    } finally {
      lock?.release();
    }
  }

  #refusal(error: unknown): Answer {
    if (error instanceof Unverified) {
      // Whoever forges requests learns nothing; a function fails with 53000 after its own time-out.
      this.#drop(error.message);
      return { reply: undefined };
    }
    if (error instanceof WorkerFailure && error.worker.error !== undefined) {
      const { worker } = error;
      return {
        reply: { error: error.worker.error, notices: worker.notices },
        raises: { error: error.worker.error, pid: worker.pid, notices: worker.notices.length > 0 },
      };
    }
    const fields = reportFieldsOf(error);
    if (fields.code === 'XX000') this.#settings.logger.error({ err: error }, 'a call failed');
    return { reply: { error: fields }, raises: { error: fields } };
  }

  #newKey(link: ControlLink): object {
    const material = newKeyMaterial(this.#settings.secret, link.identity);
    // Until the installing transaction commits, the key counts in this session only.
    this.#issuedKeys.add(material.keyId);
    return material;
  }

  async #verify(
    link: ControlLink,
    context: SignedContext,
    payload: string,
    mac: string,
    verb: Verb,
  ): Promise<void> {
    if (context.token !== this.#token) throw new Unverified('a request of another session');
    if (context.pid !== this.#pid) throw new Unverified('a request of another backend');
    if (!(context.number > this.#lastNumber))
      throw new Unverified('a request that is not newer than the last');
    if (context.keyId !== link.installedKey && !this.#issuedKeys.has(context.keyId)) {
      if (context.keyId !== (await link.readInstalledKey()))
        throw new Unverified('a request signed with a foreign key');
    }
    const key = signingKey(this.#settings.secret, context.keyId, link.identity);
    if (!isSignedWith(key, context.text, payload, mac))
      throw new Unverified('a request with a wrong signature');
    if (context.privileges[privilegeIndex(verb)] !== 't')
      throw new Unverified('a request without the privilege');
    this.#lastNumber = context.number;
  }

  async #perform(
    verb: Verb,
    args: Arguments,
    context: SignedContext,
    link: ControlLink,
  ): Promise<unknown> {
    switch (verb) {
      case 'pg_background_launch':
      case 'pg_background_launch_v2':
      case 'pg_background_submit_v2':
        return this.#launch(verb, args, context);
      case 'pg_background_result':
      case 'pg_background_result_v2':
        return this.#result(args, context, link);
      case 'pg_background_detach':
      case 'pg_background_detach_v2':
        await this.#registry.drop(await this.#find(args, context, link));
        return {};
      case 'pg_background_cancel_v2':
        await (await this.#find(args, context, link)).cancel();
        return {};
      case 'pg_background_cancel_v2_grace':
        await (
          await this.#find(args, context, link)
        ).cancelGently(clamp(args['graceMs'], 3_600_000));
        return {};
      case 'pg_background_wait_v2':
        await (
          await this.#find(args, context, link)
        ).ended;
        return {};
      case 'pg_background_wait_v2_timeout': {
        const worker = await this.#find(args, context, link);
        return { ended: await worker.endsWithin(clamp(args['timeoutMs'], 86_400_000)) };
      }
      case 'pg_background_list_v2':
        return { columns: await this.#list(context, link) };
      case 'pg_background_stats_v2':
        return {
          ...this.#registry.counts,
          maxWorkers: readSetting(maxWorkers, args['maxWorkers']),
        };
      case 'pg_background_progress':
        this.#onProgress?.(toProgress(args));
        return {};
      case 'pg_background_get_progress_v2':
        return this.#progressOf(args, context, link);
    }
  }

  async #launch(verb: Verb, args: Arguments, context: SignedContext): Promise<object> {
    const queueBytes = queueSizeOf(args);
    const limit = readSetting(maxWorkers, args['maxWorkers']);
    if (this.#registry.counted >= limit) {
      throw new BackgroundError('53400', 'too many background workers', {
        detail: `Current limit is ${limit} concurrent workers per session.`,
        hint: 'Wait for existing workers to complete, or increase pg_background.max_workers.',
      });
    }
    const isOwnRole = context.role === toBytes(this.#login.target.role);
    if (context.kind === 'bound' && !isOwnRole) {
      // Never logged in as one role to run as a weaker one: RESET ROLE in the SQL would undo that.
      throw new BackgroundError(
        '42501',
        'no credentials to launch a background worker as this role',
        {
          detail:
            'The call stands in a SECURITY DEFINER function or a restricted operation, and the role there is not the one that logged in.',
          hint: 'Call pg_background from a SECURITY INVOKER function.',
        },
      );
    }
    const worker = new Worker(
      this.#login,
      {
        sql: String(args['sql']),
        settings: (args['settings'] ?? {}) as Record<string, unknown>,
        role: isOwnRole ? undefined : context.role,
        roleOid: context.roleOid,
        cookie: verb === 'pg_background_launch' ? '0' : newCookie(),
        queueBytes,
        timeoutMs: readSetting(workerTimeout, args['workerTimeout']),
        isSubmitted: verb === 'pg_background_submit_v2',
      },
      this.#budget,
    );
    try {
      await worker.start((pid) => this.#registry.isFreePid(pid));
    } catch (error) {
      const { code, message } = reportFieldsOf(error);
      // Too many connections, of the server (53300) or of the role; the server cannot be reached.
      if (code !== '53300' && code !== '08001') throw error;
      throw new BackgroundError('53000', 'could not register background process', {
        detail: message,
        hint: 'You may need to increase max_connections, or the CONNECTION LIMIT of the role or database.',
        cause: error,
      });
    }
    this.#onWorker(worker);
    // The client may have gone while the worker was started: it goes on, as those before it.
    if (this.#isClosed) await worker.abandon();
    else this.#registry.add(worker);
    return { pid: worker.pid, cookie: worker.order.cookie };
  }

  async #result(args: Arguments, context: SignedContext, link: ControlLink): Promise<unknown> {
    const worker = this.#registry.find(Number(args['pid']));
    await this.#checkRights(worker, context, link);
    if (typeof args['cookie'] === 'string' && args['cookie'] !== worker.order.cookie) {
      throw notAttached(worker.pid, ' (cookie mismatch)');
    }
    if (worker.order.isSubmitted) {
      throw new BackgroundError(
        '0A000',
        `results are disabled for PID ${worker.pid} (submitted via submit_v2)`,
      );
    }
    await worker.ended;
    if (worker.error !== undefined) {
      await this.#registry.drop(worker);
      throw new WorkerFailure(worker);
    }
    return args['step'] === 'take' ? this.#take(worker, args, link) : describe(worker);
  }

  async #take(worker: Worker, args: Arguments, link: ControlLink): Promise<object> {
    const { notices } = worker;
    if (notices.length > 0) this.#events.noticesRaised();
    const formats = { ...Object.fromEntries(worker.formats), array_nulls: 'on' };
    if (worker.columns === undefined) {
      await this.#registry.drop(worker);
      return { notices, formats, columns: [arrayLiteral(worker.tags)] };
    }
    const conversation = this.#conversation;
    const packetBytes = conversation === undefined ? 0 : link.packetBytes(conversation);
    const { rows, stored } = await prepareRows(
      this.#login,
      worker.rows,
      worker.columns.length,
      args['throughTable'] === true,
      packetBytes,
    );
    this.#stored = stored;
    await this.#registry.drop(worker);
    return { notices, formats, ...rows };
  }

  /** The worker of a v2 call: known, allowed, and with the right cookie, in this order. */
  async #find(args: Arguments, context: SignedContext, link: ControlLink): Promise<Worker> {
    const worker = this.#registry.find(Number(args['pid']));
    await this.#checkRights(worker, context, link);
    if (typeof args['cookie'] === 'string' && args['cookie'] !== worker.order.cookie) {
      throw new BackgroundError('55000', `cookie mismatch for PID ${worker.pid}`, {
        hint: 'The worker may have been restarted or the handle is stale.',
      });
    }
    return worker;
  }

  async #mayUse(worker: Worker, context: SignedContext, link: ControlLink): Promise<boolean> {
    return (
      worker.order.roleOid === context.roleOid ||
      link.hasPrivilegesOf(context.roleOid, worker.order.roleOid)
    );
  }

  async #checkRights(worker: Worker, context: SignedContext, link: ControlLink): Promise<void> {
    if (await this.#mayUse(worker, context, link)) return;
    throw new BackgroundError(
      '42501',
      `permission denied for background worker with PID "${worker.pid}"`,
    );
  }

  async #list(context: SignedContext, link: ControlLink): Promise<string[]> {
    const rows: (string | null)[][] = [];
    for (const worker of this.#registry.workers) {
      if (!(await this.#mayUse(worker, context, link))) continue;
      const { order } = worker;
      rows.push([
        String(worker.pid),
        order.cookie,
        worker.launchedAt.toISOString(),
        String(order.roleOid),
        String(order.queueBytes),
        worker.state,
        cutText(order.sql, 120, link.encoding),
        worker.error === undefined ? null : lastError(worker.error.message, link.encoding),
        'f',
      ]);
    }
    return Array.from({ length: 9 }, (_, column) =>
      arrayLiteral(rows.map((row) => row[column] ?? null)),
    );
  }

  async #progressOf(args: Arguments, context: SignedContext, link: ControlLink): Promise<object> {
    const worker = this.#registry.workers.find(
      ({ pid, order }) => pid === args['pid'] && order.cookie === args['cookie'],
    );
    if (worker === undefined) return {};
    await this.#checkRights(worker, context, link);
    return worker.progress === undefined
      ? {}
      : { pct: worker.progress.pct, msg: worker.progress.message };
  }
}

/** A request that is not what it says, or of somebody who may not: it gets no answer. */
class Unverified extends Error {}

/** The value of a promise that settles soon, else undefined. */
async function within<T>(timeoutMs: number, work: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>(
    (resolve) => (timer = setTimeout(() => resolve(undefined), timeoutMs)),
  );
  const value = await Promise.race([work, late]);
  clearTimeout(timer);
  return value;
}

/** Replies are JSON in the database's encoding: strings hold its bytes, one a character. */
function encode(reply: object): Buffer {
  return Buffer.from(JSON.stringify(reply), 'latin1');
}

function describe(worker: Worker): object {
  if (worker.columns !== undefined) {
    return {
      types: worker.columns.map(({ oid }) => oid),
      refusal: 'remote query result rowtype does not match the specified FROM clause rowtype',
    };
  }
  return {
    types: [ANY_TEXT],
    refusal:
      'remote query did not return a result set, but result rowtype is not a single text column',
  };
}

function queueSizeOf(args: Arguments): number {
  const given = Number(args['queueSize']);
  const bytes = given > 0 ? given : readSetting(defaultQueueSize, args['defaultQueueSize']);
  if (bytes < defaultQueueSize.min)
    throw new BackgroundError('22023', 'queue size must be at least 64 bytes');
  if (bytes > defaultQueueSize.max) {
    throw new BackgroundError('22023', 'queue size must not exceed 268435456 bytes', {
      hint: 'Large result sets should be written to a table instead.',
    });
  }
  return bytes;
}

function toProgress(args: Arguments): Progress {
  return {
    pct: clamp(args['pct'], 100),
    message: typeof args['msg'] === 'string' ? args['msg'] : '',
  };
}

function clamp(value: unknown, max: number): number {
  return Math.min(Math.max(Number(value ?? 0), 0), max);
}

/** A random int8 that is not 0, as text: it has more digits than a number holds. */
function newCookie(): string {
  const cookie = randomBytes(8).readBigInt64BE();
  return cookie === 0n ? newCookie() : cookie.toString();
}

function toBytes(text: string): DatabaseText {
  return Buffer.from(text, 'utf8').toString('latin1');
}

/** Cuts a text to so many bytes, never inside a character. */
function cutText(text: DatabaseText, bytes: number, encoding: string): DatabaseText {
  if (text.length <= bytes) return text;
  let end = bytes;
  // In UTF-8 a byte 10xxxxxx continues a character.
  if (encoding === 'UTF8') while (end > 0 && (text.charCodeAt(end) & 0xc0) === 0x80) end--;
  return text.slice(0, end);
}

function lastError(message: DatabaseText, encoding: string): DatabaseText {
  return message.length <= 512 ? message : `${cutText(message, 509, encoding)}...`;
}
