-- DROP EXTENSION pg_background, as the proxy sends it. @...@ are filled in by src/install.ts.
DO $pgbg_drop$
#variable_conflict use_variable
DECLARE
  grant_token pg_catalog.text := @grant_token@;
  messages    pg_catalog.text := pg_catalog.current_setting('client_min_messages');
  target      pg_catalog.text;
BEGIN
  RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('B ', grant_token);
  IF EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE e.extname OPERATOR(pg_catalog.=) 'pg_background') THEN
    EXECUTE @original@;
    RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('T ', grant_token, ' DROP EXTENSION');
    RETURN;
  END IF;
  IF pg_catalog.to_regclass('pgbackground.free_signature') IS NULL THEN
    IF NOT @if_exists@ THEN
      RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'extension "pg_background" does not exist';
    END IF;
    RAISE NOTICE USING MESSAGE = 'extension "pg_background" does not exist, skipping';
  ELSE
    -- The schema of the API may have been renamed since: the signing view knows its functions.
    target := (SELECT pg_catalog.quote_ident(n.nspname)
                 FROM pg_catalog.pg_rewrite AS r, pg_catalog.pg_depend AS d, pg_catalog.pg_proc AS p, pg_catalog.pg_namespace AS n
                WHERE r.ev_class OPERATOR(pg_catalog.=) 'pgbackground.free_signature'::pg_catalog.regclass
                  AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) r.oid
                  AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) p.oid
                  AND p.proname OPERATOR(pg_catalog.=) 'pg_background_launch' AND n.oid OPERATOR(pg_catalog.=) p.pronamespace);
    DROP VIEW pgbackground.free_signature, pgbackground.bound_signature;
    @statements@
    PERFORM pg_catalog.set_config('client_min_messages', 'warning', true);
    DROP SCHEMA pgbackground CASCADE;
    PERFORM pg_catalog.set_config('client_min_messages', messages, true);
  END IF;
  @others@
  RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('T ', grant_token, ' DROP EXTENSION');
END
$pgbg_drop$
