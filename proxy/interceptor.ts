import {
  CALLBACK_SQLSTATE,
  decodeCommandTag,
  MAX_REQUEST_BYTES,
  MessageType,
  RaisedReports,
  repeatedStatement,
  reportFields,
  type BackgroundSession,
  type ReportFields,
  type RowSink,
  type SessionEvents,
  type StatementPlace,
  type StreamableResult,
  type Verb,
} from '../src/index.ts';
import { ClientStatements } from './client-statements.ts';
import { ClientStream, isSameForClient, type ClientLink } from './client-stream.ts';
import { mustBeSeen } from './extended-query.ts';
import { textThatMentions } from './mentions.ts';
import { MessageFilter, type FilterRules, type Verdict } from './message-filter.ts';
import { commandComplete, ReplacedStatements } from './replaced-statements.ts';
import { ReportedParameters } from './reported-parameters.ts';
import { StatementRepeater, type SessionStreams } from './statement-repeater.ts';

/** Longer texts are not looked into: parsing them would hold up every session. */
const MAX_PARSED_BYTES = 1024 * 1024;

/** Longer messages of the extended protocol are not looked at. */
const MAX_FOLLOWED_BYTES = 64 * 1024;

/** Objects that came with the server have smaller numbers. */
const FIRST_NORMAL_OID = 16_384;

/** ReadyForQuery outside a transaction block. */
const IDLE = 'I'.charCodeAt(0);

const HEADER_BYTES = 5;

/** What an interceptor needs of its session. */
export interface InterceptorLinks extends SessionStreams, ClientLink {
  toClient(bytes: Buffer): boolean;
  /** BackendKeyData: the pid, and the pid and key as a CancelRequest carries them. */
  onBackendKey(pid: number, key: Buffer): void;
  /** A statement has run, or a transaction committed, that may have altered a role or a database. */
  onAltered(): void;
  /** A statement comes that may want a database for itself. */
  onDatabaseStatement(): void;
}

/**
 * Everything that is done to a session's two streams. Towards the client: callbacks are taken out,
 * tags and reports of replaced statements and of raised errors are put right. Towards the server:
 * CREATE, ALTER and DROP EXTENSION pg_background are replaced. All other bytes pass.
 */
export class Interceptor implements SessionEvents {
  /** Runs a statement again that waits for itself. */
  readonly repeater: StatementRepeater;
  readonly #links: InterceptorLinks;
  #session: BackgroundSession | undefined;
  readonly #parameters = new ReportedParameters();
  readonly #replaced = new ReplacedStatements();
  readonly #raised = new RaisedReports();
  #isTakingCallback = false;
  readonly #asked = new ClientStatements();
  /** A text with ALTER or EXTENSION and our name was sent, and what it does may not be committed yet. */
  #mayAlter = false;
  /** What the client is told as soon as the server's stream stands between two messages. */
  #forClient: Buffer[] = [];
  #stream: ClientStream | undefined;
  /** Whether the proxy takes part in what the server does: else there is nothing to put right, or to forget. */
  #isConcerned = true;

  constructor(links: InterceptorLinks) {
    this.#links = links;
    this.repeater = new StatementRepeater({
      ...links,
      toServer: (bytes) => links.toServer(bytes),
      replayClient: (chunks) => links.replayClient(chunks),
      toClient: (bytes) => {
        // The repeater ends the statement in place of the server.
        this.#statementEnded(IDLE);
        this.#forClient.push(bytes);
        this.#tellClient();
      },
    });
  }

  /** The engine's side of the session; without it nothing is intercepted. */
  set session(session: BackgroundSession) {
    this.#session = session;
  }

