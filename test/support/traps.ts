/**
 * Schemas full of traps, for a search_path that names one of them before pg_catalog: whoever means
 * the server's own function, operator, type or table without saying so gets one that fails.
 */

/** A function of the server that takes anything, and always fails. */
const TRAP = `LANGUAGE internal AS 'shell_in'`;

/** The SQLSTATE and message of a trap. */
export const CAUGHT = { code: '0A000', message: 'cannot accept a value of a shell type' };

/** SQL of a superuser that sets the traps; the extension must be there, for it is what they are made for. */
export const CREATE_TRAPS = `
CREATE SCHEMA trap_functions;
CREATE SCHEMA trap_operators;
CREATE SCHEMA trap_types;
CREATE SCHEMA trap_tables;
GRANT USAGE ON SCHEMA trap_functions, trap_operators, trap_types, trap_tables TO PUBLIC;

-- What the text of some function of the extension may name.
CREATE TEMP TABLE word AS
  SELECT DISTINCT w[1] AS word FROM pg_proc, regexp_matches(prosrc, '\\w+', 'g') AS w
   WHERE pronamespace IN ('pgbackground'::regnamespace, 'public'::regnamespace);

DO $$
DECLARE
  it record;
BEGIN
  FOR it IN
    SELECT p.proname AS name, pg_get_function_identity_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
      FROM pg_proc p JOIN word ON p.proname = word.word
     WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f'
  LOOP
    EXECUTE format('CREATE FUNCTION trap_functions.%I(%s) RETURNS %s ${TRAP.replaceAll("'", "''")}',
      it.name, it.arguments, it.result);
  END LOOP;

  FOR it IN
    SELECT o.oid, o.oprname AS name, o.oprleft::regtype AS lefttype, o.oprright::regtype AS righttype, o.oprresult::regtype AS result
      FROM pg_operator o
     WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b'
       AND o.oprleft::regtype::text IN ('text', 'name', 'integer', 'bigint', 'oid', 'boolean', 'bytea', 'json', 'jsonb',
             'double precision', 'numeric', 'anyarray', 'anycompatiblearray', 'timestamp with time zone', 'interval')
  LOOP
    EXECUTE format('CREATE FUNCTION trap_operators.%I(%s, %s) RETURNS %s ${TRAP.replaceAll("'", "''")}',
      'trap_' || it.oid, it.lefttype, it.righttype, it.result);
    EXECUTE format('CREATE OPERATOR trap_operators.%s (FUNCTION = trap_operators.%I, LEFTARG = %s, RIGHTARG = %s)',
      it.name, 'trap_' || it.oid, it.lefttype, it.righttype);
  END LOOP;

  FOR it IN
    SELECT t.typname AS name FROM pg_type t JOIN word ON t.typname = word.word
     WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b'
  LOOP
    EXECUTE format('CREATE DOMAIN trap_types.%I AS macaddr CHECK (false)', it.name);
  END LOOP;

  FOR it IN
    SELECT c.relname AS name FROM pg_class c
     WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v')
  LOOP
    EXECUTE format('CREATE TABLE trap_tables.%I (caught int)', it.name);
  END LOOP;
END $$`;
