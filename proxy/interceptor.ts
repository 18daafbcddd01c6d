import {
  CALLBACK_SQLSTATE,
  decodeCommandTag,
  frameOf,
  MAX_REQUEST_BYTES,
  MessageType,
  reportFields,
  type BackgroundSession,
  type ReportFields,
  type SessionEvents,
} from '../src/index.ts';
import { replaceExtensionStatements } from './extension-statements.ts';
import { MessageFilter, type FilterRules, type Verdict } from './message-filter.ts';
import { cleanReport } from './report-cleaner.ts';

/** Longer texts are not looked into: parsing them would hold up every session. */
const MAX_PARSED_BYTES = 1024 * 1024;

/** Encodings in which a byte below 128 always is that ASCII character, as the server reports them. */
const READABLE_ENCODINGS = /^(UTF8|SQL_ASCII|LATIN\d+|ISO_8859_\d|WIN\d+|KOI8[RU])$/;

/**
 * Everything that is done to a session's two streams. Towards the client: callbacks are taken out,
 * tags and reports of replaced statements and of raised errors are put right. Towards the server:
 * CREATE, ALTER and DROP EXTENSION pg_background are replaced. All other bytes pass.
 */
export class Interceptor implements SessionEvents {
  readonly #onBackendPid: (pid: number) => void;
  #session: BackgroundSession | undefined;
  readonly #parameters = new Map<string, string>();
  #ownTag: string | undefined;
  #raised: { readonly error: ReportFields; readonly pid: number | undefined } | undefined;
  #unanswered: ReportFields | undefined;
  #isReplacement = false;
  #hasNotices = false;
  #isTakingCallback = false;

  constructor(onBackendPid: (pid: number) => void) {
    this.#onBackendPid = onBackendPid;
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
    this.#isReplacement = true;
  }

  tagReplaced(tag: string): void {
    this.#isReplacement = false;
    this.#ownTag = tag;
  }

  errorRaised(error: ReportFields, pid: number | undefined): void {
    this.#raised = { error, pid };
  }

  noticesRaised(): void {
    this.#hasNotices = true;
  }

  unanswered(reason: ReportFields): void {
    this.#unanswered = reason;
  }

  #serverRules(): FilterRules {
    return {
      header: (type, length) => {
        switch (type) {
          case MessageType.noticeResponse:
            return 'peek';
          case MessageType.readyForQuery:
            this.#statementEnded();
            return 'pass';
          case MessageType.commandComplete:
            return this.#ownTag === undefined ? 'pass' : 'take';
          case MessageType.errorResponse:
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
      return this.#isTakingCallback || this.#hasNotices || this.#isReplacement ? 'take' : 'pass';
    }
    return 'peek';
  }

  #takeFromServer(frame: Buffer): Buffer | undefined {
    switch (frame[0]) {
      case MessageType.noticeResponse: {
        if (!this.#isTakingCallback) {
          return cleanReport(frame, {
            isReplacement: this.#isReplacement,
            sharesEncoding: this.#sharesEncoding,
          });
        }
        for (const [letter, text] of reportFields(frame)) {
          if (letter === 'M') this.#session?.receive(text);
        }
        return undefined;
      }
      case MessageType.commandComplete: {
        const tag = this.#ownTag;
        this.#ownTag = undefined;
        if (tag === undefined || decodeCommandTag(frame) !== 'DO') return frame;
        return frameOf(MessageType.commandComplete, Buffer.from(`${tag}\0`));
      }
      case MessageType.errorResponse:
        return cleanReport(frame, {
          raised: this.#raised,
          unanswered: this.#unanswered,
          isReplacement: this.#isReplacement,
          sharesEncoding: this.#sharesEncoding,
        });
      case MessageType.backendKeyData:
        this.#onBackendPid(frame.readInt32BE(5));
        return frame;
      case MessageType.parameterStatus: {
        const [name = '', value = ''] = frame.toString('latin1', 5, frame.length - 1).split('\0');
        this.#parameters.set(name, value);
        return frame;
      }
      default:
        return frame;
    }
  }

  #clientRules(): FilterRules {
    return {
      header: (type, length, chunk, at) => {
        if (type !== MessageType.query && type !== MessageType.parse) return 'pass';
        if (length > MAX_PARSED_BYTES || !this.#canRead) return 'pass';
        const end = at + length;
        return end > chunk.length || mentionsUs(chunk, at, end) ? 'take' : 'pass';
      },
      peek: () => 'pass',
      take: (frame) => {
        if (this.#session === undefined || !mentionsUs(frame, 0, frame.length)) return frame;
        const session = this.#session;
        return replaceExtensionStatements(frame, () => session.newGrantToken());
      },
      tooLarge: () => {},
    };
  }

  #statementEnded(): void {
    this.#session?.statementEnded();
    this.#ownTag = undefined;
    this.#raised = undefined;
    this.#unanswered = undefined;
    this.#isReplacement = false;
    this.#hasNotices = false;
  }

  /** Whether the texts that pass can be read without knowing more about their encoding. */
  get #canRead(): boolean {
    return (
      this.#parameters.get('standard_conforming_strings') === 'on' &&
      READABLE_ENCODINGS.test(this.#parameters.get('client_encoding') ?? '')
    );
  }

  /** Whether the client is sent bytes as the database has them. */
  get #sharesEncoding(): boolean {
    return this.#parameters.get('client_encoding') === this.#parameters.get('server_encoding');
  }
}

/** Cheap, and right for nearly every text: parsing is for those that may hold a statement of ours. */
function mentionsUs(bytes: Buffer, from: number, to: number): boolean {
  const text = bytes.toString('latin1', from, to);
  return /pg_background/i.test(text) && /extension/i.test(text);
}
