-- ALTER EXTENSION pg_background UPDATE, as the proxy sends it. @...@ are filled in by src/install.ts.
-- It writes a new key: that of a restored or cloned database is good for nothing.
DO $pgbg_update$
#variable_conflict use_variable
DECLARE
  grant_token pg_catalog.text := @grant_token@;
  version     pg_catalog.text := @version@;
  owner       pg_catalog.oid;
  material    pg_catalog.json;
  plan_mode   pg_catalog.text;
BEGIN
  @alter_guard@
  IF version OPERATOR(pg_catalog.<>) @own_version@ THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = pg_catalog.concat(
      'extension "pg_background" has no update path from version "', @own_version@, '" to version "', version, '"');
  END IF;
  material := pgbackground.call('key', '{}', grant_token);
  -- A generic plan has no constants: plans may be logged.
  plan_mode := pg_catalog.current_setting('plan_cache_mode');
  PERFORM pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true);
  UPDATE pgbackground.installation AS i SET
    key_id    = (material OPERATOR(pg_catalog.->>) 'keyId')::pg_catalog.uuid,
    inner_key = pg_catalog.decode(material OPERATOR(pg_catalog.->>) 'innerKey', 'hex'),
    outer_key = pg_catalog.decode(material OPERATOR(pg_catalog.->>) 'outerKey', 'hex');
  PERFORM pg_catalog.set_config('plan_cache_mode', plan_mode, true);
  @store_key@
  RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('T ', grant_token, ' ALTER EXTENSION');
END
$pgbg_update$
