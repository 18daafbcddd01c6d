import { loadModule, parsePlPgSQLSync, parseSync, scanSync } from 'libpg-query';

await loadModule();

/** A part of a parse tree: an object whose one key names its type, or its fields. */
export type Tree = Readonly<Record<string, unknown>>;

/** What stands in a statement and in its PL/pgSQL body, if it has one. */
export interface ParsedStatement {
  /** CreateFunctionStmt and the like, with its fields. */
  readonly kind: string;
  readonly fields: Tree;
  readonly body: ParsedBody | undefined;
}

export interface ParsedBody {
  readonly text: string;
  /** Variables, arguments and fields, but not those that PL/pgSQL declares itself. */
  readonly names: readonly string[];
  /** The types of what DECLARE declares. */
  readonly types: readonly string[];
  /** The body's own statements. */
  readonly tree: Tree;
  /** Each SQL expression and statement in it, as a statement. */
  readonly expressions: readonly string[];
}

/** Parses one statement, and its body when it is a PL/pgSQL function or a DO block. */
export function parseStatement(sql: string): ParsedStatement {
  const { stmts } = parseSync(sql) as unknown as { stmts: { stmt: Tree }[] };
  const [kind, fields] = Object.entries(stmts[0]?.stmt ?? {})[0] as [string, Tree];
  if (stmts.length !== 1) throw new Error(`not one statement: ${sql}`);
  const isBlock = kind === 'CreateFunctionStmt' || kind === 'DoStmt';
  return { kind, fields, body: isBlock ? parseBody(sql, fields) : undefined };
}

/**
 * Says what in a statement means something else on another search_path: names without a schema and
 * operators without one, written or hidden in a construct.
 */
export function complaintsAbout(sql: string): string[] {
  const { kind, fields, body } = parseStatement(sql);
  const complaints: string[] = [];
  visit({ [kind]: fields }, (type, node) => {
    // Read once, when the function is created, which happens on a search_path of pg_catalog.
    const isPseudoType =
      type === 'TypeName' && /^(void|record)$/.test(namesOf(node['names']).join());
    if (!isPseudoType) complaints.push(...complaintsAboutNode(type, node));
  });
  if (body === undefined) return complaints;
  visit(body.tree, (type, node) => {
    if (type === 'PLpgSQL_stmt_case' && node['t_expr'] !== undefined)
      complaints.push('simple CASE statement');
  });
  for (const text of [...body.expressions, ...body.types.map((type) => `SELECT NULL::${type}`)]) {
    visit(parseSync(text) as unknown as Tree, (type, node) =>
      complaints.push(...complaintsAboutNode(type, node)),
    );
  }
  return complaints;
}

/** What a count of words and one of tree nodes say of a body: they agree when nothing was overlooked. */
export function countsOf(body: ParsedBody): Readonly<Record<'words' | 'nodes', object>> {
  const words = scanSync(body.text).tokens.map(({ text }) => text);
  const nodes = { operators: 0, calls: 0 };
  for (const expression of body.expressions) {
    visit(parseSync(expression) as unknown as Tree, (type, node) => {
      if (type === 'A_Expr') nodes.operators++;
      if (type === 'FuncCall' && node['funcformat'] !== 'COERCE_SQL_SYNTAX') nodes.calls++;
    });
  }
  return {
    nodes,
    words: {
      operators: words.filter((word) => word === 'OPERATOR').length,
      calls: words.filter(
        (word, at) => word === '(' && words[at - 2] === '.' && words[at - 4] !== 'INTO',
      ).length,
    },
  };
}

/** The texts that stand as constants in a body. */
export function constantsIn(body: ParsedBody): string[] {
  const constants: string[] = [];
  for (const expression of body.expressions) {
    visit(parseSync(expression) as unknown as Tree, (type, node) => {
      if (type === 'sval') constants.push(String(node['sval']));
    });
  }
  return constants;
}

/** The texts of a list of String nodes. */
export function namesOf(list: unknown): string[] {
  return ((list ?? []) as { String?: { sval?: string } }[]).map((node) => node.String?.sval ?? '');
}

const SCHEMAS = ['pg_catalog', 'pgbackground', '__extschema__'];

function complaintsAboutNode(type: string, node: Tree): string[] {
  switch (type) {
    case 'FuncCall':
      return complainUnlessQualified('function', namesOf(node['funcname']));
    case 'TypeName':
      return complainUnlessQualified('type', namesOf(node['names']));
    case 'CollateClause':
      return complainUnlessQualified('collation', namesOf(node['collname']));
    case 'ObjectWithArgs':
      return complainUnlessQualified('function', namesOf(node['objname']));
    case 'CreateFunctionStmt':
      return complainUnlessQualified('function', namesOf(node['funcname']));
    case 'RangeVar': {
      const names = [node['schemaname'], node['relname']].filter((name) => name !== undefined);
      return complainUnlessQualified('relation', names as string[]);
    }
    case 'A_Expr':
      return complaintsAboutExpression(node);
    case 'SubLink':
      return complaintsAboutSubLink(node);
    case 'CaseExpr':
      return node['arg'] === undefined ? [] : ['simple CASE'];
    case 'JoinExpr':
      return [
        ...(node['usingClause'] === undefined ? [] : ['JOIN USING']),
        ...(node['isNatural'] === true ? ['NATURAL JOIN'] : []),
      ];
    case 'SortBy':
      return node['useOp'] === undefined
        ? []
        : complainUnlessQualified('operator', namesOf(node['useOp']));
    default:
      return [];
  }
}

