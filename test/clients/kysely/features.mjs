import { Kysely, PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import Cursor from 'pg-cursor';
import { codeOf, run } from '../feature-runner.mjs';

async function withDatabase(connectionString, work) {
  const pool = new pg.Pool({ connectionString, max: 3 });
  const db = new Kysely({ dialect: new PostgresDialect({ pool, cursor: Cursor }) });
  try {
    return await work(db);
  } finally {
    await db.destroy();
  }
}

async function createPets(db, table) {
  await db.schema
    .createTable(table)
    .addColumn('id', 'serial', (column) => column.primaryKey())
    .addColumn('name', 'text', (column) => column.notNull().unique())
    .execute();
}

await run({
  'schema and queries': (url) =>
    withDatabase(url, async (db) => {
      await createPets(db, 'k_pets');
      const inserted = await db
        .insertInto('k_pets')
        .values([{ name: 'größer' }, { name: 'Rex' }])
        .returning('id')
        .execute();
      const { numUpdatedRows } = await db
        .updateTable('k_pets')
        .set({ name: 'Max' })
        .where('name', '=', 'Rex')
        .executeTakeFirstOrThrow();
      const names = await db.selectFrom('k_pets').select('name').orderBy('id').execute();
      const tables = await db.introspection.getTables();
      return {
        inserted,
        updated: Number(numUpdatedRows),
        names,
        isThere: tables.some(({ name }) => name === 'k_pets'),
      };
    }),

  transactions: (url) =>
    withDatabase(url, async (db) => {
      await createPets(db, 'k_tx');
      await db
        .transaction()
        .setIsolationLevel('serializable')
        .execute((tx) => tx.insertInto('k_tx').values({ name: 'kept' }).execute());
      const code = await codeOf(
        db.transaction().execute(async (tx) => {
          await tx.insertInto('k_tx').values({ name: 'undone' }).execute();
          await tx.insertInto('k_tx').values({ name: 'kept' }).execute();
        }),
      );
      const names = await db.selectFrom('k_tx').select('name').execute();
      return { code, names };
    }),

  'streaming with pg-cursor': (url) =>
    withDatabase(url, async (db) => {
      const numbers = sql`SELECT i FROM generate_series(1, 2000) AS i`;
      let sum = 0;
      const rows = db.selectFrom(sql`(${numbers})`.as('numbers')).select(sql`i`.as('i'));
      for await (const { i } of rows.stream(100)) sum += i;
      let seen = 0;
      for await (const { i } of rows.stream(10)) {
        seen = i;
        if (i === 25) break;
      }
      return { sum, seen };
    }),

  'a worker and its result': (url) =>
    withDatabase(url, (db) =>
      db.connection().execute(async (one) => {
        const { rows } = await sql`
          SELECT pg_background_launch(${'SELECT i, i * 1.5 FROM generate_series(1, 3) AS i'}) AS pid
        `.execute(one);
        const result = sql`pg_background_result(${rows[0].pid})`;
        return (await sql`SELECT * FROM ${result} AS (x int, y numeric)`.execute(one)).rows;
      }),
    ),

  'a worker that outlives a rollback': (url) =>
    withDatabase(url, async (db) => {
      await createPets(db, 'k_log');
      const undone = new Error('undone');
      await db
        .transaction()
        .execute(async (tx) => {
          await sql`SELECT * FROM pg_background_result(pg_background_launch(
            ${`INSERT INTO k_log (name) VALUES ('logged')`})) AS (result text)`.execute(tx);
          throw undone;
        })
        .catch((error) => {
          if (error !== undone) throw error;
        });
      return db.selectFrom('k_log').select('name').execute();
    }),
});
