import pg from 'pg';

const DEFAULT_URL = 'postgres://postgres@127.0.0.1:6432/postgres';
const SCHEMA = 'pgbg_demo';
/** What a void function returns: one column without a value. */
const VOID_OID = 2278;
/** Marks our own schema: a schema of that name without it is somebody else's. */
const SCHEMA_COMMENT = 'made by the demo of pg-background-proxy';
const ROWS = 600_000;

const url = process.argv[2] ?? process.env['PGBG_DEMO_URL'] ?? DEFAULT_URL;
const client = new pg.Client({ connectionString: url, application_name: 'pg-background-demo' });

/** What stops the tour before it begins, as one line for the user. */
class CannotRun extends Error {}

try {
  await connect();
  await tour();
} catch (error) {
  const reason = error instanceof CannotRun ? error.message : describeError(error);
  process.stderr.write(`${reason}\n`);
  process.exitCode = 1;
} finally {
  await client.end().catch(() => {});
}

async function connect(): Promise<void> {
  client.on('error', () => {}); // the query that runs then fails with it
  client.on('notice', ({ severity, message }) => print(`${severity}:  ${message ?? ''}`, 4));
  try {
    await client.connect();
  } catch (error) {
    // Where a name has several addresses, the error is made of one for each.
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ECONNREFUSED') {
      throw new CannotRun(
        `nothing listens at ${client.host}:${client.port}: run npm start in another terminal, then npm run demo again`,
      );
    }
    throw error;
  }
  const { rows } = await client.query<{ isProxied: boolean }>(
    `SELECT current_setting('pgbg_proxy.session', true) IS NOT NULL AS "isProxied"`,
  );
  if (rows[0]?.isProxied !== true) {
    throw new CannotRun(
      `${client.host}:${client.port} is a server and no pg-background-proxy: give the proxy's connection string`,
    );
  }
}

async function tour(): Promise<void> {
  await removeLeftovers();
  const installedIn = await findExtension();
  // Workers inherit both: they find our tables, and a count alone is not run in parallel already.
  await client.query(`SET search_path = ${SCHEMA}, ${installedIn ?? 'public'}`);
  await client.query('SET max_parallel_workers_per_gather = 0');
  const wasInstalled = installedIn !== undefined;
  if (!wasInstalled) {
    title('The extension is installed as always');
    await run('CREATE EXTENSION pg_background');
  }
  try {
    await makeTables();
    await vacuumInBackground();
    await logThatSurvives();
    await countInParallel();
    await listAndCancel();
  } finally {
    client.removeAllListeners('notice');
    await client.query('ROLLBACK'); // where the tour broke off in a transaction
    await client.query(`DROP SCHEMA IF EXISTS ${SCHEMA} CASCADE`);
    if (!wasInstalled) await client.query('DROP EXTENSION pg_background');
  }
  print(
    bold(
      `\nDone. The schema ${SCHEMA}${wasInstalled ? ' is' : ' and the extension are'} gone again.`,
    ),
  );
}

async function vacuumInBackground(): Promise<void> {
  title(
    'VACUUM cannot run inside a function. A background worker can run it; INFO lines come back',
  );
  await run(`
DELETE FROM reading WHERE n % 3 = 0`);
  await run(`
SELECT * FROM pg_background_result(
  pg_background_launch('VACUUM (VERBOSE, TRUNCATE off) reading')) AS (result text)`);
}

async function logThatSurvives(): Promise<void> {
  title('A log entry that survives the ROLLBACK of the transaction that wrote it');
  await run(`
CREATE FUNCTION log_entry(said text) RETURNS void LANGUAGE sql AS $$
  SELECT FROM pg_background_result(pg_background_launch(
    format('INSERT INTO audit_log VALUES (%L)', said))) AS (result text)
$$`);
  await run('BEGIN');
  await run(`INSERT INTO account VALUES ('mallory', 1000000)`);
  await run(`SELECT log_entry('mallory tried to open an account')`);
  await run('ROLLBACK');
  await run('SELECT * FROM account');
  await run('SELECT * FROM audit_log');
}

async function countInParallel(): Promise<void> {
  title('Three counts at once, collected in one DO block');
  const count = (digit: number) =>
    `SELECT count(*) FROM reading WHERE md5(n::text) LIKE '${digit}%'`;
  let sumMs = 0;
  for (const digit of [1, 2, 3]) sumMs += (await run(count(digit))).tookMs;
  const { tookMs } = await run(`
DO $$
DECLARE
  workers pg_background_handle[] := ARRAY(
    SELECT pg_background_launch_v2(format('SELECT count(*) FROM reading WHERE md5(n::text) LIKE %L', d || '%'))
      FROM generate_series(1, 3) AS d);
  worker  pg_background_handle;
  counted bigint;
BEGIN
  FOREACH worker IN ARRAY workers LOOP
    SELECT r.n INTO counted FROM pg_background_result_v2(worker.pid, worker.cookie) AS r(n bigint);
    RAISE NOTICE 'worker % counted %', worker.pid, counted;
  END LOOP;
END
$$`);
  print(
    `${bold(`one after the other: ${seconds(sumMs)}, at once: ${seconds(tookMs)}`)} (as far as the server has processors for it)`,
    4,
  );
}

