import { readFileSync } from 'node:fs';
import {
  apiFunctions,
  apiTypes,
  internalFunctions,
  internalViews,
  ownerFunctions,
  ownerInternalFunctions,
} from './api.ts';
import { splitStatements } from './sql-text.ts';

const folder = new URL('../../sql/', import.meta.url);
/** The version of the extension whose API this is. */
const EXTENSION_VERSION = '1.8';

const parts = [
  '10-internal.sql',
  '20-results.sql',
  '30-api.sql',
  '40-signatures.sql',
  '50-privileges.sql',
];

/** What CREATE EXTENSION said. */
export interface CreateOptions {
  /** Proves to the proxy that it wrote this block, see newGrantToken. */
  readonly grantToken: string;
  /** The statement as the user wrote it, for a server that has the C extension. */
  readonly original: string;
  readonly schema: string | undefined;
  readonly version?: string | undefined;
  readonly ifNotExists: boolean;
}

/** What ALTER EXTENSION said: either one. */
export interface AlterOptions {
  readonly grantToken: string;
  readonly original: string;
  /** UPDATE, to this version if it names one. */
  readonly version?: string | undefined;
  /** SET SCHEMA. */
  readonly schema?: string | undefined;
}

/** What DROP EXTENSION said. */
export interface DropOptions {
  readonly grantToken: string;
  readonly original: string;
  readonly ifExists: boolean;
  readonly cascade: boolean;
  /** Extensions that the same statement drops. */
  readonly others: readonly string[];
}

/** The one statement that installs everything in `sql/`; it only creates, and fails where something is in the way. */
export function createStatement(options: CreateOptions): string {
  return fill(readBlock('install.sql', options.grantToken), {
    grant_token: literal(options.grantToken),
    schema: options.schema === undefined ? 'NULL' : literal(options.schema),
    version: literal(options.version ?? EXTENSION_VERSION),
    if_not_exists: String(options.ifNotExists),
    original: literal(options.original),
    store_key: readPart('parts/store-key.sql').trim(),
    // One EXECUTE each: an error's context then shows the statement that failed, not the whole script.
    statements: installStatements()
      .map(
        (text) =>
          `EXECUTE pg_catalog.replace(pg_catalog.replace($pgbg_sql$${text}$pgbg_sql$, '__extschema__', target), '__extschema_text__', pg_catalog.replace(target, '''', ''''''));`,
      )
      .join('\n  '),
  }).trim();
}

/** The one statement that removes everything again. */
export function dropStatement(options: DropOptions): string {
  const behaviour = options.cascade ? ' CASCADE' : '';
  const functions = [...apiFunctions, ...ownerFunctions].map(
    ([name, types]) => `%1$s.${name}(${types})`,
  );
  const types = apiTypes.map((name) => `%1$s.${name}`);
  const others = options.others.map(
    (name) =>
      `EXECUTE ${literal(`DROP EXTENSION ${options.ifExists ? 'IF EXISTS ' : ''}${identifier(name)}${behaviour}`)};`,
  );
  return fill(readBlock('drop.sql', options.grantToken), {
    grant_token: literal(options.grantToken),
    if_exists: String(options.ifExists),
    original: literal(options.original),
    api_schema: readPart('parts/api-schema.sql').trim(),
    statements: [
      `DROP FUNCTION ${functions.join(', ')}${behaviour}`,
      `DROP TYPE ${types.join(', ')}${behaviour}`,
    ]
      .map((text) => `EXECUTE pg_catalog.format(${literal(text)}, target);`)
      .join('\n    '),
    others: others.join('\n  '),
  }).trim();
}

