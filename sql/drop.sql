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
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace AS n, pg_catalog.pg_class AS c
                  WHERE n.nspname OPERATOR(pg_catalog.=) 'pgbackground' AND c.relnamespace OPERATOR(pg_catalog.=) n.oid
                    AND c.relname OPERATOR(pg_catalog.=) 'free_signature') THEN
    IF NOT @if_exists@ THEN
      RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'extension "pg_background" does not exist';
    END IF;
    RAISE NOTICE USING MESSAGE = 'extension "pg_background" does not exist, skipping';
  ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace AS n
                     WHERE n.nspname OPERATOR(pg_catalog.=) 'pgbackground' AND pg_catalog.pg_has_role(n.nspowner, 'USAGE')) THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'must be owner of extension pg_background';
  ELSE
    -- Not pgbackground.api_schema(): whoever drops it need not trust its owner.
    target := pg_catalog.quote_ident((@api_schema@));
    DROP VIEW pgbackground.free_signature, pgbackground.bound_signature, pgbackground.visible_calls;
    @statements@
    PERFORM pg_catalog.set_config('client_min_messages', 'warning', true);
    DROP SCHEMA pgbackground CASCADE;
    PERFORM pg_catalog.set_config('client_min_messages', messages, true);
  END IF;
  @others@
  RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('T ', grant_token, ' DROP EXTENSION');
END
$pgbg_drop$