async function listAndCancel(): Promise<void> {
  title('Workers of this session: what they do, and why one failed');
  await run(`SELECT pg_background_launch_v2('SELECT 42')`);
  await run(`SELECT pg_background_launch_v2('SELECT 1/0')`);
  const [sleeper] = (
    await run(`SELECT pid, cookie FROM pg_background_launch_v2('SELECT pg_sleep(60)')`)
  ).rows;
  const handle = [sleeper?.['pid'], sleeper?.['cookie']];
  const list = `
SELECT pid, state, last_error, sql_preview FROM pg_background_list_v2() AS (
  pid int, cookie bigint, launched_at timestamptz, user_id oid, queue_size int,
  state text, sql_preview text, last_error text, consumed boolean)`;
  await run(list);

  title('Nobody wants to wait a minute: cancel');
  await run('SELECT pg_background_cancel_v2($1, $2)', handle);
  await run('SELECT pg_background_wait_v2($1, $2)', handle);
  await runInVain('57P01', 'SELECT * FROM pg_background_result_v2($1, $2) AS (slept text)', handle);
  await run('SELECT * FROM pg_background_stats_v2()');
}

/** Removes what an interrupted demo has left. */
async function removeLeftovers(): Promise<void> {
  const { rows } = await client.query<{ comment: string | null }>(
    `SELECT obj_description(oid, 'pg_namespace') AS comment FROM pg_namespace WHERE nspname = $1`,
    [SCHEMA],
  );
  if (rows[0] === undefined) return;
  if (rows[0].comment !== SCHEMA_COMMENT) {
    throw new CannotRun(`the schema ${SCHEMA} exists and is not the demo's: it is left alone`);
  }
  await client.query(`SET client_min_messages = warning; DROP SCHEMA ${SCHEMA} CASCADE`);
  await client.query('RESET client_min_messages');
}

/** The schema of the API, quoted; undefined when it is not installed. */
async function findExtension(): Promise<string | undefined> {
  const { rows } = await client.query<{ schema: string }>(
    `SELECT quote_ident(n.nspname) AS schema FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
      WHERE p.proname = 'pg_background_launch_v2'`,
  );
  return rows[0]?.schema;
}

async function makeTables(): Promise<void> {
  print(`\n(the tables and the function of the tour are in the schema ${SCHEMA})`);
  await client.query(`
    CREATE SCHEMA ${SCHEMA};
    COMMENT ON SCHEMA ${SCHEMA} IS '${SCHEMA_COMMENT}';
    CREATE TABLE ${SCHEMA}.account (owner text, balance int);
    CREATE TABLE ${SCHEMA}.audit_log (said text);
    CREATE TABLE ${SCHEMA}.reading WITH (autovacuum_enabled = off) AS
      SELECT n FROM generate_series(1, ${ROWS}) AS n`);
}

type Row = Readonly<Record<string, unknown>>;

/** Prints a statement, runs it, and prints what came back. */
async function run(
  sql: string,
  values: readonly unknown[] = [],
): Promise<{ readonly rows: readonly Row[]; readonly tookMs: number }> {
  const bound = values.map((value, i) => `$${i + 1} = ${String(value)}`).join(', ');
  print(`${cyan(`${sql.trim()};`)}${bound === '' ? '' : dim(`  -- ${bound}`)}`, 2);
  const began = performance.now();
  const { command, rowCount, fields, rows } = await client.query<Row>(sql, [...values]);
  const tookMs = performance.now() - began;
  if (fields.length === 0) print([command, rowCount ?? ''].join(' ').trim(), 4);
  else if (fields.every(({ dataTypeID }) => dataTypeID === VOID_OID)) print('done', 4);
  else
    print(
      table(
        fields.map(({ name }) => name),
        rows,
      ),
      4,
    );
  return { rows, tookMs };
}

/** The same for a statement that is to fail: the error is what the tour shows. */
async function runInVain(code: string, sql: string, values: readonly unknown[]): Promise<void> {
  try {
    await run(sql, values);
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || error.code !== code) throw error;
    print(describeError(error), 4);
    return;
  }
  throw new Error(`${code} was expected, and no error came`);
}

function table(names: readonly string[], rows: readonly Row[]): string {
  const cells = [names, ...rows.map((row) => names.map((name) => text(row[name])))];
  const widths = names.map((_, i) => Math.max(...cells.map((line) => line[i]?.length ?? 0)));
  const lines = cells.map((line) =>
    line
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join(' | ')
      .trimEnd(),
  );
  const rule = widths.map((width) => '-'.repeat(width)).join('-+-');
  const count = `(${rows.length} ${rows.length === 1 ? 'row' : 'rows'})`;
  return [lines[0], rule, ...lines.slice(1), count].join('\n');
}

function text(value: unknown): string {
  if (value === null || value === undefined) return '';
  return typeof value === 'number' ? String(Math.round(value * 10) / 10) : String(value);
}

function describeError(error: unknown): string {
  if (!(error instanceof pg.DatabaseError)) {
    return error instanceof Error ? error.message || error.name : String(error);
  }
  const { severity = 'ERROR', message, code = '', hint } = error;
  return `${severity}:  ${message} (${code})${hint === undefined ? '' : `\nHINT:  ${hint}`}`;
}

function title(words: string): void {
  print(`\n${bold(words)}\n`);
}

function print(lines: string, indent = 0): void {
  process.stdout.write(`${lines.replace(/^(?=.)/gm, ' '.repeat(indent))}\n`);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

function bold(words: string): string {
  return styled(1, words);
}

function dim(words: string): string {
  return styled(2, words);
}

function cyan(words: string): string {
  return styled(36, words);
}

function styled(code: number, words: string): string {
  if (!process.stdout.isTTY || process.env['NO_COLOR'] !== undefined) return words;
  return `\u001b[${code}m${words}\u001b[0m`;
}