  /** What the server sends. */
  readonly fromServer = new MessageFilter(this.#serverRules(), MAX_REQUEST_BYTES);

  /** What the client sends. */
  readonly fromClient = new MessageFilter(this.#clientRules(), MAX_PARSED_BYTES);

  replacementBegan(): void {
    this.#isConcerned = true;
    this.#replaced.began();
  }

  tagReplaced(tag: string): void {
    this.#isConcerned = true;
    this.#replaced.tagged(tag);
  }

  errorRaised(error: ReportFields, pid: number | undefined): void {
    this.#isConcerned = true;
    this.#raised.errorRaised(error, pid);
  }

  noticesRaised(notices: readonly ReportFields[], pid: number): void {
    this.#isConcerned = true;
    this.#raised.noticesRaised(notices, pid);
  }

  unanswered(reason: ReportFields): void {
    this.#isConcerned = true;
    this.#raised.unanswered(reason);
  }

  canRepeat(verb: Verb, { pid, cookie }: { pid: number; cookie: string }): boolean {
    this.#isConcerned = true;
    const { lone } = this.#asked;
    if (lone === undefined || lone.isInTransaction) return false;
    const { text, startedAt } = lone;
    const repeated = repeatedStatement(text, verb, pid, cookie);
    if (repeated === undefined) return false;
    this.repeater.begin(repeated, startedAt);
    return true;
  }

  plainPlace(text: string | undefined): StatementPlace | undefined {
    const statement = this.#asked.running(text);
    const { columns, place } = this.#asked;
    if (statement === undefined || columns.length === 0) return undefined;
    // The input function of a type that somebody has made may do anything.
    const isBuiltIn = columns.every(({ oid }) => oid < FIRST_NORMAL_OID);
    return isBuiltIn && statement.isResultOfLaunch ? place : undefined;
  }

  stream(verb: Verb, result: StreamableResult): RowSink | undefined {
    this.#isConcerned = true;
    if (this.repeater.isHolding || !this.#parameters.sharesEncoding) return undefined;
    const statement = this.#asked.running(result.statement);
    if (statement === undefined) return undefined;
    if (!isSameForClient(result, this.#asked.columns, this.#parameters.values)) return undefined;
    const isPlain =
      verb === 'pg_background_launch'
        ? statement.isResultOfLaunch
        : statement.plainResult?.verb === verb;
    if (!isPlain) return undefined;
    this.#stream = new ClientStream({
      // In one write with the tag.
      toClient: (bytes) =>
        result.isAtOnce ? this.#forClient.push(bytes) > 0 : this.#addForClient(bytes),
      clientDrained: () => this.#links.clientDrained(),
    });
    return this.#stream;
  }

  repeat(when: Promise<void>, timeoutMs: number): void {
    this.#isConcerned = true;
    this.repeater.repeatAt(when, timeoutMs);
  }

  /** Whether more may become of what the server sends next than to be forwarded. */
  get isConcerned(): boolean {
    return this.#isConcerned;
  }

  /** Whether the server has to be heard however slowly the client reads: for a function there waits for the proxy. */
  get mustHearServer(): boolean {
    return this.#session?.isConversing === true;
  }

  /** The server's bytes of a chunk were forwarded. */
  serverChunkDone(): void {
    if (this.#forClient.length > 0) this.#tellClient();
  }

  /** To stand between two messages of the server. @returns false when the client reads slowly */
  #addForClient(bytes: Buffer): boolean {
    if (this.#forClient.length === 0 && this.fromServer.isBetweenMessages)
      return this.#links.toClient(bytes);
    this.#forClient.push(bytes);
    return true;
  }

  #tellClient(): void {
    if (!this.fromServer.isBetweenMessages) return;
    for (const bytes of this.#forClient.splice(0)) this.#links.toClient(bytes);
  }

  #serverRules(): FilterRules {
    return {
      header: (type, length, chunk, at) => {
        switch (type) {
          case MessageType.noticeResponse:
            return 'peek';
          case MessageType.readyForQuery:
            // Its last byte may not be there yet.
            if (at + length > chunk.length) return 'take';
            if (this.#isConcerned && this.repeater.isHolding) return 'take';
            this.#statementEnded(chunk[at + 5]);
            return 'pass';
          case MessageType.rowDescription:
            if (!this.#isConcerned) return 'pass';
            return this.repeater.drops(type) || this.#asked.awaitsColumns ? 'take' : 'pass';
          case MessageType.dataRow:
            return this.#isConcerned && this.repeater.drops(type) ? 'take' : 'pass';
          case MessageType.commandComplete:
            if (!this.#isConcerned) return 'pass';
            return this.#replaced.hasTag || this.#stream !== undefined || this.repeater.drops(type)
              ? 'take'
              : 'pass';
          case MessageType.bindComplete:
            if (this.#isConcerned) this.#asked.bound();
            return 'pass';
          case MessageType.copyInResponse:
            this.#asked.copyBegan();
            return 'pass';
          case MessageType.errorResponse:
            if (length <= MAX_PARSED_BYTES) return 'take';
            this.#failed();
            return 'pass';
          case MessageType.backendKeyData:
          case MessageType.parameterStatus:
            return length <= MAX_PARSED_BYTES ? 'take' : 'pass';
          default:
            return 'pass';
        }
      },
      peek: (beginning) => this.#peekAtNotice(beginning),
      take: (frame) => this.#takeFromServer(frame),
      tooLarge: () => this.#session?.statementEnded(),
    };
  }

  /** A callback is known by its SQLSTATE, which comes before the message. */
  #peekAtNotice(beginning: Buffer): Verdict {
    for (const [letter, text] of reportFields(beginning)) {
      if (letter !== 'C') continue;
      this.#isTakingCallback = text === CALLBACK_SQLSTATE;
      return this.#isTakingCallback || this.#raised.hasNotices || this.#replaced.isRunning
        ? 'take'
        : 'pass';
    }
    return 'peek';
  }

  #takeFromServer(frame: Buffer): Buffer | undefined {
    if (this.repeater.drops(frame[0] as number)) return void this.repeater.dropped();
    switch (frame[0]) {
      case MessageType.readyForQuery: {
        const { isHolding } = this.repeater;
        if (this.repeater.ready()) {
          this.#session?.statementEnded();
          return undefined;
        }
        this.#statementEnded(frame[5]);
        if (isHolding) this.repeater.release();
        return frame;
      }
      case MessageType.noticeResponse: {
        if (!this.#isTakingCallback) {
          return this.#cleanReport(frame);
        }
        this.#isConcerned = true;
        for (const [letter, text] of reportFields(frame)) {
          if (letter === 'M') this.#session?.receive(text);
        }
        return undefined;
      }
      case MessageType.rowDescription:
        this.#asked.described(frame);
        return frame;
      case MessageType.commandComplete: {
        // The function has returned none of the rows.
        const rowCount = this.#endStream();
        if (rowCount !== undefined && decodeCommandTag(frame) === 'SELECT 0')
          return commandComplete(`SELECT ${rowCount}`);
        return this.#replaced.putTagRight(frame);
      }
      case MessageType.errorResponse:
        this.#failed();
        return this.#replaced.putPositionRight(this.#cleanReport(frame));
      case MessageType.backendKeyData:
        this.#links.onBackendKey(frame.readInt32BE(5), Buffer.from(frame.subarray(5)));
        return frame;
      case MessageType.parameterStatus:
        this.#parameters.take(frame);
        return frame;
      default:
        return frame;
    }
  }

  #clientRules(): FilterRules {
    return {
      header: (type, length, chunk, at) => {
        this.#asked.sent(type);
        const end = at + length;
        if (this.#mayRead(type) && length <= MAX_PARSED_BYTES) {
          if (end > chunk.length || textOf(chunk, at, end) !== undefined) return 'take';
        }
        if (!this.#asked.isFollowing) return 'pass';
        if (!mustBeSeen(type) || length > MAX_FOLLOWED_BYTES) {
          this.#asked.unseen(type);
          return 'pass';
        }
        if (end > chunk.length) return 'take';
        if (this.#asked.seen(type, chunk, at, end)) this.#isConcerned = true;
        return 'pass';
      },
      peek: () => 'pass',
      take: (frame) => this.#takeFromClient(frame),
      tooLarge: () => {},
    };
  }

  /** Whether messages of this type have a text, which can be read. */
  #mayRead(type: number): boolean {
    return (
      (type === MessageType.query || type === MessageType.parse) && this.#parameters.areReadable
    );
  }

  #takeFromClient(frame: Buffer): Buffer {
    const type = frame[0] as number;
    const text = this.#mayRead(type) ? textOf(frame, 0, frame.length) : undefined;
    if (this.#asked.seen(type, frame, 0, frame.length, text)) this.#isConcerned = true;
    const session = this.#session;
    if (text === undefined) return frame;
    this.#isConcerned = true;
    if (/\bdatabase\b/i.test(text) && /\b(create|alter|drop)\b/i.test(text))
      this.#links.onDatabaseStatement();
    if (session === undefined) return frame;
    if (/alter|extension/i.test(text)) this.#mayAlter = true;
    if (!/extension/i.test(text)) return frame;
    return this.#replaced.replaceIn(
      frame,
      () => session.newGrantToken(),
      // Positions can be told apart only where no other text is on its way.
      this.#asked.lone && { name: this.#parameters.values.get('client_encoding') },
    );
  }

  #statementEnded(status: number | undefined): void {
    this.#asked.ready(status);
    if (!this.#isConcerned) return;
    this.#session?.statementEnded();
    if (this.#mayAlter) {
      this.#links.onAltered();
      this.#mayAlter = !this.#asked.isIdle;
    }
    this.#asked.ended();
    this.#endStream();
    this.#replaced.ended();
    this.#raised.statementEnded();
    this.#isConcerned = this.#mayAlter;
  }

  #failed(): void {
    this.repeater.failed();
    this.#endStream();
    this.#asked.failed();
  }

  /** @returns the number of rows that the client was given, if they were all */
  #endStream(): number | undefined {
    const stream = this.#stream;
    if (stream !== undefined) this.#tellClient();
    stream?.stop();
    this.#stream = undefined;
    return stream?.rowCount;
  }

  #cleanReport(frame: Buffer): Buffer {
    return this.#raised.clean(frame, {
      isReplacement: this.#replaced.isRunning,
      sharesEncoding: this.#parameters.sharesEncoding,
    });
  }
}

/** The body of a message, if it may concern us. Not its length, which may look like a letter. */
function textOf(bytes: Buffer, from: number, to: number): string | undefined {
  return textThatMentions(bytes, from + HEADER_BYTES, to);
}
