import type { TestClient } from '../support/proxy.ts';

/** Makes what the scripts use: all of it stays as it is, whatever they do. */
export async function createFixtures(client: TestClient): Promise<void> {
  await client.query(`
    CREATE TABLE people (id int PRIMARY KEY, name text, note bytea);
    INSERT INTO people VALUES (1, 'Ada', '\\x00ff'), (2, 'Grace', NULL), (3, '', '\\x'), (4, NULL, '\\x0a');
    CREATE TABLE numbers AS SELECT n FROM generate_series(1, 1000) AS n;
    CREATE TABLE target (a int, b text);
    CREATE TABLE child (id int, parent int REFERENCES people DEFERRABLE INITIALLY DEFERRED);
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE FUNCTION noisy(n int) RETURNS int LANGUAGE plpgsql AS
      $$ BEGIN RAISE NOTICE 'row %', n USING DETAIL = 'a detail', HINT = 'a hint'; RETURN n; END $$;
    CREATE FUNCTION fails_at(n int, limit_ int) RETURNS int LANGUAGE plpgsql AS
      $$ BEGIN IF n >= limit_ THEN RAISE EXCEPTION 'failed at %', n USING ERRCODE = 'XX123'; END IF; RETURN n; END $$;
    CREATE FUNCTION says_nothing() RETURNS void LANGUAGE sql AS '';
    CREATE PROCEDURE gives_back(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN n := n + 1; END $$;
    CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN COMMIT; RAISE NOTICE 'committed'; END $$;
    CREATE VIEW everybody AS SELECT * FROM people;
  `);
}
