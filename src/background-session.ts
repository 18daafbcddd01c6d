import type { Verb } from './api.ts';
import { isVerb, openPayload, parseCallback, type Payload } from './callback.ts';
import type { AdvisoryLock, ControlLink } from './control-link.ts';
import { Conversation } from './conversation.ts';
import { reportFieldsOf, type ReportFields } from './errors.ts';
import type { Login } from './login.ts';
import { RequestVerifier, Unverified, type SignedRequest } from './request-verifier.ts';
import type { SpoolBudget } from './row-spool.ts';
import { SessionCalls, WorkerFailure, type OfferedResult } from './session-calls.ts';
import type { EngineSettings } from './settings.ts';
import type { WaitGraph } from './wait-graph.ts';
import type { Progress, Worker } from './worker.ts';

/** What a session's stream has to be told, so that the client sees what the C extension would show. */
export interface SessionEvents {
  /** A statement that was put in the place of another begins to run. */
  replacementBegan(): void;
  /** It ends well: the next CommandComplete is its, and this is the tag of the original. */
  tagReplaced(tag: string): void;
  /** A function is about to raise this error; `pid` when it is a worker's. */
  errorRaised(error: ReportFields, pid: number | undefined): void;
  /** A function is about to raise a worker's notices again. */
  noticesRaised(): void;
  /** A function will get no answer, for this reason, and raise 53000. */
  unanswered(reason: ReportFields): void;
}

/** Does what a request asks for; the signal aborts when nobody waits for that any more. */
type Action = (link: ControlLink, abandoned: AbortSignal) => Promise<object>;

/** What a function is told, undefined for nothing at all, and what it will raise then. */
interface Answer {
  readonly reply: object | undefined;
  readonly raises?: {
    readonly error?: ReportFields;
    readonly pid?: number;
    readonly notices?: boolean;
    /** What is to be done when the function has been told. */
    readonly consume?: () => Promise<void>;
  };
}

/** A quick answer needs no lock to sleep on. */
const QUICK_MS = 5;

/**
 * One session as the engine sees it: its callbacks, one conversation at a time. Requests come as
 * notices of its backend; answers go through the login's control link.
 */
export class BackgroundSession {
  readonly #login: Login;
  readonly #settings: EngineSettings;
  readonly #events: SessionEvents;
  readonly #verifier: RequestVerifier;
  readonly #calls: SessionCalls;
  #pid = 0;
  #conversation: Conversation | undefined;
  #offered: OfferedResult | undefined;
  /** What this session's own worker reports, when the session is a worker's connection. */
  #onProgress: ((progress: Progress) => void) | undefined;
  #work: Promise<unknown> = Promise.resolve();

