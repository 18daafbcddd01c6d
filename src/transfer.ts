import { randomBytes, randomUUID } from 'node:crypto';
import { binaryColumns, literalColumns } from './column-chunks.ts';
import { BackgroundError, ServerError } from './errors.ts';
import type { PooledConnection, PoolOwner } from './connection-pool.ts';
import type { Login } from './login.ts';
import type { RowSpool } from './row-spool.ts';

/** Rows that travel in packets may hold this much; more needs the table. */
const MAX_PACKET_BYTES = 4 * 1024 * 1024;

/** Rows of up to this many packets come with the description: quicker than asking again. */
const DIRECT_PACKETS = 4;

/** How rows reach the function that returns them. */
export type RowTransfer = { readonly rowCount: number } & (
  { readonly columns: readonly string[] } | { readonly transfer: string; readonly chunks: number }
);

/** Rows that are ready for the function, and what is to be done when it is through with them. */
export interface PreparedRows {
  readonly rows: RowTransfer;
  release(): Promise<void>;
}

/** Small rows, to be told at once; undefined when they need more than a few packets. */
export async function prepareDirectRows(
  rows: RowSpool,
  columnCount: number,
  packetBytes: number,
): Promise<PreparedRows | undefined> {
  if (!fitsInReply(rows, packetBytes)) return undefined;
  return tellRows(rows, columnCount);
}

/** Whether rows are few enough to come with their description. */
export function fitsInReply(rows: RowSpool, packetBytes: number): boolean {
  return rows.bytes <= packetBytes * DIRECT_PACKETS;
}

/** Where the connection comes from that writes a transfer. */
export interface ConnectionSource {
  readonly login: Login;
  readonly owner: PoolOwner;
}

/**
 * Rows of any size: in the table where the asking session can see it, else in packets.
 * @throws BackgroundError 54000 where only packets can carry them and they are too many
 */
export async function prepareRows(
  from: ConnectionSource,
  rows: RowSpool,
  columnCount: number,
  canUseTable: boolean,
  abandoned: AbortSignal,
): Promise<PreparedRows> {
  const stored = canUseTable ? await storeRows(from, rows, columnCount, abandoned) : undefined;
  if (stored !== undefined) return stored;
  if (rows.bytes > MAX_PACKET_BYTES) {
    throw new BackgroundError('54000', 'result is too large to be read here', {
      detail: `It holds ${rows.bytes} bytes, and the limit is ${MAX_PACKET_BYTES} where the result table cannot be used.`,
      hint: 'Read it in a READ COMMITTED transaction on a primary server, or let the background SQL write to a table.',
    });
  }
  return tellRows(rows, columnCount);
}

async function tellRows(rows: RowSpool, columnCount: number): Promise<PreparedRows> {
  const columns = await literalColumns(rows.read(), columnCount);
  return { rows: { columns, rowCount: rows.rowCount }, release: () => Promise.resolve() };
}

/** Errors that mean that this role, in this database, cannot use the table: packets still can be. */
const NO_TABLE = new Set(['42501', '3F000', '42883', '42P01', '25006', '55P03']);

/** Settings of the role or the database that must not disturb the writer. */
const WRITER_SETTINGS = `SELECT ${[
  ['default_transaction_read_only', 'off'],
  ['statement_timeout', '0'],
  // The reader's own transaction may hold the table, and the reader waits for us.
  ['lock_timeout', '2s'],
  ['idle_session_timeout', '0'],
]
  .map(([name, value]) => `pg_catalog.set_config('${name}', '${value}', false)`)
  .join(', ')}`;

/** The same for a setting that exists since 17. */
const NO_TRANSACTION_TIMEOUT = `SELECT pg_catalog.set_config(s.name, '0', false) FROM pg_catalog.pg_settings AS s
 WHERE s.name OPERATOR(pg_catalog.=) 'transaction_timeout'`;

/** Stores rows under a key of their own; undefined when the login's role cannot. */
async function storeRows(
  { login, owner }: ConnectionSource,
  rows: RowSpool,
  columnCount: number,
  abandoned: AbortSignal,
): Promise<PreparedRows | undefined> {
  const pooled = await login.borrow(owner);
  const { connection } = pooled;
  const key = randomUUID();
  // Held as long as this connection lives: rows whose writer's lock is free are garbage.
  const writerLock = randomBytes(8).readBigInt64BE().toString();
  let chunks = 0;
  try {
    abandoned.throwIfAborted();
    await connection.query(WRITER_SETTINGS);
    await connection.query(NO_TRANSACTION_TIMEOUT);
    if (login.takesFirstPurge()) await connection.query('SELECT pgbackground.transfer_drop(NULL)');
    await connection.query(`SELECT pg_catalog.pg_advisory_lock(${writerLock})`);
    await connection.prepare('put', 'SELECT pgbackground.transfer_put($1, $2, $3, $4, $5)');
    await connection.executeMany('put', columnsOf(), abandoned);
  } catch (error) {
    const wasLost = connection.isClosed;
    await login.retire(pooled);
    if (error instanceof ServerError && NO_TABLE.has(error.fields.code)) return undefined;
    abandoned.throwIfAborted();
    if (!wasLost) throw error;
    throw new BackgroundError('08006', 'the connection that carries the result was lost', {
      hint: 'The result is still there: read it again.',
      cause: error,
    });
  }
  return {
    rows: { transfer: key, chunks, rowCount: rows.rowCount },
    release: () => release(login, pooled, key),
  };

  async function* columnsOf(): AsyncGenerator<(string | Buffer)[]> {
    for await (const chunk of binaryColumns(rows.read(), columnCount)) {
      chunks++;
      for (const [column, values] of chunk.columns.entries()) {
        yield [key, String(chunks), String(column + 1), values, writerLock];
      }
    }
  }
}

/** DISCARD ALL gives the writer's lock back. */
async function release(login: Login, pooled: PooledConnection, key: string): Promise<void> {
  try {
    await pooled.connection.query(`SELECT pgbackground.transfer_drop('${key}')`);
  } catch {
    await login.retire(pooled);
    return;
  }
  await login.giveBack(pooled);
}
