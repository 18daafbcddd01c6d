-- Everybody may read a comment: it tells the proxy which key is in force here.
  EXECUTE pg_catalog.format('COMMENT ON SCHEMA pgbackground IS %L',
    pg_catalog.concat('pg_background, private part; key ', material OPERATOR(pg_catalog.->>) 'keyId'));
