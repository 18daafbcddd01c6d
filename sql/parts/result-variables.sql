description pg_catalog.json;
  types       pg_catalog.text[];
  complaint   pg_catalog.text;
  reply       pg_catalog.json;
  formats     pg_catalog.json;
