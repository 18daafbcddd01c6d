import type pg from 'pg';
import { expect } from 'chai';
import { eventually } from './eventually.ts';

const KEY = 4711;

/** SQL for a worker that is to wait until the test lets it go on. */
export const WAIT_AT_GATE = `SELECT pg_catalog.pg_advisory_xact_lock_shared('${KEY}')`;

/** Of this many bytes the server sends some before it has all rows. */
export const MANY_ROWS = `SELECT repeat('x', 1000) FROM generate_series(1, 100)`;

/** The same rows, and one more when the test lets it come. */
export const ROWS_BEFORE_GATE = `${MANY_ROWS} UNION ALL SELECT '' || pg_catalog.pg_advisory_xact_lock_shared('${KEY}')`;

/** A gate at which workers wait; the client must go around the proxy, and see all backends. */
export class Gate {
  readonly #client: pg.Client;
  #isClosed = false;

  constructor(client: pg.Client) {
    this.#client = client;
  }

  async close(): Promise<void> {
    if (!this.#isClosed) await this.#client.query('SELECT pg_advisory_lock($1)', [KEY]);
    this.#isClosed = true;
  }

  async open(): Promise<void> {
    if (this.#isClosed) await this.#client.query('SELECT pg_advisory_unlock($1)', [KEY]);
    this.#isClosed = false;
  }

  /** How many workers wait at the gate. */
  async waiting(): Promise<number> {
    const { rows } = await this.#client.query<{ count: number }>(
      `SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      [KEY],
    );
    return rows[0]?.count ?? 0;
  }

  async untilWaiting(count: number): Promise<void> {
    await eventually(async () => {
      expect(await this.waiting(), 'workers that wait at the gate').to.equal(count);
    });
  }

  /** Opens the gate as soon as a backend is inside a statement and waits, and so many others that say the same. */
  async openOnceWaiting(
    backendPid: number,
    statement: Promise<unknown>,
    others: { readonly count: number; readonly text: string } = { count: 0, text: '' },
  ): Promise<void> {
    let isOver = false;
    const over = () => void (isOver = true);
    statement.then(over, over);
    await eventually(async () => {
      const { rows } = await this.#client.query<{ pid: number; says: boolean }>(
        `SELECT pid, strpos(query, $1) > 0 AS says FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND state IN ('active', 'disabled') AND wait_event <> 'ClientRead'`,
        [others.text],
      );
      const waits = rows.some(({ pid }) => pid === backendPid);
      const also = rows.filter(({ pid, says }) => says && pid !== backendPid).length;
      expect(isOver || (waits && also >= others.count), 'the backend waits').to.equal(true);
    });
    expect(isOver, 'the statement ended though the gate was closed').to.equal(false);
    await this.open();
  }
}
