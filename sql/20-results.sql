-- How rows get from the proxy into a function that returns SETOF record. PL/pgSQL cannot see the
-- column definition list of its caller, so it is probed: an empty RETURN QUERY with the wrong types
-- fails, and the DETAIL of that failure names the type that was expected.

CREATE FUNCTION pgbackground.wrong_type()
RETURNS SETOF record LANGUAGE plpgsql STABLE AS $function$
BEGIN
  RETURN QUERY SELECT NULL::pg_catalog.macaddr8 WHERE false;
END
$function$;
COMMENT ON FUNCTION pgbackground.wrong_type() IS 'Fails when it is called AS (a pg_lsn): shows how this server words that.';

CREATE FUNCTION pgbackground.type_name(type_oid pg_catalog.oid)
RETURNS pg_catalog.text LANGUAGE plpgsql STABLE AS $function$
#variable_conflict use_variable
BEGIN
  -- Pseudo-types (void, record) cannot be columns: their text form can.
  IF EXISTS (SELECT FROM pg_catalog.pg_type AS t
              WHERE t.oid OPERATOR(pg_catalog.=) type_oid AND t.typtype OPERATOR(pg_catalog.<>) 'p'::pg_catalog."char") THEN
    RETURN pg_catalog.format_type(type_oid, -1);
  END IF;
  RETURN 'text';
END
$function$;
COMMENT ON FUNCTION pgbackground.type_name(pg_catalog.oid) IS 'Gives the name of a type as it can stand in a cast.';

CREATE FUNCTION pgbackground.type_names(type_oids pg_catalog.json)
RETURNS pg_catalog.text[] LANGUAGE plpgsql STABLE AS $function$
#variable_conflict use_variable
BEGIN
  RETURN ARRAY(SELECT pgbackground.type_name(o.value::pg_catalog.oid)
                 FROM pg_catalog.json_array_elements_text(type_oids) WITH ORDINALITY AS o(value, place) ORDER BY o.place);
END
$function$;
COMMENT ON FUNCTION pgbackground.type_names(pg_catalog.json) IS 'Gives the names of the types of a result.';

CREATE FUNCTION pgbackground.probe(types pg_catalog.text[])
RETURNS pg_catalog.text LANGUAGE plpgsql STABLE AS $function$
#variable_conflict use_variable
BEGIN
  RETURN (SELECT pg_catalog.concat('SELECT ', pg_catalog.string_agg(pg_catalog.concat('NULL::', t.name), ', ' ORDER BY t.place), ' WHERE false')
            FROM pg_catalog.unnest(types) WITH ORDINALITY AS t(name, place));
END
$function$;
COMMENT ON FUNCTION pgbackground.probe(pg_catalog.text[]) IS 'Gives an empty query with columns of these types.';

-- From the types that were tried and the complaint about them: the types to try next. Raises 42804
-- when the caller's list cannot be served. A list of fewer columns is served where may_be_shorter is true.
CREATE FUNCTION pgbackground.adopt(type_oids pg_catalog.json, tried pg_catalog.text[], complaint pg_catalog.text,
                                   may_be_shorter boolean, refusal pg_catalog.text)
RETURNS pg_catalog.text[] LANGUAGE plpgsql STABLE AS $function$
#variable_conflict use_variable
DECLARE
  sample   pg_catalog.text;
  middle   pg_catalog.text;
  ending   pg_catalog.text;
  expected pg_catalog.text;
  place    integer;
  actual   pg_catalog.oid;
BEGIN
  BEGIN
    PERFORM FROM pgbackground.wrong_type() AS (a pg_catalog.pg_lsn);
  EXCEPTION WHEN datatype_mismatch THEN
    GET STACKED DIAGNOSTICS sample = PG_EXCEPTION_DETAIL;
  END;
  -- What stands between the two types and behind the second, in this server's language.
  middle := pg_catalog.substring(sample, 'macaddr8(.*?)(?:pg_catalog[.])?pg_lsn');
  ending := pg_catalog.substring(sample, 'pg_lsn([^0-9"]*)');
  place := pg_catalog.substring(complaint, '([0-9]+)[^0-9]*$');
  IF pg_catalog.strpos(complaint, middle) OPERATOR(pg_catalog.>) 0 AND pg_catalog.strpos(complaint, ending) OPERATOR(pg_catalog.>) 0 THEN
    expected := pg_catalog.split_part(pg_catalog.split_part(complaint, middle, 2), ending, 1);
    actual := (SELECT o.value::pg_catalog.oid FROM pg_catalog.json_array_elements_text(type_oids) WITH ORDINALITY AS o(value, n)
                WHERE o.n OPERATOR(pg_catalog.=) place);
    IF pg_catalog.to_regtype(expected)::pg_catalog.oid OPERATOR(pg_catalog.=) actual THEN
      tried[place] := expected;
      RETURN tried;
    ELSIF pg_catalog.to_regtype(expected)::pg_catalog.oid OPERATOR(pg_catalog.=) 'pg_catalog.text'::pg_catalog.regtype::pg_catalog.oid THEN
      -- Whoever reads one column as text often reads all so: each guess costs a look at all columns.
      RETURN tried[1:place OPERATOR(pg_catalog.-) 1] OPERATOR(pg_catalog.||)
        pg_catalog.array_fill(expected, ARRAY[pg_catalog.cardinality(tried) OPERATOR(pg_catalog.-) place OPERATOR(pg_catalog.+) 1]);
    END IF;
  ELSIF may_be_shorter AND place OPERATOR(pg_catalog.<) pg_catalog.cardinality(tried) THEN
    -- The other complaint names the number of columns that was expected.
    RETURN tried[1:place];
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = refusal;
END
$function$;
COMMENT ON FUNCTION pgbackground.adopt(pg_catalog.json, pg_catalog.text[], pg_catalog.text, boolean, pg_catalog.text) IS
  'Learns one type of the caller''s column definition list from an error about it.';

