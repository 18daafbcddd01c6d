SELECT n.nspname
    FROM pg_catalog.pg_rewrite AS r, pg_catalog.pg_depend AS d, pg_catalog.pg_proc AS p, pg_catalog.pg_namespace AS n
   WHERE r.ev_class OPERATOR(pg_catalog.=) 'pgbackground.free_signature'::pg_catalog.regclass
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) r.oid
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) p.oid
     AND p.proname OPERATOR(pg_catalog.=) 'pg_background_launch' AND n.oid OPERATOR(pg_catalog.=) p.pronamespace
