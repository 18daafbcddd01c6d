import type { Verb } from './api.ts';
import type { DatabaseText } from './errors.ts';
import { nameOf, onlyCallOf } from './plain-call.ts';
import { offsetsOf, tokensOf, type Node } from './sql-text.ts';

/** The calls that wait, and that can wait again. */
const WAITING: readonly string[] = [
  'pg_background_result',
  'pg_background_result_v2',
  'pg_background_wait_v2',
] satisfies Verb[];

/**
 * A statement that waits for a worker, as it is run a second time when the worker has ended: its
 * arguments, which may have launched the worker, become the handle. Undefined when there is more in
 * the statement than this one call, so that it must not run twice.
 * @param verb the call that waits
 */
export function repeatedStatement(
  sql: DatabaseText,
  verb: Verb,
  pid: number,
  cookie: string,
): DatabaseText | undefined {
  const place = argumentsOf(sql, verb);
  if (place === undefined) return undefined;
  const handle = verb === 'pg_background_result' ? `${pid}` : `${pid}, '${cookie}'`;
  return sql.slice(0, place.start) + handle + sql.slice(place.end);
}

/** Where the arguments of the one call stand, between its parentheses. */
function argumentsOf(sql: DatabaseText, verb: Verb): { start: number; end: number } | undefined {
  const call = onlyCallOf(sql)?.call;
  if (call === undefined || nameOf(call) !== verb || !WAITING.includes(verb)) return undefined;
  if (!((call['args'] ?? []) as Node[]).every(isHarmless)) return undefined;
  const tokens = tokensOf(sql);
  const open = tokens.findIndex(
    ({ start, text }) => start >= Number(call['location']) && text === '(',
  );
  let depth = 0;
  const close = tokens.findIndex(({ text }, index) => {
    if (index < open) return false;
    if (text === '(') depth++;
    return text === ')' && --depth === 0;
  });
  const [first, last] = [tokens[open], tokens[close]];
  if (first === undefined || last === undefined) return undefined;
  const offset = offsetsOf(sql);
  return { start: offset(first.end), end: offset(last.start) };
}

/** Whether an argument is a constant, or launches the worker from constants: it waits for nothing itself. */
function isHarmless(node: Node): boolean {
  const [kind = '', fields = {}] = Object.entries(node)[0] ?? [];
  const part = (name: string) => fields[name] === undefined || isHarmless(fields[name] as Node);
  switch (kind) {
    case 'A_Const':
      return true;
    case 'TypeCast':
    case 'NamedArgExpr':
      return part('arg');
    case 'A_Expr':
      return part('lexpr') && part('rexpr');
    case 'FuncCall':
      return (
        /^(pg_background_launch|format|quote_(ident|literal|nullable))$/.test(nameOf(fields)) &&
        ((fields['args'] ?? []) as Node[]).every(isHarmless)
      );
    default:
      return false;
  }
}