/** The one statement that writes a new key, or moves the API to another schema. */
export function alterStatement(options: AlterOptions): string {
  const objects = [
    ...[...apiFunctions, ...ownerFunctions].map(
      ([name, types]) => `FUNCTION %1$I.${name}(${types})`,
    ),
    ...apiTypes.map((name) => `TYPE %1$I.${name}`),
  ];
  const name = options.schema === undefined ? 'update.sql' : 'set-schema.sql';
  const original = literal(options.original);
  return fill(readBlock(name, options.grantToken), {
    grant_token: literal(options.grantToken),
    version: literal(options.version ?? EXTENSION_VERSION),
    own_version: literal(EXTENSION_VERSION),
    schema: literal(options.schema ?? ''),
    objects: objects.map(literal).join(', '),
    alter_guard: fill(readPart('parts/alter-guard.sql').trim(), { original }),
    store_key: readPart('parts/store-key.sql').trim(),
  }).trim();
}

/** The statements of `sql/`, with `__extschema__` left for the server to fill in. */
export function installStatements(): readonly string[] {
  installation ??= [
    ...parts.flatMap((name) => splitStatements(fillParts(readPart(name)))),
    ...revokeStatements(),
  ];
  return installation;
}

/** Read and parsed once: that takes long enough to be felt by every session. */
let installation: readonly string[] | undefined;

function revokeStatements(): string[] {
  const functions = [
    ...[...apiFunctions, ...ownerFunctions].map(
      ([name, types]) => `__extschema__.${name}(${types})`,
    ),
    ...[...internalFunctions, ...ownerInternalFunctions].map(
      (signature) => `pgbackground.${signature}`,
    ),
  ];
  return [
    `REVOKE ALL ON FUNCTION ${functions.join(', ')} FROM PUBLIC`,
    `REVOKE ALL ON TYPE ${apiTypes.map((name) => `__extschema__.${name}`).join(', ')} FROM PUBLIC`,
  ];
}

/** What `GRANT … TO role` gives a user of the API, `%1$I` standing for its schema. */
function grantables(): string[] {
  return [
    'USAGE ON SCHEMA pgbackground',
    ...internalViews.map((name) => `SELECT ON TABLE pgbackground.${name}`),
    ...internalFunctions.map((signature) => `EXECUTE ON FUNCTION pgbackground.${signature}`),
    ...apiTypes.map((name) => `USAGE ON TYPE %1$I.${name}`),
    ...apiFunctions.map(([name, types]) => `EXECUTE ON FUNCTION %1$I.${name}(${types})`),
  ];
}

function fillParts(text: string): string {
  const privileges = apiFunctions.map(
    ([name, types]) =>
      `pg_catalog.has_function_privilege(CURRENT_USER, '__extschema_text__.${name}(${types})'::pg_catalog.regprocedure::pg_catalog.oid, 'EXECUTE')`,
  );
  const probeLoop = readPart('parts/probe-loop.sql').trim();
  return fill(text, {
    result_variables: readPart('parts/result-variables.sql').trim(),
    result_body: fill(readPart('parts/result-body.sql').trim(), { probe_loop: probeLoop }),
    probe_loop: probeLoop,
    signed_context: fill(readPart('parts/signed-context.sql').trim(), {
      privileges: privileges.join(',\n        '),
    }),
    api_schema: readPart('parts/api-schema.sql').trim(),
    grantables: grantables().map(literal).join(',\n    '),
  });
}

/** A DO block with a delimiter that no text of the user can hold, for the token is new and random. */
function readBlock(name: string, grantToken: string): string {
  const delimiter = `$pgbg_${grantToken.replace(/\W/g, '').slice(0, 32)}$`;
  return readPart(name)
    .replace(/^--.*\n/gm, '')
    .replace(/\$pgbg_(install|update|set_schema|drop)\$/g, () => delimiter);
}

function readPart(name: string): string {
  return readFileSync(new URL(name, folder), 'utf8');
}

function fill(template: string, values: Readonly<Record<string, string>>): string {
  return template.replace(/@(\w+)@/g, (whole, name: string) => values[name] ?? whole);
}

function literal(text: string): string {
  const quoted = `'${text.replaceAll("'", "''").replaceAll('\\', '\\\\')}'`;
  return text.includes('\\') ? `E${quoted}` : quoted;
}

function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
