import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import postgres from 'postgres';
import { codeOf, run } from '../feature-runner.mjs';

async function withSql(url, work, options = {}) {
  const sql = postgres(url, { onnotice: () => {}, ...options });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}

/** Waits until another session is in the middle of a statement that contains a text. */
async function whenRunning(sql, text) {
  for (;;) {
    const rows = await sql`
      SELECT FROM pg_stat_activity
       WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
         AND backend_type = 'client backend' AND query LIKE ${'%' + text + '%'}`;
    if (rows.length > 0) return;
  }
}

const doubled = async (sql) => {
  const values = [];
  for (const value of [1, 2, 3]) {
    const [row] = await sql`SELECT ${value}::int * 2 AS doubled`;
    values.push(row.doubled);
  }
  const [{ count }] = await sql`SELECT count(*)::int FROM pg_prepared_statements`;
  return { values, hasPrepared: count > 0 };
};

await run({
  login: (url) =>
    withSql(url, async (sql) => {
      const [row] = await sql`
        SELECT session_user AS session, who AS worker
          FROM pg_background_result(pg_background_launch('SELECT session_user')) AS (who text)`;
      return row;
    }),

  'tagged queries': (url) =>
    withSql(url, async (sql) => {
      await sql`CREATE TABLE js_people ${sql.unsafe('(name text, age int)')}`;
      await sql`INSERT INTO js_people ${sql([
        { name: 'größer', age: 1 },
        { name: "o'clock", age: 2 },
      ])}`;
      return sql`SELECT ${sql(['name', 'age'])} FROM js_people WHERE age IN ${sql([1, 2])} ORDER BY age`;
    }),

  'parameters and types': (url) =>
    withSql(url, async (sql) => {
      const [row] = await sql`
        SELECT ${41}::int + 1 AS int, ${sql.json({ a: [1, null] })}::jsonb AS jsonb,
               ${[1, 2]}::int[] AS array, ${Buffer.from([0, 255])}::bytea AS bytea,
               ${new Date('2024-02-29T12:00:00Z')}::timestamptz AS timestamptz, ${null}::text AS null`;
      return { ...row, bytea: row.bytea.toString('hex') };
    }),

  'prepare: true': (url) => withSql(url, doubled, { prepare: true, max: 1 }),
  'prepare: false': (url) => withSql(url, doubled, { prepare: false, max: 1 }),

  'simple queries': (url) =>
    withSql(url, async (sql) => {
      const results = await sql`SELECT 1 AS a; SELECT 2 AS b`.simple();
      return results.map((rows) => rows[0]);
    }),

  'many queries at once on one connection': (url) =>
    withSql(
      url,
      async (sql) => {
        const results = await Promise.allSettled(
          Array.from({ length: 200 }, (_, i) =>
            i === 100 ? sql`SELECT 1/${0}::int AS i` : sql`SELECT ${i}::int AS i`,
          ),
        );
        return {
          sum: results.reduce((sum, { value }) => sum + (value?.[0].i ?? 0), 0),
          failed: results.filter(({ status }) => status === 'rejected').map((r) => r.reason.code),
        };
      },
      { max: 1 },
    ),

  cursors: (url) =>
    withSql(url, async (sql) => {
      const parts = [];
      for await (const rows of sql`SELECT i FROM generate_series(1, 7) AS i`.cursor(3))
        parts.push(rows.map(({ i }) => i));
      const stopped = [];
      await sql`SELECT i FROM generate_series(1, 1000000) AS i`.cursor(2, (rows) => {
        stopped.push(...rows.map(({ i }) => i));
        return stopped.length >= 4 ? sql.CLOSE : undefined;
      });
      return { parts, stopped };
    }),

  forEach: (url) =>
    withSql(url, async (sql) => {
      let sum = 0;
      await sql`SELECT i FROM generate_series(1, 50000) AS i`.forEach(({ i }) => (sum += i));
      return sum;
    }),

  'COPY streams in': (url) =>
    withSql(url, async (sql) => {
      await sql`CREATE TABLE js_copy (a int, b text)`;
      const lines = Array.from({ length: 20_000 }, (_, i) => `${i}\trow ${i}\n`);
      await pipeline(Readable.from(lines), await sql`COPY js_copy FROM STDIN`.writable());
      return sql`SELECT count(*)::int, sum(a)::int, max(b) FROM js_copy`;
    }),

  'COPY streams out': (url) =>
    withSql(url, async (sql) => {
      let text = '';
      const copy = sql`COPY (SELECT i, repeat(i::text, 10) FROM generate_series(1, 20000) AS i) TO STDOUT`;
      for await (const chunk of await copy.readable()) text += chunk;
      const lines = text.trimEnd().split('\n');
      return { lines: lines.length, last: lines.at(-1) };
    }),

  'query.cancel()': (url) =>
    withSql(url, async (sql) => {
      const query = sql`SELECT pg_sleep(60)`;
      const code = codeOf(query);
      await whenRunning(sql, 'pg_sleep');
      await query.cancel();
      return { code: await code, after: await sql`SELECT 1 AS one` };
    }),

  listen: (url) =>
    withSql(url, async (sql) => {
      let hear;
      const heard = new Promise((resolve) => (hear = resolve));
      const { unlisten } = await sql.listen('news', hear);
      await sql.notify('news', 'größer');
      const payload = await heard;
      await unlisten();
      return payload;
    }),

  transactions: (url) =>
    withSql(url, async (sql) => {
      await sql`CREATE TABLE js_tx (a int)`;
      const undone = new Error('undone');
      await sql
        .begin(async (tx) => {
          await tx`INSERT INTO js_tx VALUES (1)`;
          throw undone;
        })
        .catch((error) => {
          if (error !== undone) throw error;
        });
      await sql.begin('ISOLATION LEVEL SERIALIZABLE', async (tx) => {
        await tx`INSERT INTO js_tx VALUES (2)`;
        await tx
          .savepoint(async (inner) => {
            await inner`INSERT INTO js_tx VALUES (3)`;
            throw undone;
          })
          .catch(() => {});
        await tx`INSERT INTO js_tx VALUES (4)`;
      });
      return sql`SELECT a FROM js_tx ORDER BY a`;
    }),

  'a worker and its result': (url) =>
    withSql(
      url,
      async (sql) => {
        const [{ pid }] = await sql`
          SELECT pg_background_launch(${'SELECT i, i * 1.5 FROM generate_series(1, 3) AS i'}) AS pid`;
        return sql`SELECT * FROM pg_background_result(${pid}) AS (x int, y numeric)`;
      },
      { max: 1 },
    ),

  "a worker's rows by cursor": (url) =>
    withSql(
      url,
      async (sql) => {
        const [{ pid }] =
          await sql`SELECT pg_background_launch('SELECT generate_series(1, 10)') AS pid`;
        const parts = [];
        for await (const rows of sql`SELECT * FROM pg_background_result(${pid}) AS (x int)`.cursor(
          4,
        ))
          parts.push(rows.map(({ x }) => x));
        return parts;
      },
      { max: 1 },
    ),

  'cancelled while it waits for a worker': (url) =>
    withSql(url, (other) =>
      withSql(
        url,
        async (sql) => {
          const [{ pid, cookie }] =
            await sql`SELECT * FROM pg_background_launch_v2('SELECT 42 FROM pg_sleep(60)')`;
          const query = sql`SELECT * FROM pg_background_result_v2(${pid}, ${cookie}) AS (x int)`;
          const first = codeOf(query);
          await whenRunning(other, 'result_v2');
          await query.cancel();
          const seen = { first: await first };
          await sql`SELECT pg_background_cancel_v2(${pid}, ${cookie})`;
          await sql`SELECT pg_background_wait_v2(${pid}, ${cookie})`;
          seen.second = await codeOf(
            sql`SELECT * FROM pg_background_result_v2(${pid}, ${cookie}) AS (x int)`,
          );
          return seen;
        },
        { max: 1 },
      ),
    ),
});
