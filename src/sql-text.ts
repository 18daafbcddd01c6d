import { loadModule, parseSync, scanSync } from 'libpg-query';
import { BackgroundError, type DatabaseText } from './errors.ts';

await loadModule();

/** A node of libpg-query's tree: an object with one key, which names its type. */
export type Node = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

export interface RawStatement {
  readonly stmt?: Node;
  readonly stmt_location?: number;
  readonly stmt_len?: number;
}

/** A CREATE, ALTER or DROP EXTENSION that names pg_background. Offsets count characters, which are bytes here. */
export type ExtensionStatement = {
  readonly start: number;
  readonly end: number;
  readonly text: DatabaseText;
} & (
  | {
      readonly kind: 'create';
      readonly schema: DatabaseText | undefined;
      readonly version: DatabaseText | undefined;
      readonly ifNotExists: boolean;
    }
  | { readonly kind: 'update'; readonly version: DatabaseText | undefined }
  | { readonly kind: 'setSchema'; readonly schema: DatabaseText }
  | {
      readonly kind: 'drop';
      readonly ifExists: boolean;
      readonly cascade: boolean;
      readonly others: readonly DatabaseText[];
    }
);

/**
 * Cuts a script into its statements, without their semicolons.
 * @throws Error when it does not parse
 */
export function splitStatements(script: string): string[] {
  const bytes = Buffer.from(script, 'utf8');
  return parse(script).map(({ stmt_location: start = 0, stmt_len: length }) =>
    bytes.toString('utf8', start, length === undefined ? undefined : start + length).trim(),
  );
}

/**
 * Refuses what a worker may not run: transaction control, COPY to or from the client, LISTEN.
 * @returns the number of statements; undefined when the text does not parse, so that nothing is known of it
 * @throws BackgroundError 0A000
 */
export function vetWorkerSql(sql: DatabaseText): number | undefined {
  const statements = parseStatements(sql);
  if (statements === undefined) return undefined;
  for (const { stmt = {} } of statements) {
    const copy = stmt['CopyStmt'];
    if (stmt['TransactionStmt'] !== undefined) {
      throw new BackgroundError(
        '0A000',
        'transaction control statements are not allowed in pg_background',
      );
    }
    if (copy !== undefined && copy['filename'] === undefined) {
      throw new BackgroundError('0A000', 'COPY protocol not allowed in pg_background');
    }
    if (stmt['ListenStmt'] !== undefined) {
      throw new BackgroundError('0A000', 'cannot execute LISTEN within a background process');
    }
  }
  return statements.length;
}

/** Finds the statements that create, alter or drop the extension; none in a text that does not parse. */
export function findExtensionStatements(sql: DatabaseText): ExtensionStatement[] {
  const statements = parseStatements(sql) ?? [];
  const offset = offsetsOf(sql);
  const found: ExtensionStatement[] = [];
  for (const { stmt = {}, stmt_location: from = 0, stmt_len: length } of statements) {
    const what = readExtensionStatement(stmt);
    if (what === undefined) continue;
    const start = offset(from);
    const end = length === undefined ? sql.length : offset(from + length);
    found.push({ start, end, text: sql.slice(start, end), ...what });
  }
  return found;
}

type WithoutPlace<T> = T extends unknown ? Omit<T, 'start' | 'end' | 'text'> : never;

function readExtensionStatement(stmt: Node): WithoutPlace<ExtensionStatement> | undefined {
  const create = stmt['CreateExtensionStmt'];
  if (create?.['extname'] === 'pg_background') {
    return {
      kind: 'create',
      schema: optionOf(create, 'schema'),
      version: optionOf(create, 'new_version'),
      ifNotExists: create['if_not_exists'] === true,
    };
  }
  const update = stmt['AlterExtensionStmt'];
  if (update?.['extname'] === 'pg_background') {
    return { kind: 'update', version: optionOf(update, 'new_version') };
  }
  const move = stmt['AlterObjectSchemaStmt'];
  if (move?.['objectType'] === 'OBJECT_EXTENSION') {
    const object = move['object'] as Node | undefined;
    if (object?.['String']?.['sval'] !== 'pg_background') return undefined;
    return { kind: 'setSchema', schema: String(move['newschema']) };
  }
  const drop = stmt['DropStmt'];
  if (drop?.['removeType'] === 'OBJECT_EXTENSION') {
    const names = ((drop['objects'] ?? []) as Node[]).map((object) =>
      String(object['String']?.['sval']),
    );
    if (!names.includes('pg_background')) return undefined;
    return {
      kind: 'drop',
      ifExists: drop['missing_ok'] === true,
      cascade: drop['behavior'] === 'DROP_CASCADE',
      others: names.filter((name) => name !== 'pg_background'),
    };
  }
  return undefined;
}

/** The text of an option like SCHEMA or VERSION. */
function optionOf(statement: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const options = (statement['options'] ?? []) as { DefElem?: { defname?: string; arg?: Node } }[];
  const value = options.find(({ DefElem }) => DefElem?.defname === name)?.DefElem?.arg?.[
    'String'
  ]?.['sval'];
  return typeof value === 'string' ? value : undefined;
}

/** libpg-query counts the bytes of UTF-8, of which a byte above 127 has become two: gives places in the text. */
export function offsetsOf(sql: DatabaseText): (bytes: number) => number {
  const utf8 = Buffer.from(sql, 'utf8');
  return (bytes) => utf8.toString('utf8', 0, bytes).length;
}

/** The tokens of a text that parses. Their places count as those of nodes do. */
export function tokensOf(
  sql: DatabaseText,
): readonly { readonly start: number; readonly end: number; readonly text: string }[] {
  return scanSync(sql).tokens;
}

/** Applications send few texts again and again, and parsing the smallest takes a twentieth of a millisecond. */
const MAX_REMEMBERED_TEXTS = 64;
const MAX_REMEMBERED_LENGTH = 1024;

const remembered = new Map<DatabaseText, readonly RawStatement[] | undefined>();

/** The statements of a text; undefined when it does not parse. */
export function parseStatements(sql: DatabaseText): readonly RawStatement[] | undefined {
  if (sql.length > MAX_REMEMBERED_LENGTH) return tryToParse(sql);
  if (remembered.has(sql)) return remembered.get(sql);
  const statements = tryToParse(sql);
  const [oldest] = remembered.keys();
  if (remembered.size >= MAX_REMEMBERED_TEXTS && oldest !== undefined) remembered.delete(oldest);
  remembered.set(sql, statements);
  return statements;
}

function tryToParse(sql: DatabaseText): readonly RawStatement[] | undefined {
  try {
    return parse(sql);
  } catch {
    return undefined;
  }
}

function parse(sql: string): RawStatement[] {
  if (sql.trim() === '') return [];
  return (parseSync(sql) as unknown as { stmts?: RawStatement[] }).stmts ?? [];
}
