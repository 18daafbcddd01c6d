import { apiFunctionNames } from './api.ts';
import type { ReportFields } from './errors.ts';
import { encodeReport, MessageType, reportFields } from './messages.ts';

/** A context line that names a function of ours. */
const OWN_FUNCTION = new RegExp(
  `PL/pgSQL.*\\b(?:pgbackground\\.\\w+|(?:${apiFunctionNames.join('|')}))\\(`,
);

/** Fields that say where the error was raised; a worker's replace those of our RAISE. */
const ORIGIN_FIELDS = [
  ['F', 'file'],
  ['L', 'line'],
  ['R', 'routine'],
  ['p', 'internalPosition'],
  ['q', 'internalQuery'],
] as const;

/** A report that a function was told to raise, and the worker that it comes from, if it does. */
export interface RaisedReport {
  readonly fields: ReportFields;
  readonly pid: number | undefined;
}

/** What is known of the reports that may come. */
export interface ExpectedReports {
  /** The one that this is, if it is what it looks like. */
  readonly raised?: RaisedReport | undefined;
  /** Why a function gets no answer. */
  readonly unanswered?: ReportFields | undefined;
  /** A statement runs that was put in the place of CREATE, ALTER or DROP EXTENSION. */
  readonly isReplacement?: boolean;
  /** The client is sent bytes as the database has them. */
  readonly sharesEncoding: boolean;
}

/**
 * Puts right an ErrorResponse or NoticeResponse that our functions have raised: takes out their
 * context and empty fields, and adds what RAISE could not say. Any other report stays as it is.
 */
export function cleanReport(frame: Buffer, expected: ExpectedReports): Buffer {
  const fields = [...reportFields(frame)];
  const field = (letter: string) => fields.find(([name]) => name === letter)?.[1];
  // Innermost first: what stands above a function of ours happened inside it.
  const context = field('W')?.split('\n') ?? [];
  const ownEnd = context.findLastIndex((line) => OWN_FUNCTION.test(line)) + 1;
  if (ownEnd === 0 && expected.isReplacement !== true) return frame;
  const foreign = ownEnd > 0 && !expected.isReplacement ? context.slice(ownEnd) : [];

  const replaced = new Map<string, string>();
  const { raised, unanswered, sharesEncoding } = expected;
  const reason =
    unanswered?.detail === undefined
      ? unanswered?.message
      : `${unanswered.message}: ${unanswered.detail}`;
  if (raised?.pid !== undefined && raised.fields.code === field('C')) {
    const { where } = raised.fields;
    foreign.unshift(
      ...(isSendable(where, sharesEncoding) ? where.split('\n') : []),
      `background worker, pid ${raised.pid}`,
    );
    for (const [letter, name] of ORIGIN_FIELDS) {
      const text = raised.fields[name];
      if (isSendable(text, sharesEncoding)) replaced.set(letter, text);
    }
  } else if (field('C') === '53000' && isSendable(reason, sharesEncoding)) {
    replaced.set('D', reason);
    if (isSendable(unanswered?.hint, sharesEncoding)) replaced.set('H', unanswered.hint);
  }
  if (foreign.length > 0) replaced.set('W', foreign.join('\n'));
  const kept = fields.filter(
    ([letter, text]) => text !== '' && letter !== 'W' && !replaced.has(letter),
  );
  return encodeReport(frame[0] as number, [...kept, ...replaced]);
}

/** What the functions of one session were told to raise in the statement that runs. */
export class RaisedReports {
  #error: RaisedReport | undefined;
  #notices: RaisedReport[] = [];
  /** How many of the notices have come, or were not sent. */
  #told = 0;
  #unanswered: ReportFields | undefined;

  /** Whether notices may come that must be cleaned. */
  get hasNotices(): boolean {
    return this.#told < this.#notices.length;
  }

  errorRaised(fields: ReportFields, pid: number | undefined): void {
    this.#error = { fields, pid };
  }

  noticesRaised(notices: readonly ReportFields[], pid: number): void {
    for (const fields of notices) this.#notices.push({ fields, pid });
  }

  /** A function will get no answer. */
  unanswered(reason: ReportFields): void {
    this.#unanswered = reason;
  }

  statementEnded(): void {
    this.#error = undefined;
    this.#notices = [];
    this.#told = 0;
    this.#unanswered = undefined;
  }

  /** Puts an ErrorResponse or NoticeResponse right. */
  clean(frame: Buffer, about: Pick<ExpectedReports, 'isReplacement' | 'sharesEncoding'>): Buffer {
    const raised =
      frame[0] === MessageType.noticeResponse
        ? this.#takeNotice(frame, about.sharesEncoding)
        : this.#error;
    return cleanReport(frame, { ...about, raised, unanswered: this.#unanswered });
  }

  /** The notice that a frame is: they come in their order, but not all, as client_min_messages says. */
  #takeNotice(frame: Buffer, sharesEncoding: boolean): RaisedReport | undefined {
    if (!this.hasNotices) return undefined;
    const found = new Map(reportFields(frame));
    for (let index = this.#told; index < this.#notices.length; index++) {
      const notice = this.#notices[index] as RaisedReport;
      const { severity, code, message } = notice.fields;
      if (
        severity === found.get('V') &&
        code === found.get('C') &&
        (message === found.get('M') || !isSendable(message, sharesEncoding))
      ) {
        this.#told = index + 1;
        return notice;
      }
    }
    return undefined;
  }
}

/** Text in the database's encoding can be sent to a client with another one only where it is ASCII. */
function isSendable(text: string | undefined, sharesEncoding: boolean): text is string {
  return text !== undefined && (sharesEncoding || !/[\x80-\xff]/.test(text));
}
