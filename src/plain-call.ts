import type { DatabaseText } from './errors.ts';
import { parseStatements, type Node } from './sql-text.ts';

type Fields = Readonly<Record<string, unknown>>;

/**
 * The call in `SELECT … FROM f(…) [AS (…)]` or `SELECT f(…)`, where a statement is no more than that.
 * `isWhole`: it gives all columns as they come, `SELECT *`.
 */
export function onlyCallOf(
  sql: DatabaseText,
): { call: Fields; isWhole: boolean; columns?: readonly Node[] } | undefined {
  const [statement, ...others] = parseStatements(sql) ?? [];
  const select = statement?.stmt?.['SelectStmt'];
  if (select === undefined || others.length > 0) return undefined;
  const { targetList, fromClause, limitOption, op, ...more } = select;
  if (Object.keys(more).length > 0 || op !== 'SETOP_NONE') return undefined;
  if (limitOption !== 'LIMIT_OPTION_DEFAULT') return undefined;
  const targets = (targetList ?? []) as Node[];
  const values = targets.map((target) => target['ResTarget']?.['val'] as Node | undefined);
  if (fromClause === undefined) {
    const call = values[0]?.['FuncCall'];
    // A result is read in FROM only.
    return values.length === 1 && call !== undefined && nameOf(call) === 'pg_background_wait_v2'
      ? { call, isWhole: false }
      : undefined;
  }
  if (!values.every((value) => value?.['ColumnRef'] !== undefined)) return undefined;
  const [source, ...furtherSources] = fromClause as Node[];
  const range = source?.['RangeFunction'];
  if (range === undefined || furtherSources.length > 0 || range['ordinality'] === true)
    return undefined;
  const [list, ...furtherLists] = (range['functions'] ?? []) as { List: { items: Node[] } }[];
  const call = furtherLists.length > 0 ? undefined : list?.List.items[0]?.['FuncCall'];
  const columns = (range['coldeflist'] ?? []) as Node[];
  return call && { call, isWhole: values.length === 1 && isStar(values[0]), columns };
}

/** Types of pg_catalog that may be called by their names alone; others are keywords, which the parser qualifies. */
const BUILT_IN = new Set(
  `bool char name int2 int4 int8 text oid tid xid xid8 cid json jsonb xml cidr inet macaddr macaddr8 bpchar varchar
   time timetz date timestamp timestamptz interval bit varbit numeric float4 float8 uuid pg_lsn`.split(
    /\s+/,
  ),
);

/**
 * Whether a column definition list names types of pg_catalog only. What the server says of its columns does not
 * tell: it describes a domain as the type that the domain is of.
 */
function hasBuiltInTypes(columns: readonly Node[]): boolean {
  return columns.every((column) => {
    const type = column['ColumnDef']?.['typeName'] as Fields | undefined;
    const names = ((type?.['names'] ?? []) as Node[]).map((name) => name['String']?.['sval']);
    const [name, ...others] = names.reverse();
    return others.length === 0
      ? BUILT_IN.has(String(name))
      : others.length === 1 && others[0] === 'pg_catalog';
  });
}

/** A statement that is nothing but `SELECT * FROM f(…) AS (…)`. */
export interface PlainResult {
  /** The function, by its name alone: what that means depends on the search_path. */
  readonly verb: string;
  /** Whether its argument is a launch, of constants or parameters; else it has those itself. */
  readonly isOfLaunch: boolean;
}

/**
 * What a statement reads that is `SELECT * FROM f(…) AS (…)`, with built-in types and with constants or parameters,
 * or with a launch of those: nothing in it calls anything else.
 */
export function plainResultOf(sql: DatabaseText): PlainResult | undefined {
  const found = onlyCallOf(sql);
  if (!found?.isWhole || !hasBuiltInTypes(found.columns ?? [])) return undefined;
  const verb = nameOf(found.call);
  if (isPlainCall(found.call, verb)) return { verb, isOfLaunch: false };
  return isPlainCall(found.call, verb, 'pg_background_launch')
    ? { verb, isOfLaunch: true }
    : undefined;
}

function isPlainCall(call: Fields, name: string, ...inner: readonly string[]): boolean {
  const known = ['funcname', 'args', 'funcformat', 'location'];
  if (Object.keys(call).some((key) => !known.includes(key))) return false;
  // With a schema it may be anybody's.
  if ((call['funcname'] as Node[]).length !== 1 || nameOf(call) !== name) return false;
  return ((call['args'] ?? []) as Node[]).every((arg) => {
    const { A_Const: constant, ParamRef: parameter, FuncCall: nested } = arg;
    const [next, ...others] = inner;
    if (nested !== undefined && next !== undefined) return isPlainCall(nested, next, ...others);
    return constant !== undefined || parameter !== undefined;
  });
}

function isStar(value: Node | undefined): boolean {
  const fields = (value?.['ColumnRef']?.['fields'] ?? []) as Node[];
  return fields.length === 1 && fields[0]?.['A_Star'] !== undefined;
}

export function nameOf(call: Fields): string {
  const names = (call['funcname'] ?? []) as Node[];
  return String(names.at(-1)?.['String']?.['sval']);
}
