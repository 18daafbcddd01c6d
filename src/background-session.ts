import { answerOf, encodeReply, refusalOf, type Answer } from './answer.ts';
import { progressOf, statementOf } from './call-arguments.ts';
import {
  isVerb,
  openPayload,
  parseCallback,
  type CallbackMessage,
  type ReplyAddress,
} from './callback.ts';
import type { AdvisoryLock, ControlLink } from './control-link.ts';
import { BoundedWork } from './bounded-work.ts';
import { Conversation } from './conversation.ts';
import { reportFieldsOf, RoleRenamed } from './errors.ts';
import type { SessionMarks } from './callback-hook.ts';
import type { Login } from './login.ts';
import { LongWait } from './long-wait.ts';
import { RequestVerifier, Unverified, WrongSignature } from './request-verifier.ts';
import type { SpoolBudget } from './spool-budget.ts';
import { SessionCalls, WorkerFailure, type OfferedResult, type Reply } from './session-calls.ts';
import type { EngineSettings } from './settings.ts';
import type { SessionEvents } from './session-events.ts';
import type { SessionLogins } from './session-logins.ts';
import type { WaitGraph } from './wait-graph.ts';
import { within } from './within.ts';
import type { Worker } from './worker.ts';

/** A call that a function waits for. What it asks is forgotten as soon as nobody waits any more. */
interface Call {
  readonly conversation: Conversation;
  message: CallMessage | undefined;
  offered: OfferedResult | undefined;
  /** The worker for which its statement will be run again. */
  awaited: Worker | undefined;
  /** Whether the function is still to hear something, or to say that it has. */
  isOpen: boolean;
}

type RequestMessage = Extract<CallbackMessage, { kind: 'request' }>;

type CallMessage = Extract<CallbackMessage, { kind: 'request' | 'install' }>;

/** Reports of progress are small, and come one at a time. */
const MAX_REPORT_LENGTH = 16_384;
const MAX_REPORTS = 64;

/** After so many, refused callbacks are logged at each doubling. */
const MAX_LOGGED_DROPS = 16;

/** A quick answer needs no lock to sleep on. */
const QUICK_MS = 5;

/**
 * One session as the engine sees it: its callbacks, one conversation at a time. Requests come as
 * notices of its backend; answers go through the login's control link.
 */
