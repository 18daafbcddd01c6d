-- Nothing is granted to PUBLIC. Who may use the API is said with GRANT pgbackground_executor TO ...
-- or with the two helpers below.

-- The schema may have been renamed since, or another been set: the signing view knows its functions.
CREATE FUNCTION pgbackground.api_schema()
RETURNS pg_catalog.text LANGUAGE plpgsql STABLE AS $function$
#variable_conflict use_variable
BEGIN
  RETURN (@api_schema@);
END
$function$;
COMMENT ON FUNCTION pgbackground.api_schema() IS 'Gives the name of the schema in which the API is.';

CREATE FUNCTION pgbackground.privileges()
RETURNS pg_catalog.text[] LANGUAGE plpgsql STABLE AS $function$
#variable_conflict use_variable
DECLARE
  schema_name CONSTANT pg_catalog.text := pgbackground.api_schema();
BEGIN
  RETURN ARRAY(SELECT pg_catalog.format(g.template, schema_name)
                 FROM pg_catalog.unnest(ARRAY[@grantables@]) WITH ORDINALITY AS g(template, place) ORDER BY g.place);
END
$function$;
COMMENT ON FUNCTION pgbackground.privileges() IS 'Gives what a user of the API needs, as it stands between GRANT and TO.';

CREATE FUNCTION pgbackground.change_privileges(template pg_catalog.text, failure pg_catalog.text, user_name pg_catalog.text, print_commands boolean)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
DECLARE
  command   pg_catalog.text;
  privilege pg_catalog.text;
BEGIN
  IF pg_catalog.lower(user_name) OPERATOR(pg_catalog.=) 'public' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_grant_operation', MESSAGE = 'pg_background is not granted to PUBLIC';
  END IF;
  FOREACH privilege IN ARRAY pgbackground.privileges() LOOP
    command := pg_catalog.format(template, privilege, user_name);
    EXECUTE command;
    IF print_commands THEN
      RAISE INFO 'Executed command: %', command;
    END IF;
  END LOOP;
  RETURN true;
EXCEPTION WHEN OTHERS THEN
  RAISE NOTICE '% %: %', failure, user_name, SQLERRM;
  RETURN false;
END
$function$;
COMMENT ON FUNCTION pgbackground.change_privileges(pg_catalog.text, pg_catalog.text, pg_catalog.text, boolean) IS
  'What the two helpers below share.';

CREATE FUNCTION __extschema__.grant_pg_background_privileges(user_name pg_catalog.text, print_commands boolean DEFAULT false)
RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_variable
BEGIN
  RETURN pgbackground.change_privileges('GRANT %s TO %I', 'Error granting pg_background privileges to', user_name, print_commands);
END
$function$;
COMMENT ON FUNCTION __extschema__.grant_pg_background_privileges(pg_catalog.text, boolean) IS
  'Lets a role use pg_background; false, with a NOTICE, when that fails.';

CREATE FUNCTION __extschema__.revoke_pg_background_privileges(user_name pg_catalog.text, print_commands boolean DEFAULT false)
RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_variable
BEGIN
  RETURN pgbackground.change_privileges('REVOKE %s FROM %I', 'Error revoking pg_background privileges from', user_name, print_commands);
END
$function$;
COMMENT ON FUNCTION __extschema__.revoke_pg_background_privileges(pg_catalog.text, boolean) IS
  'Takes from a role what grant_pg_background_privileges gave it; false, with a NOTICE, when that fails.';

CREATE FUNCTION __extschema__.pg_background_drop_executor_role()
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_variable
DECLARE
  privilege pg_catalog.text;
BEGIN
  FOREACH privilege IN ARRAY pgbackground.privileges() LOOP
    EXECUTE pg_catalog.format('REVOKE %s FROM pgbackground_executor', privilege);
  END LOOP;
  DROP ROLE pgbackground_executor;
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_drop_executor_role() IS
  'Drops the role pgbackground_executor, after revoking what it has in this database.';
