-- Rows can go past this function, to the client, where the statement is sure to call this very function.
  GET DIAGNOSTICS stack = PG_CONTEXT;
  description := pgbackground.call(verb, pg_catalog.json_build_object('step', 'describe', 'pid', pid, 'cookie', cookie::pg_catalog.text,
    'isDirect', pg_catalog.strpos(stack, pg_catalog.chr(10)) OPERATOR(pg_catalog.=) 0 AND pgbackground.is_visible(verb),
    'statement', pgbackground.statement(),
    'extraFloatDigits', pg_catalog.current_setting('extra_float_digits')));
  IF description OPERATOR(pg_catalog.->) 'later' IS NOT NULL THEN
    RETURN;
  END IF;
  IF description OPERATOR(pg_catalog.->) 'isStreamed' IS NOT NULL THEN
    RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('F ', description OPERATOR(pg_catalog.->>) 'receipt');
    RETURN;
  END IF;
  type_oids := description OPERATOR(pg_catalog.->) 'types';
  types := pgbackground.type_names(type_oids);
  refusal := COALESCE(description OPERATOR(pg_catalog.->>) 'refusal',
    'remote query result rowtype does not match the specified FROM clause rowtype');
  @probe_loop@
  -- The types are right. A small result came with them; a large one is fetched now.
  reply := description;
  IF reply OPERATOR(pg_catalog.->) 'formats' IS NULL THEN
    reply := pgbackground.take(verb, pid, cookie);
  END IF;
  PERFORM pgbackground.raise_notices(reply OPERATOR(pg_catalog.->) 'notices');
  formats := pgbackground.use_formats(reply OPERATOR(pg_catalog.->) 'formats');
  RETURN QUERY EXECUTE pgbackground.rows_query(types, (reply OPERATOR(pg_catalog.->>) 'transfer') IS NOT NULL)
    USING ARRAY(SELECT c.vals FROM pg_catalog.json_array_elements_text(reply OPERATOR(pg_catalog.->) 'columns') WITH ORDINALITY AS c(vals, n) ORDER BY c.n),
          (reply OPERATOR(pg_catalog.->>) 'chunks')::integer, (reply OPERATOR(pg_catalog.->>) 'transfer')::pg_catalog.uuid;
  GET DIAGNOSTICS row_count = ROW_COUNT;
  IF row_count OPERATOR(pg_catalog.<>) (reply OPERATOR(pg_catalog.->>) 'rowCount')::bigint THEN
    RAISE EXCEPTION USING ERRCODE = 'internal_error', MESSAGE = 'rows of a background worker were lost on their way';
  END IF;
  PERFORM pgbackground.use_formats(formats);
  -- Only now is the result consumed: an error on the way here has destroyed nothing.
  RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('F ', reply OPERATOR(pg_catalog.->>) 'receipt');
