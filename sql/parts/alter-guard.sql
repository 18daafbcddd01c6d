RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('B ', grant_token);
  IF EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE e.extname OPERATOR(pg_catalog.=) 'pg_background') THEN
    EXECUTE @original@;
    RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('T ', grant_token, ' ALTER EXTENSION');
    RETURN;
  END IF;
  -- Looked up in the catalogs, which everybody may read, and not by to_regclass().
  owner := (SELECT n.nspowner FROM pg_catalog.pg_namespace AS n, pg_catalog.pg_class AS c
             WHERE n.nspname OPERATOR(pg_catalog.=) 'pgbackground' AND c.relnamespace OPERATOR(pg_catalog.=) n.oid
               AND c.relname OPERATOR(pg_catalog.=) 'installation');
  IF owner IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'extension "pg_background" does not exist';
  END IF;
  IF NOT pg_catalog.pg_has_role(owner, 'USAGE') THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'must be owner of extension pg_background';
  END IF;
  -- What follows calls functions of the extension: a lesser owner could have put anything there.
  IF EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER AND r.rolsuper)
     AND EXISTS (SELECT FROM pg_catalog.pg_roles AS r
                  WHERE NOT r.rolsuper AND (r.oid OPERATOR(pg_catalog.=) owner
                    OR EXISTS (SELECT FROM pg_catalog.pg_proc AS p WHERE p.pronamespace OPERATOR(pg_catalog.=) 'pgbackground'::pg_catalog.regnamespace AND p.proowner OPERATOR(pg_catalog.=) r.oid)
                    OR EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relnamespace OPERATOR(pg_catalog.=) 'pgbackground'::pg_catalog.regnamespace AND c.relowner OPERATOR(pg_catalog.=) r.oid))) THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'pg_background is not trusted for superusers in this database',
      DETAIL = 'Its objects belong to a role that is no superuser.',
      HINT = 'Let its owner alter it, or drop and create it.';
  END IF;