export class BackgroundSession {
  readonly #login: Login;
  readonly #logins: SessionLogins;
  readonly #settings: EngineSettings;
  readonly #events: SessionEvents;
  readonly #seal: string;
  readonly #verifier: RequestVerifier;
  readonly #calls: SessionCalls;
  /** The links that were found to have logged in as the session has. */
  readonly #ownLinks = new WeakSet<ControlLink>();
  #pid = 0;
  #call: Call | undefined;
  /** The worker that runs on this connection right now, when it is a worker's. */
  #findOwnWorker: () => Worker | undefined = () => undefined;
  readonly #reports = new BoundedWork(
    MAX_REPORTS,
    (work) => this.#track(work),
    () => this.#drop('a report too much'),
  );
  #dropCount = 0;
  #work: Promise<unknown> = Promise.resolve();

  constructor(
    logins: SessionLogins,
    settings: EngineSettings,
    budget: SpoolBudget,
    waits: WaitGraph,
    marks: SessionMarks,
    events: SessionEvents,
    onWorker: (worker: Worker) => void,
  ) {
    this.#login = logins.own;
    this.#logins = logins;
    this.#settings = settings;
    this.#events = events;
    this.#seal = marks.seal;
    this.#verifier = new RequestVerifier(settings.secret, marks.token, settings.requestLifetimeMs);
    this.#calls = new SessionCalls(logins, budget, waits, settings, onWorker);
  }

  /** The process ID of the session's backend, once BackendKeyData told it. */
  set pid(pid: number) {
    this.#pid = pid;
  }

  /** For the session of a worker's connection: finds the worker that runs there right now. */
  set ownWorker(find: () => Worker | undefined) {
    this.#findOwnWorker = find;
  }

  /** Whether a function waits for an answer, or has one and must be heard: it will say little. */
  get isConversing(): boolean {
    return this.#call?.isOpen === true;
  }

  /** A token for a statement that the proxy puts in the place of CREATE, ALTER or DROP EXTENSION. */
  newGrantToken(): string {
    return this.#verifier.newGrantToken();
  }

  /** Takes the message of one callback notice. Whatever it is, it never fails. */
  receive(text: string): void {
    const message = parseCallback(text);
    switch (message?.kind) {
      case 'request':
        if (message.replyTo) return this.#begin(message, message.replyTo);
        if (text.length <= MAX_REPORT_LENGTH) {
          const worker = this.#findOwnWorker();
          return this.#reports.add(() => this.#takeReport(message, worker));
        }
        break;
      case 'install':
        if (!this.#verifier.isGranted(message.grantToken)) break;
        return this.#begin(message, message.replyTo);
      case 'began':
        if (this.#verifier.isGranted(message.grantToken)) return this.#events.replacementBegan();
        break;
      case 'tag':
        if (this.#verifier.isGranted(message.grantToken))
          return this.#events.tagReplaced(message.tag);
        break;
      case 'acknowledge':
        if (message.nonce !== this.#call?.conversation.nonce) break;
        return this.#call.conversation.acknowledge(message.packet);
      case 'awake':
        if (message.nonce !== this.#call?.conversation.nonce) break;
        return this.#call.conversation.awake();
      case 'leaving':
        if (message.nonce !== this.#call?.conversation.nonce) break;
        if (this.#call.awaited === undefined) break;
        return this.#events.repeat(this.#call.awaited.ended, message.timeoutMs);
      case 'received':
        if (message.receipt !== this.#call?.offered?.receipt) break;
        this.#call.conversation.acknowledgeLast();
        this.#track(this.#call.offered.consume());
        return this.#releaseOffered(this.#call);
      case undefined:
        break;
    }
    this.#drop(
      message === undefined ? 'a message that is none of ours' : `a stray ${message.kind}`,
    );
  }

  /** The server has answered ReadyForQuery: whoever asked something in that statement is gone. */
  statementEnded(): void {
    this.#endCall();
  }

  /** Forgets all handles; the workers go on. */
  forgetWorkers(): Promise<void> {
    return this.#calls.forgetWorkers();
  }

  /** Ends the session: its workers go on, their output is discarded. */
  async close(): Promise<void> {
    this.#endCall();
    await this.#calls.close();
    await this.#work;
    await this.#logins.release();
  }

  #endCall(): void {
    const call = this.#call;
    if (call === undefined) return;
    this.#call = undefined;
    call.message = undefined;
    call.conversation.abandon();
    this.#releaseOffered(call);
  }

  #releaseOffered(call: Call): void {
    const { offered } = call;
    call.offered = undefined;
    if (offered !== undefined) this.#track(offered.release());
  }

  /** Remembers work that goes on, so that close() waits for it. */
  #track(work: Promise<unknown>): void {
    this.#work = Promise.allSettled([this.#work, work]).then(() => {}); // what they gave is not kept
  }

  /** Counts what is refused; whoever sends nothing else does not fill the log. */
  #drop(what: string): void {
    const count = ++this.#dropCount;
    if (count > MAX_LOGGED_DROPS && (count & (count - 1)) !== 0) return;
    this.#settings.logger.warn({ pid: this.#pid, count }, `callback dropped: ${what}`);
  }

  #begin(message: CallMessage, replyTo: ReplyAddress): void {
    this.#endCall();
    const call: Call = {
      conversation: new Conversation(replyTo, this.#seal),
      message,
      offered: undefined,
      awaited: undefined,
      isOpen: true,
    };
    this.#call = call;
    const conversed = this.#converse(call).finally(() => (call.isOpen = false));
    const answered = this.#login.during(conversed).catch((error: unknown) => {
      if (call.conversation.abandoned.aborted) return;
      if (error instanceof Unverified) return void this.#refusal(error);
      // The function hears nothing and fails with 53000 after its own time-out.
      this.#settings.logger.warn({ pid: this.#pid, err: error }, 'a call could not be answered');
      this.#events.unanswered(reportFieldsOf(error));
    });
    this.#track(answered);
  }

  async #converse(call: Call): Promise<void> {
    const { conversation } = call;
    // Whoever is not admitted gets no turn on the link that all sessions of the login share.
    await this.#withLink((link) => this.#admit(call, link));
    const checked = this.#withLink(async (link) => {
      await this.#checkLogin(link);
      return link;
    });
    const answer = checked.then((link) =>
      this.#perform(call, link).then(answerOf, (error: unknown) => this.#refusal(error)),
    );
    const wait = new LongWait(conversation, {
      withLink: (action) => this.#withLink(action),
      tell: (told, message) => this.#tell(told, message),
    });
    try {
      const { reply, raises } = (await within(QUICK_MS, answer)) ?? (await wait.until(answer));
      if (reply === undefined) return;
      if (raises?.notices && raises.pid !== undefined)
        this.#events.noticesRaised(raises.notices, raises.pid);
      if (raises?.error) this.#events.errorRaised(raises.error, raises.pid);
      await this.#tell(conversation, reply, wait.lock);
      await raises?.consume?.();
    } finally {
      wait.end();
    }
  }

  /** While the server is asked, only the context is held: a payload may be large, and forged. */
  async #admit({ message, conversation }: Call, link: ControlLink): Promise<void> {
    if (message?.kind !== 'request') return;
    const { context } = message;
    message = undefined;
    await this.#verifier.admit(context, link, this.#pid);
    conversation.abandoned.throwIfAborted();
  }

  /** The link, and workers after it, log in by name: the name may be another's by now. Both keep their roles. */
  async #checkLogin(link: ControlLink): Promise<void> {
    if (this.#ownLinks.has(link)) return;
    if (!(await link.isLoginOf(this.#pid))) throw new RoleRenamed();
    this.#ownLinks.add(link);
  }

  /** Does what an admitted call asks for, once it is known to be genuine. */
  async #perform(call: Call, link: ControlLink): Promise<Reply> {
    const { conversation } = call;
    if (call.message?.kind === 'install') {
      const { verb } = openPayload(call.message.payload) ?? {};
      if (verb !== 'key') throw new Unverified('a malformed request');
      return { ...(await this.#verifier.issueKey(link, call.message.grantToken)) };
    }
    const { message } = call;
    call.message = undefined;
    conversation.abandoned.throwIfAborted();
    if (message?.kind !== 'request') throw new Unverified('a malformed request');
    const { verb, arguments: args } = this.#open(message, link);
    return this.#calls.perform(verb, args, {
      pid: this.#pid,
      context: message.context,
      link,
      abandoned: conversation.abandoned,
      packetBytes: link.packetBytes(conversation.isWide),
      findBlockers: (pid) => this.#withLink((current) => current.blockersOf(pid)),
      leave: (worker) => {
        if (!this.#events.canRepeat(verb, { pid: worker.pid, cookie: worker.order.cookie }))
          return false;
        call.awaited = worker;
        return true;
      },
      plainPlace: () => this.#events.plainPlace(statementOf(args)),
      stream: (result) => this.#events.stream(verb, result),
      offer: (result) => {
        this.#releaseOffered(call);
        call.offered = result;
      },
    });
  }

  /** @throws Unverified, or what verify() throws, when a request is not genuine */
  #open(message: Extract<CallMessage, { kind: 'request' }>, link: ControlLink) {
    this.#verifier.verify(message, link);
    const payload = openPayload(message.payload);
    if (payload === undefined || !isVerb(payload.verb)) throw new Unverified('a malformed request');
    this.#verifier.checkPrivilege(message.context, payload.verb);
    return { verb: payload.verb, arguments: payload.arguments };
  }

  /** One way: nobody waits, so nobody is told when it is refused. */
  async #takeReport(message: RequestMessage, worker: Worker | undefined): Promise<void> {
    const take = async () => {
      const link = await this.#login.controlLink();
      await this.#verifier.admit(message.context, link, this.#pid);
      const { verb, arguments: args } = this.#open(message, link);
      // The worker is the one that ran when the report came: it may have ended meanwhile.
      if (verb === 'pg_background_progress' && worker !== undefined) {
        worker.progress = progressOf(args, link.encoding);
      }
    };
    await this.#login.during(take()).catch((error: unknown) => void this.#refusal(error));
  }

  /** Settles when the function has read all of a message. It may sleep until that is shown. */
  async #tell(conversation: Conversation, message: object, sleepsOn?: AdvisoryLock): Promise<void> {
    const { wideBytes, isBusy } = await this.#login.controlLink();
    const told = isBusy ? { ...message, busy: true } : message;
    for (const packet of conversation.packets(encodeReply(told), wideBytes)) {
      const wasRead = conversation.read(packet.number);
      wasRead.catch(() => {}); // awaited by the link, unless it is lost
      await this.#withLink((link) => link.show(packet, wasRead, sleepsOn));
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
    const answer = refusalOf(error);
    if (error instanceof Unverified) this.#drop(error.message);
    else if (error instanceof WrongSignature) this.#drop('a request with a wrong signature');
    else if (answer.raises?.error?.code === 'XX000' && !(error instanceof WorkerFailure))
      this.#settings.logger.error({ err: error }, 'a call failed');
    return answer;
  }
}
