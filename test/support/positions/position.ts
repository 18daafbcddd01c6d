import type { ApiFunction } from '../api-functions.ts';
import type { Call } from '../call-forms.ts';
import type { TextRow, WireSession } from '../wire-session.ts';

/** A place in which a call can stand. */
export interface Position {
  readonly name: string;
  /** How many calls it makes, each about a worker of its own; 1 by default. */
  readonly calls?: number;
  /** Who logs in, who makes the calls; the superuser by default. */
  readonly user?: string;
  readonly role?: string;
  readonly encoding?: 'UTF8' | 'LATIN1' | 'SQL_ASCII';
  /** What workers write and give; plain ASCII by default. */
  readonly word?: string;
  /** Whether workers are launched where the call stands, and not before by the session. */
  readonly nested?: boolean;
  /** What happens before workers are launched. */
  setUp?(session: WireSession): Promise<unknown>;
  /** Makes the calls. @returns for each call the lines that it gave; undefined where they are not shown */
  run(situation: Situation): Promise<string[][] | undefined>;
  /** How the position refuses a function: an SQLSTATE, or by giving no rows. */
  refusal?(called: ApiFunction): string | undefined;
  /** What is put right after the calls. */
  tearDown?(session: WireSession): Promise<unknown>;
}

/** What a refusal without an error gives. */
export const NO_ROWS = 'no rows';

/** What a position has to work with. */
export interface Situation {
  readonly session: WireSession;
  readonly calls: readonly Call[];
  /** The only call, or the first. */
  readonly call: Call;
  /** A call that must fail, and how. */
  readonly mistake: { readonly call: Call; readonly code: string };
  /** SQL of a worker that the call could be about. */
  readonly workerSql: string;
}

/** A table of the session, for positions that show nothing to the client. */
export const SEEN = 'CREATE TEMP TABLE seen (call int, line text)';

/** What the calls have left in the table. */
export async function seenLines({ session, calls }: Situation): Promise<string[][]> {
  const rows = await session.rows('SELECT call, line FROM pg_temp.seen ORDER BY ctid');
  return calls.map((_, number) =>
    rows.filter(([call]) => call === String(number)).map(([, line]) => line ?? ''),
  );
}

/** Rows as lines, with a space between columns. */
export function asLines(rows: readonly TextRow[] = []): string[] {
  return rows.map((row) => row.join(' '));
}
