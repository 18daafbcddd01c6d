-- ALTER EXTENSION pg_background SET SCHEMA, as the proxy sends it. @...@ are filled in by src/install.ts.
DO $pgbg_set_schema$
#variable_conflict use_variable
DECLARE
  grant_token pg_catalog.text := @grant_token@;
  target      pg_catalog.text := @schema@;
  owner       pg_catalog.oid;
  source      pg_catalog.text;
  object      pg_catalog.text;
BEGIN
  @alter_guard@
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace AS n WHERE n.nspname OPERATOR(pg_catalog.=) target) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_schema_name', MESSAGE = pg_catalog.format('schema "%s" does not exist', target);
  END IF;
  source := pgbackground.api_schema();
  IF source OPERATOR(pg_catalog.<>) target THEN
    FOREACH object IN ARRAY ARRAY[@objects@] LOOP
      EXECUTE pg_catalog.format(pg_catalog.concat('ALTER ', object, ' SET SCHEMA %2$I'), source, target);
    END LOOP;
  END IF;
  RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('T ', grant_token, ' ALTER EXTENSION');
END
$pgbg_set_schema$
