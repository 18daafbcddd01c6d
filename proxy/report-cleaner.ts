import { encodeReport, reportFields, type ReportFields } from '../src/index.ts';

/** Context lines that name a function of ours: the C extension's functions leave none. */
const OWN_CONTEXT =
  /PL\/pgSQL.*\b(?:pgbackground\.\w+|pg_background_\w+)\(|"SELECT (?:\w+ := )?pgbackground\./;

/** Fields that say where the error was raised; a worker's replace those of our RAISE. */
const ORIGIN_FIELDS = [
  ['F', 'file'],
  ['L', 'line'],
  ['R', 'routine'],
  ['p', 'internalPosition'],
  ['q', 'internalQuery'],
] as const;

/** An error that a function was told to raise, and the worker that it comes from. */
export interface RaisedError {
  readonly error: ReportFields;
  readonly pid: number | undefined;
}

/**
 * Puts right an ErrorResponse or NoticeResponse that our functions have raised: takes out their
 * context and empty fields, and adds what RAISE could not say. Any other report stays as it is.
 */
export function cleanReport(
  frame: Buffer,
  raised: RaisedError | undefined,
  sharesEncoding: boolean,
): Buffer {
  const fields = [...reportFields(frame)];
  const field = (letter: string) => fields.find(([name]) => name === letter)?.[1];
  const context = field('W')?.split('\n') ?? [];
  const foreign = context.filter((line) => !OWN_CONTEXT.test(line));
  if (
    foreign.length === context.length ||
    (raised !== undefined && field('C') !== raised.error.code)
  )
    return frame;

  const origin = new Map<string, string>();
  if (raised?.pid !== undefined) {
    if (isSendable(raised.error.where, sharesEncoding))
      foreign.unshift(...raised.error.where.split('\n'));
    foreign.splice(
      raised.error.where?.split('\n').length ?? 0,
      0,
      `background worker, pid ${raised.pid}`,
    );
    for (const [letter, name] of ORIGIN_FIELDS) {
      const text = raised.error[name];
      if (isSendable(text, sharesEncoding)) origin.set(letter, text);
    }
  }
  const cleaned = fields.filter(
    ([letter, text]) => text !== '' && letter !== 'W' && !origin.has(letter),
  );
  if (foreign.length > 0) cleaned.push(['W', foreign.join('\n')]);
  return encodeReport(frame[0] as number, [...cleaned, ...origin]);
}

/** Text in the database's encoding can be sent to a client with another one only where it is ASCII. */
function isSendable(text: string | undefined, sharesEncoding: boolean): text is string {
  return text !== undefined && (sharesEncoding || !/[\x80-\xff]/.test(text));
}
