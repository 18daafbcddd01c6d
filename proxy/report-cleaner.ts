import { apiFunctionNames, encodeReport, reportFields, type ReportFields } from '../src/index.ts';

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

/** What is known of the reports that may come. */
export interface ExpectedReports {
  /** An error that a function was told to raise, and the worker that it comes from. */
  readonly raised?: { readonly error: ReportFields; readonly pid: number | undefined } | undefined;
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
  if (raised?.pid !== undefined && raised.error.code === field('C')) {
    const { where } = raised.error;
    foreign.unshift(
      ...(isSendable(where, sharesEncoding) ? where.split('\n') : []),
      `background worker, pid ${raised.pid}`,
    );
    for (const [letter, name] of ORIGIN_FIELDS) {
      const text = raised.error[name];
      if (isSendable(text, sharesEncoding)) replaced.set(letter, text);
    }
  } else if (field('C') === '53000' && isSendable(unanswered?.message, sharesEncoding)) {
    replaced.set('D', unanswered.message);
    if (isSendable(unanswered.hint, sharesEncoding)) replaced.set('H', unanswered.hint);
  }
  if (foreign.length > 0) replaced.set('W', foreign.join('\n'));
  const kept = fields.filter(
    ([letter, text]) => text !== '' && letter !== 'W' && !replaced.has(letter),
  );
  return encodeReport(frame[0] as number, [...kept, ...replaced]);
}

/** Text in the database's encoding can be sent to a client with another one only where it is ASCII. */
function isSendable(text: string | undefined, sharesEncoding: boolean): text is string {
  return text !== undefined && (sharesEncoding || !/[\x80-\xff]/.test(text));
}