  constructor(
    login: Login,
    settings: EngineSettings,
    budget: SpoolBudget,
    waits: WaitGraph,
    token: string,
    events: SessionEvents,
    onWorker: (worker: Worker) => void,
  ) {
    this.#login = login;
    this.#settings = settings;
    this.#events = events;
    this.#verifier = new RequestVerifier(settings.secret, token);
    this.#calls = new SessionCalls(login, budget, waits, {
      launched: onWorker,
      offered: (result) => (this.#offered = result),
      progressed: (progress) => this.#onProgress?.(progress),
    });
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
    return this.#verifier.newGrantToken();
  }

  /** Takes the message of one callback notice. Whatever it is, it never fails. */
  receive(text: string): void {
    const message = parseCallback(text);
    switch (message?.kind) {
      case 'request':
        return this.#begin(message.payload, ({ verb, arguments: args, wide }) =>
          isVerb(verb)
            ? (link, abandoned) => this.#answerCall(link, abandoned, message, verb, args, wide)
            : undefined,
        );
      case 'install':
        return this.#begin(message.payload, ({ verb }) =>
          verb === 'key' && this.#verifier.isGranted(message.grantToken)
            ? (link) => Promise.resolve(this.#verifier.issueKey(link, message.grantToken))
            : undefined,
        );
      case 'began':
        if (this.#verifier.isGranted(message.grantToken)) return this.#events.replacementBegan();
        break;
      case 'tag':
        if (this.#verifier.isGranted(message.grantToken))
          return this.#events.tagReplaced(message.tag);
        break;
      case 'acknowledge':
        if (message.nonce !== this.#conversation?.nonce) break;
        return this.#conversation.acknowledge(message.packet);
      case 'awake':
        if (message.nonce !== this.#conversation?.nonce) break;
        return this.#conversation.awake();
      case 'received':
        if (message.receipt !== this.#offered?.receipt) break;
        this.#track(this.#offered.consume());
        return this.#releaseOffered();
      case undefined:
        break;
    }
    this.#drop(
      message === undefined ? 'a message that is none of ours' : `a stray ${message.kind}`,
    );
  }

  /** The server has answered ReadyForQuery: whoever asked something in that statement is gone. */
  statementEnded(): void {
    this.#endConversation();
  }

  /** Forgets all handles; the workers go on. */
  forgetWorkers(): Promise<void> {
    return this.#calls.forgetWorkers();
  }

  /** Ends the session: its workers go on, their output is discarded. */
  async close(): Promise<void> {
    this.#endConversation();
    await this.#calls.close();
    await this.#work;
  }

  #endConversation(): void {
    this.#conversation?.abandon();
    this.#conversation = undefined;
    this.#releaseOffered();
  }

  #releaseOffered(): void {
    const offered = this.#offered;
    this.#offered = undefined;
    if (offered !== undefined) this.#track(offered.release());
  }

  /** Remembers work that goes on, so that close() waits for it. */
  #track(work: Promise<unknown>): void {
    this.#work = Promise.allSettled([this.#work, work]);
  }

  #drop(what: string): void {
    this.#settings.logger.warn({ pid: this.#pid }, `callback dropped: ${what}`);
  }

  async #answerCall(
    link: ControlLink,
    abandoned: AbortSignal,
    request: SignedRequest,
    verb: Verb,
    args: Payload['arguments'],
    isWide: boolean,
  ): Promise<object> {
    await this.#verifier.verify(link, request, verb, this.#pid);
    return this.#calls.perform(verb, args, {
      pid: this.#pid,
      context: request.context,
      link,
      abandoned,
      packetBytes: link.packetBytes(isWide),
      findBlockers: (pid) => this.#withLink((current) => current.blockersOf(pid)),
    });
  }

  #begin(sealed: string, choose: (payload: Payload) => Action | undefined): void {
    const payload = openPayload(sealed);
    const act = payload && choose(payload);
    if (payload === undefined || act === undefined) return this.#drop('a malformed request');
    if (payload.nonce === undefined || payload.seed === undefined) {
      // One way: nobody waits, so nobody is told when it is refused.
      const never = new AbortController().signal;
      const done = this.#login.controlLink().then((link) => act(link, never));
      return this.#track(done.catch((error: unknown) => void this.#refusal(error)));
    }
    this.#endConversation();
    const conversation = new Conversation(payload.nonce, payload.seed, payload.wide);
    this.#conversation = conversation;
    this.#track(
      this.#converse(conversation, act).catch((error: unknown) => {
        if (conversation.abandoned.aborted) return;
        // The function hears nothing and fails with 53000 after its own time-out.
        this.#settings.logger.warn({ pid: this.#pid, err: error }, 'a call could not be answered');
        this.#events.unanswered(reportFieldsOf(error));
      }),
    );
  }

  async #converse(conversation: Conversation, act: Action): Promise<void> {
    const link = await this.#login.controlLink();
    const answer = act(link, conversation.abandoned).then(
      (ok): Answer => ({ reply: { ok }, raises: { notices: 'notices' in ok } }),
      (error: unknown) => this.#refusal(error),
    );
    const { reply, raises } =
      (await within(QUICK_MS, answer)) ?? (await this.#makeWait(conversation, answer));
    if (reply === undefined) return;
    if (raises?.notices) this.#events.noticesRaised();
    if (raises?.error) this.#events.errorRaised(raises.error, raises.pid);
    await this.#tell(conversation, reply);
    await raises?.consume?.();
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
        lock = await this.#withLink(async (link) => (lock?.link === link ? lock : link.lock()));
        if (hasAnswer()) break;
        await this.#tell(conversation, { wait: lock.key });
        await conversation.untilAwake();
      }
      return await answer;
    } finally {
      lock?.release();
    }
  }

  /** Settles when the function has read all of a message. */
  async #tell(conversation: Conversation, message: object): Promise<void> {
    const { wideBytes } = await this.#login.controlLink();
    for (const packet of conversation.packets(encode(message), wideBytes)) {
      const wasRead = conversation.read(packet.number);
      wasRead.catch(() => {}); // awaited by the link, unless it is lost
      await this.#withLink((link) => link.show(packet, wasRead));
    }
  }

  /** Does something with the control link, and once more with a new one when it is lost meanwhile. */
  async #withLink<T>(action: (link: ControlLink) => Promise<T>): Promise<T> {
    const link = await this.#login.controlLink();
    try {
      return await action(link);
    } catch (error) {
      if (!link.isClosed) throw error;
      await link.closed;
      return await action(await this.#login.controlLink());
    }
  }

  #refusal(error: unknown): Answer {
    if (error instanceof DOMException) return { reply: undefined }; // abandoned: nobody listens
    if (error instanceof Unverified) {
      // Whoever forges requests learns nothing.
      this.#drop(error.message);
      return { reply: undefined };
    }
    if (error instanceof WorkerFailure) {
      const { error: fields, pid, notices, consume } = error;
      return {
        reply: { error: fields, notices },
        raises: { error: fields, pid, notices: notices.length > 0, consume },
      };
    }
    const fields = reportFieldsOf(error);
    if (fields.code === 'XX000') this.#settings.logger.error({ err: error }, 'a call failed');
    return { reply: { error: fields }, raises: { error: fields } };
  }
}

/** The value of a promise that settles soon, else undefined. */
async function within<T>(timeoutMs: number, work: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), timeoutMs);
  });
  const value = await Promise.race([work, late]);
  clearTimeout(timer);
  return value;
}

/** Replies are JSON in the database's encoding: strings hold its bytes, one a character. */
function encode(reply: object): Buffer {
  return Buffer.from(JSON.stringify(reply), 'latin1');
}
