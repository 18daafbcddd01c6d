-- CREATE EXTENSION pg_background, as the proxy sends it. @...@ are filled in by src/install.ts.
DO $pgbg_install$
#variable_conflict use_variable
DECLARE
  grant_token pg_catalog.text := @grant_token@;
  target      pg_catalog.text := @schema@;
  version     pg_catalog.text := @version@;
  path        pg_catalog.text := pg_catalog.current_setting('search_path');
  role_name   pg_catalog.text;
  privilege   pg_catalog.text;
  material    pg_catalog.json;
  plan_mode   pg_catalog.text;
BEGIN
  RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('B ', grant_token);
  IF EXISTS (SELECT FROM pg_catalog.pg_available_extensions() AS e WHERE e.name OPERATOR(pg_catalog.=) 'pg_background') THEN
    EXECUTE @original@;
    RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('T ', grant_token, ' CREATE EXTENSION');
    RETURN;
  END IF;
  IF EXISTS (SELECT FROM pg_catalog.pg_namespace AS n, pg_catalog.pg_class AS c
              WHERE n.nspname OPERATOR(pg_catalog.=) 'pgbackground' AND c.relnamespace OPERATOR(pg_catalog.=) n.oid
                AND c.relname OPERATOR(pg_catalog.=) 'installation') THEN
    IF NOT @if_not_exists@ THEN
      RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = 'extension "pg_background" already exists';
    END IF;
    RAISE NOTICE USING ERRCODE = 'duplicate_object', MESSAGE = 'extension "pg_background" already exists, skipping';
    RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('T ', grant_token, ' CREATE EXTENSION');
    RETURN;
  END IF;
  IF version OPERATOR(pg_catalog.!~) '^1[.][4-8]$' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = pg_catalog.format(
      'extension "pg_background" has no installation script nor update path for version "%s"', version);
  END IF;
  IF target IS NULL THEN
    target := pg_catalog.current_schema();
    IF target IS NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'invalid_schema_name', MESSAGE = 'no schema has been selected to create in';
    END IF;
  ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace AS n WHERE n.nspname OPERATOR(pg_catalog.=) target) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_schema_name', MESSAGE = pg_catalog.format('schema "%s" does not exist', target);
  END IF;
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  target := pg_catalog.quote_ident(target);
  @statements@

  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) 'pgbackground_executor') THEN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles AS r
                WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER AND (r.rolsuper OR r.rolcreaterole)) THEN
      CREATE ROLE pgbackground_executor NOLOGIN;
    ELSE
      RAISE NOTICE USING MESSAGE = 'role "pgbackground_executor" was not created: this role may not create roles',
        HINT = 'CREATE ROLE pgbackground_executor NOLOGIN; SELECT grant_pg_background_privileges(''pgbackground_executor'');';
    END IF;
  END IF;
  FOR role_name IN SELECT r.rolname FROM pg_catalog.pg_roles AS r
                    WHERE r.rolname OPERATOR(pg_catalog.=) 'pgbackground_executor' OR r.rolname OPERATOR(pg_catalog.=) 'pgbackground_role' LOOP
    FOREACH privilege IN ARRAY pgbackground.privileges() LOOP
      EXECUTE pg_catalog.format('GRANT %s TO %I', privilege, role_name);
    END LOOP;
  END LOOP;
  material := pgbackground.call('key', '{}', grant_token);
  -- A generic plan has no constants: plans may be logged.
  plan_mode := pg_catalog.current_setting('plan_cache_mode');
  PERFORM pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true);
  INSERT INTO pgbackground.installation (key_id, inner_key, outer_key)
  VALUES ((material OPERATOR(pg_catalog.->>) 'keyId')::pg_catalog.uuid,
          pg_catalog.decode(material OPERATOR(pg_catalog.->>) 'innerKey', 'hex'),
          pg_catalog.decode(material OPERATOR(pg_catalog.->>) 'outerKey', 'hex'));
  PERFORM pg_catalog.set_config('plan_cache_mode', plan_mode, true);
  @store_key@
  PERFORM pg_catalog.set_config('search_path', path, true);
  RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('T ', grant_token, ' CREATE EXTENSION');
END
$pgbg_install$
