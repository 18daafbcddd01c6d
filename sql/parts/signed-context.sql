i.key_id,
      pg_catalog.pg_backend_pid(),
      pg_catalog.floor(EXTRACT(epoch FROM pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000000)::bigint,
      pg_catalog.encode(pg_catalog.convert_to(CURRENT_USER::pg_catalog.text, pg_catalog.getdatabaseencoding()), 'hex'),
      pg_catalog.to_regrole(pg_catalog.quote_ident(CURRENT_USER))::pg_catalog.oid,
      -- One letter for each function of the API, t where the current role may execute it.
      pg_catalog.concat(@privileges@),
      pg_catalog.current_setting('pgbg_proxy.session')
