/** The ways to write down one call of a function of the API. */

export interface Argument {
  readonly type: 'text' | 'int4' | 'int8';
  readonly value: string;
}

/** A call, before it is known where it stands. */
export interface Call {
  readonly name: string;
  readonly args: readonly Argument[];
  /** For a function that returns records: its column definition list, and what to read of a row r. */
  readonly record?: { readonly columns: string; readonly fields: readonly string[] };
}

export function literal(value: string): string {
  return `'${value.replaceAll("'", "''")}'`;
}

export function literals({ args }: Call): string[] {
  return args.map(({ value }) => literal(value));
}

/** $1, $2 … in the place of the arguments. */
export function placeholders({ args }: Call): string[] {
  return args.map((_, index) => `$${index + 1}`);
}

/** The call as it stands in FROM, with the alias r. */
export function fromItem(
  { name, record, ...call }: Call,
  args = literals({ name, ...call }),
): string {
  return `public.${name}(${args.join(', ')}) AS r${record === undefined ? '' : `(${record.columns})`}`;
}

/** The call as somebody would write it who wants to see what it gives. */
export function plainQuery(call: Call, args = literals(call)): string {
  return call.record === undefined
    ? `SELECT public.${call.name}(${args.join(', ')})`
    : `SELECT ${call.record.fields.join(', ')} FROM ${fromItem(call, args)}`;
}

/** A row r of the FROM item as one text. */
export function lineOf({ record }: Call): string {
  return record === undefined ? 'r::text' : `concat_ws(' ', ${record.fields.join(', ')})`;
}

/** A query that gives one text for each row. */
export function lineQuery(call: Call, args = literals(call)): string {
  return call.record === undefined
    ? `SELECT public.${call.name}(${args.join(', ')})::text AS line`
    : `SELECT ${lineOf(call)} AS line FROM ${fromItem(call, args)}`;
}

/** An expression that gives all lines as one text, separated by line feeds. */
export function expression(call: Call, args = literals(call)): string {
  return call.record === undefined
    ? `public.${call.name}(${args.join(', ')})::text`
    : `(SELECT string_agg(line, chr(10)) FROM (${lineQuery(call, args)}) AS s)`;
}

/** What the expression gave, as lines. */
export function linesOf(value: string | null | undefined): string[] {
  return value === null || value === undefined ? [] : value.split('\n');
}

/** PL/pgSQL that keeps what the call gives in the table seen; needs a variable line. */
export function plpgsqlCall(call: Call, number: number, args = literals(call)): string {
  const keep = `INSERT INTO seen VALUES (${number}, line);`;
  return call.record === undefined
    ? `line := ${expression(call, args)}; ${keep}`
    : `FOR line IN ${lineQuery(call, args)} LOOP ${keep} END LOOP;`;
}
