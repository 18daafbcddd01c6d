import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import Cursor from 'pg-cursor';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { codeOf, run } from '../feature-runner.mjs';

async function withClient(connectionString, work) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** Waits, in another session, until a session is in the middle of a statement that contains a text. */
async function whenRunning(other, pid, text) {
  for (;;) {
    const { rowCount } = await other.query(
      `SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active' AND query LIKE '%' || $2 || '%'`,
      [pid, text],
    );
    if (rowCount === 1) return;
  }
}

await run({
  login: (url) =>
    withClient(url, async (client) => {
      const { rows } = await client.query(
        `SELECT session_user AS session, who AS worker
           FROM pg_background_result(pg_background_launch('SELECT session_user')) AS (who text)`,
      );
      return rows[0];
    }),

  'parameters and types': (url) =>
    withClient(url, async (client) => {
      const { rows } = await client.query(
        `SELECT $1::int + 1 AS int, $2::text AS text, $3::jsonb AS jsonb, $4::int[] AS array,
                $5::bytea AS bytea, $6::timestamptz = '2024-02-29 12:00+00' AS timestamptz, $7::text AS null`,
        [
          41,
          'größer',
          { a: [1, null] },
          [1, 2, null],
          Buffer.from([0, 255]),
          new Date('2024-02-29T12:00:00Z'),
          null,
        ],
      );
      return { ...rows[0], bytea: rows[0].bytea.toString('hex') };
    }),

  'binary results': (url) =>
    withClient(url, async (client) => {
      const { rows } = await client.query({
        text: 'SELECT 42::int4 AS a, 7::int8 AS b, true AS c, $1::text AS d',
        values: ['text'],
        binary: true,
      });
      return rows;
    }),

  'named prepared statements': (url) =>
    withClient(url, async (client) => {
      const seen = [];
      for (const value of [1, 2, 3]) {
        const query = { name: 'double', text: 'SELECT $1::int * 2 AS doubled', values: [value] };
        seen.push((await client.query(query)).rows[0].doubled);
      }
      const { rows } = await client.query('SELECT name FROM pg_prepared_statements');
      return { seen, prepared: rows.map(({ name }) => name) };
    }),

  Pool: async (connectionString) => {
    const pool = new pg.Pool({ connectionString, max: 4 });
    const { rows } = await pool.query('SELECT 1 AS one');
    const values = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const result = await pool.query('SELECT $1::int AS i, pg_backend_pid() AS pid', [i]);
        return result.rows[0];
      }),
    );
    await pool.end();
    return {
      first: rows[0].one,
      sum: values.reduce((sum, { i }) => sum + i, 0),
      hasSeveral: new Set(values.map(({ pid }) => pid)).size > 1,
    };
  },

  transactions: (url) =>
    withClient(url, async (client) => {
      await client.query('CREATE TABLE node_tx (a int)');
      await client.query('BEGIN');
      await client.query('INSERT INTO node_tx VALUES (1)');
      await client.query('ROLLBACK');
      await client.query('BEGIN');
      await client.query('INSERT INTO node_tx VALUES (2)');
      const failed = await codeOf(client.query('SELECT 1/0'));
      const ignored = await codeOf(client.query('SELECT 1'));
      await client.query('ROLLBACK');
      await client.query('BEGIN; INSERT INTO node_tx VALUES (3); COMMIT');
      const { rows } = await client.query('SELECT a FROM node_tx');
      return { failed, ignored, rows };
    }),

  'pg-cursor': (url) =>
    withClient(url, async (client) => {
      const cursor = client.query(
        new Cursor('SELECT i FROM generate_series(1, $1::int) AS i', [7]),
      );
      const counts = [];
      for (let rows; (rows = await cursor.read(3)).length > 0;) counts.push(rows.map(({ i }) => i));
      await cursor.close();
      const early = client.query(new Cursor('SELECT generate_series(1, 1000000)'));
      await early.read(1);
      await early.close();
      return { counts, after: (await client.query('SELECT 1 AS one')).rows[0].one };
    }),

  'pg-copy-streams in': (url) =>
    withClient(url, async (client) => {
      await client.query('CREATE TABLE node_copy_in (a int, b text)');
      const lines = Array.from({ length: 20_000 }, (_, i) => `${i}\trow ${i}\n`);
      await pipeline(Readable.from(lines), client.query(copyFrom('COPY node_copy_in FROM STDIN')));
      const { rows } = await client.query(
        'SELECT count(*)::int, sum(a)::int, max(b) FROM node_copy_in',
      );
      return rows[0];
    }),

  'pg-copy-streams out': (url) =>
    withClient(url, async (client) => {
      const copy = client.query(
        copyTo(
          'COPY (SELECT i, repeat(i::text, 10) FROM generate_series(1, 20000) AS i) TO STDOUT',
        ),
      );
      let text = '';
      for await (const chunk of copy) text += chunk;
      const lines = text.trimEnd().split('\n');
      return {
        lines: lines.length,
        last: lines.at(-1),
        after: (await client.query('SELECT 1 AS one')).rows[0].one,
      };
    }),

  'COPY that fails': (url) =>
    withClient(url, async (client) => {
      await client.query('CREATE TABLE node_copy_bad (a int)');
      const copy = client.query(copyFrom('COPY node_copy_bad FROM STDIN'));
      const code = await codeOf(pipeline(Readable.from(['1\n', 'no number\n']), copy));
      const { rows } = await client.query('SELECT count(*)::int FROM node_copy_bad');
      return { code, rows };
    }),

  LISTEN: (url) =>
    withClient(url, (listener) =>
      withClient(url, async (sender) => {
        const heard = new Promise((resolve) => listener.once('notification', resolve));
        await listener.query('LISTEN news');
        await sender.query(`SELECT pg_notify('news', 'größer')`);
        const { channel, payload, processId } = await heard;
        return { channel, payload, isSender: processId === sender.processID };
      }),
    ),

  pg_cancel_backend: (url) =>
    withClient(url, (client) =>
      withClient(url, async (other) => {
        const code = codeOf(client.query('SELECT pg_sleep(60)'));
        await whenRunning(other, client.processID, 'pg_sleep');
        await other.query('SELECT pg_cancel_backend($1)', [client.processID]);
        return { code: await code, after: (await client.query('SELECT 1 AS one')).rows[0].one };
      }),
    ),

  errors: (url) =>
    withClient(url, async (client) => {
      await client.query('CREATE TABLE node_errors (a int CONSTRAINT positive CHECK (a > 0))');
      const seen = [];
      for (const text of ['SELECT nothing', 'INSERT INTO node_errors VALUES (-1)']) {
        await client.query(text).catch(({ code, position, constraint, table }) => {
          seen.push({ code, position, constraint, table });
        });
      }
      return seen;
    }),

  'a worker and its result': (url) =>
    withClient(url, async (client) => {
      const { rows: launched } = await client.query('SELECT pg_background_launch($1) AS pid', [
        'SELECT i, i * 1.5 FROM generate_series(1, 3) AS i',
      ]);
      const { rows } = await client.query(
        'SELECT * FROM pg_background_result($1) AS (x int, y numeric)',
        [launched[0].pid],
      );
      return rows;
    }),

  "a worker's rows by pg-cursor": (url) =>
    withClient(url, async (client) => {
      const { rows } = await client.query('SELECT * FROM pg_background_launch_v2($1)', [
        'SELECT generate_series(1, 10)',
      ]);
      const cursor = client.query(
        new Cursor('SELECT * FROM pg_background_result_v2($1, $2) AS (x int)', [
          rows[0].pid,
          rows[0].cookie,
        ]),
      );
      const values = [];
      for (let some; (some = await cursor.read(4)).length > 0;) values.push(some.map(({ x }) => x));
      await cursor.close();
      return values;
    }),

  'cancelled while it waits for a worker': (url) =>
    withClient(url, (client) =>
      withClient(url, async (other) => {
        const { rows } = await client.query(
          `SELECT * FROM pg_background_launch_v2('SELECT 42 FROM pg_sleep(60)')`,
        );
        const handle = [rows[0].pid, rows[0].cookie];
        const code = codeOf(
          client.query('SELECT * FROM pg_background_result_v2($1, $2) AS (x int)', handle),
        );
        await whenRunning(other, client.processID, 'result_v2');
        await other.query('SELECT pg_cancel_backend($1)', [client.processID]);
        const first = await code;
        await client.query('SELECT pg_background_cancel_v2($1, $2)', handle);
        await client.query('SELECT pg_background_wait_v2($1, $2)', handle);
        const second = await codeOf(
          client.query('SELECT * FROM pg_background_result_v2($1, $2) AS (x int)', handle),
        );
        return { first, second, after: (await client.query('SELECT 1 AS one')).rows[0].one };
      }),
    ),
});
