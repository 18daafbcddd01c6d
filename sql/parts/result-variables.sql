may_be_shorter CONSTANT boolean := false;
  type_oids   pg_catalog.json;
  types       pg_catalog.text[];
  refusal     pg_catalog.text;
  complaint   pg_catalog.text;
  description pg_catalog.json;
  reply       pg_catalog.json;
  formats     pg_catalog.json;
  row_count   bigint;