function complaintsAboutExpression(node: Tree): string[] {
  const kind = String(node['kind']);
  if (!/^AEXPR_OP(_ANY|_ALL)?$/.test(kind))
    return [kind.replace('AEXPR_', '').replaceAll('_', ' ')];
  const isRow = [node['lexpr'], node['rexpr']].some((side) => (side as Tree)?.['RowExpr']);
  return [
    ...complainUnlessQualified('operator', namesOf(node['name'])),
    ...(isRow ? ['row comparison'] : []),
  ];
}

function complaintsAboutSubLink(node: Tree): string[] {
  const isRow = (node['testexpr'] as Tree | undefined)?.['RowExpr'] !== undefined;
  const complaints = isRow ? ['row comparison'] : [];
  if (!/^(ANY|ALL|ROWCOMPARE)_SUBLINK$/.test(String(node['subLinkType']))) return complaints;
  return node['operName'] === undefined
    ? [...complaints, 'IN']
    : [...complaints, ...complainUnlessQualified('operator', namesOf(node['operName']))];
}

function complainUnlessQualified(what: string, names: readonly string[]): string[] {
  const isQualified = names.length === 2 && SCHEMAS.includes(names[0] as string);
  const isForeign = what === 'operator' && names[0] !== 'pg_catalog';
  return isQualified && !isForeign ? [] : [`${what} ${names.join('.')}`];
}

/** Calls back for each object in a tree that stands under a name. */
function visit(tree: unknown, found: (type: string, node: Tree) => void): void {
  if (Array.isArray(tree)) {
    for (const item of tree) visit(item, found);
  } else if (typeof tree === 'object' && tree !== null) {
    for (const [key, value] of Object.entries(tree)) {
      if (typeof value === 'object' && value !== null && !Array.isArray(value))
        found(nodeType(key), value as Tree);
      visit(value, found);
    }
  }
}

/** Where a field can hold one type of node only, the tree leaves the type's name out. */
function nodeType(key: string): string {
  if (/^(typeName|returnType|argType)$/.test(key)) return 'TypeName';
  return /^(relation|view|typevar)$/.test(key) ? 'RangeVar' : key;
}

/** How PL/pgSQL parses a text: as a statement, as an expression, or as an assignment to one to three names. */
const PARSE_MODES = ['statement', 'type', 'expression', 'assignment', 'assignment', 'assignment'];

function parseBody(sql: string, fields: Tree): ParsedBody {
  const { plpgsql_funcs: functions } = parsePlPgSQLSync(sql) as unknown as {
    plpgsql_funcs: { PLpgSQL_function: { datums: Tree[]; action: Tree } }[];
  };
  if (functions.length !== 1) throw new Error('not one PL/pgSQL body');
  const [{ PLpgSQL_function: tree }] = functions as [(typeof functions)[0]];
  const names: string[] = [];
  const types: string[] = [];
  const expressions: string[] = [];
  visit(tree.datums, (type, datum) => {
    if (!/^PLpgSQL_(var|rec)$/.test(type)) return;
    if (/^(found|sqlstate|sqlerrm)$/.test(String(datum['refname']))) return;
    names.push(String(datum['refname']));
    const typeName = datum['datatype'] as { PLpgSQL_type: { typname: string } } | undefined;
    if (datum['lineno'] !== undefined && typeName) types.push(typeName.PLpgSQL_type.typname);
  });
  visit(tree as unknown as Tree, (type, node) => {
    if (type === 'PLpgSQL_expr') expressions.push(asStatement(node as unknown as Expression));
  });
  return { text: bodyText(fields), names, types, tree: tree as unknown as Tree, expressions };
}

interface Expression {
  readonly query: string;
  readonly parseMode: number;
}

function asStatement({ query, parseMode }: Expression): string {
  switch (PARSE_MODES[parseMode]) {
    case 'statement':
      return query;
    case 'expression':
      return `SELECT ${query}`;
    case 'assignment': {
      const at = query.indexOf(':=');
      if (at < 0) throw new Error(`assignment without := in ${query}`);
      return `SELECT ${query.slice(0, at)}, ${query.slice(at + 2)}`;
    }
    default:
      throw new Error(`unknown way to parse ${query}`);
  }
}

function bodyText(fields: Tree): string {
  const options = (fields['options'] ?? fields['args']) as { DefElem: Tree }[];
  const as = options.find(({ DefElem }) => DefElem['defname'] === 'as')?.DefElem['arg'] as Tree;
  const list = as['List'] as { items: unknown } | undefined;
  return namesOf(list?.items ?? [as])[0] as string;
}