-- $1: columns as array literals, $2: number of chunks, $3: transfer key. Values come as text and
-- go through the input function of their type.
CREATE FUNCTION pgbackground.rows_query(types pg_catalog.text[], through_table boolean)
RETURNS pg_catalog.text LANGUAGE plpgsql STABLE AS $function$
#variable_conflict use_variable
DECLARE
  type    pg_catalog.text;
  outputs pg_catalog.text[];
  sources pg_catalog.text[];
  names   pg_catalog.text[];
BEGIN
  FOR place IN 1 .. pg_catalog.cardinality(types) LOOP
    type := types[place];
    names[place] := pg_catalog.concat('c', place);
    IF type OPERATOR(pg_catalog.~) '^(character varying|character|bit varying|bit)[(]' THEN
      -- An explicit cast would cut a value that is too long; an input function refuses it.
      outputs[place] := pg_catalog.concat('(SELECT j.v FROM pg_catalog.json_to_record(pg_catalog.json_build_object(''v'', u.c',
        place, ')) AS j(v ', type, '))');
    ELSE
      outputs[place] := pg_catalog.concat('u.c', place, '::', type);
    END IF;
    IF through_table THEN
      sources[place] := pg_catalog.concat('pg_catalog.unnest(pgbackground.transfer_take($3, g.n, ', place, '))');
    ELSE
      sources[place] := pg_catalog.concat('pg_catalog.unnest(($1[', place, '])::pg_catalog.text[])');
    END IF;
  END LOOP;
  RETURN pg_catalog.concat('SELECT ', pg_catalog.array_to_string(outputs, ', '), ' FROM ',
    CASE WHEN through_table THEN 'pg_catalog.generate_series(1, $2) AS g(n), ' END,
    'ROWS FROM (', pg_catalog.array_to_string(sources, ', '), ') AS u(', pg_catalog.array_to_string(names, ', '), ')');
END
$function$;
COMMENT ON FUNCTION pgbackground.rows_query(pg_catalog.text[], boolean) IS 'Gives the query that turns a transfer into rows.';

CREATE FUNCTION pgbackground.take(verb pg_catalog.text, pid integer, cookie bigint)
RETURNS pg_catalog.json LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
BEGIN
  -- Rows that another session has just stored are visible only where each statement has a snapshot
  -- of its own, and can be stored only on a primary.
  RETURN pgbackground.call(verb, pg_catalog.json_build_object('step', 'take', 'pid', pid, 'cookie', cookie::pg_catalog.text,
    'throughTable', pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.~) '^read'
      AND NOT pg_catalog.pg_is_in_recovery()));
END
$function$;
COMMENT ON FUNCTION pgbackground.take(pg_catalog.text, integer, bigint) IS 'Fetches a result that is too large to come with its description.';

-- Puts on the settings under which the worker wrote its values, and gives the ones that were there and differ.
CREATE FUNCTION pgbackground.use_formats(formats pg_catalog.json)
RETURNS pg_catalog.json LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
DECLARE
  before pg_catalog.json;
BEGIN
  IF formats IS NULL THEN
    RETURN NULL;
  END IF;
  before := (SELECT pg_catalog.json_object_agg(f.key, pg_catalog.current_setting(f.key))
               FROM pg_catalog.json_each_text(formats) AS f
              WHERE pg_catalog.current_setting(f.key) OPERATOR(pg_catalog.<>) f.value);
  IF before IS NOT NULL THEN
    PERFORM pg_catalog.set_config(f.key, f.value, true) FROM pg_catalog.json_each_text(formats) AS f;
  END IF;
  RETURN before;
END
$function$;
COMMENT ON FUNCTION pgbackground.use_formats(pg_catalog.json) IS 'Changes DateStyle and its like for the rest of the transaction.';
