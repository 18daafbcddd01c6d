-- The API of pg_background. __extschema__ stands for the schema that CREATE EXTENSION chose.
-- The functions are SECURITY INVOKER and have no SET clause: a worker inherits the settings that
-- are in effect where the function is called.

CREATE TYPE __extschema__.pg_background_handle AS (pid integer, cookie bigint);
COMMENT ON TYPE __extschema__.pg_background_handle IS 'A background worker: its process ID and a cookie that tells it from later ones with the same ID.';

CREATE TYPE __extschema__.pg_background_stats AS (
  workers_launched bigint, workers_completed bigint, workers_failed bigint, workers_canceled bigint,
  workers_active integer, avg_execution_ms double precision, max_workers integer);
COMMENT ON TYPE __extschema__.pg_background_stats IS 'What became of the background workers of this session.';

CREATE TYPE __extschema__.pg_background_progress AS (progress_pct integer, progress_msg pg_catalog.text);
COMMENT ON TYPE __extschema__.pg_background_progress IS 'How far a background worker says it is.';

CREATE FUNCTION __extschema__.pg_background_launch(sql pg_catalog.text, queue_size pg_catalog.int4 DEFAULT 0)
RETURNS pg_catalog.int4 LANGUAGE plpgsql VOLATILE STRICT AS $function$
#variable_conflict use_variable
BEGIN
  RETURN pgbackground.launch('pg_background_launch', sql, queue_size) OPERATOR(pg_catalog.->>) 'pid';
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_launch(pg_catalog.text, pg_catalog.int4) IS
  'Runs SQL in a background worker and gives its process ID.';

CREATE FUNCTION __extschema__.pg_background_launch_v2(sql pg_catalog.text, queue_size pg_catalog.int4 DEFAULT 0)
RETURNS __extschema__.pg_background_handle LANGUAGE plpgsql VOLATILE STRICT AS $function$
#variable_conflict use_variable
DECLARE
  reply pg_catalog.json := pgbackground.launch('pg_background_launch_v2', sql, queue_size);
BEGIN
  RETURN ROW((reply OPERATOR(pg_catalog.->>) 'pid')::integer, (reply OPERATOR(pg_catalog.->>) 'cookie')::bigint);
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_launch_v2(pg_catalog.text, pg_catalog.int4) IS
  'Runs SQL in a background worker and gives its handle.';

CREATE FUNCTION __extschema__.pg_background_submit_v2(sql pg_catalog.text, queue_size pg_catalog.int4 DEFAULT 0)
RETURNS __extschema__.pg_background_handle LANGUAGE plpgsql VOLATILE STRICT AS $function$
#variable_conflict use_variable
DECLARE
  reply pg_catalog.json := pgbackground.launch('pg_background_submit_v2', sql, queue_size);
BEGIN
  RETURN ROW((reply OPERATOR(pg_catalog.->>) 'pid')::integer, (reply OPERATOR(pg_catalog.->>) 'cookie')::bigint);
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_submit_v2(pg_catalog.text, pg_catalog.int4) IS
  'Runs SQL in a background worker whose rows nobody will read, and gives its handle.';

CREATE FUNCTION __extschema__.pg_background_result(pid pg_catalog.int4)
RETURNS SETOF pg_catalog.record LANGUAGE plpgsql VOLATILE STRICT AS $function$
#variable_conflict use_variable
DECLARE
  verb   CONSTANT pg_catalog.text := 'pg_background_result';
  cookie CONSTANT bigint := NULL;
  @result_variables@
BEGIN
  IF pgbackground.was_streamed(pid) THEN
    RETURN;
  END IF;
  @result_body@
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_result(pg_catalog.int4) IS
  'Waits for a background worker and gives its rows, or its command tags. Reads a result once.';

CREATE FUNCTION __extschema__.pg_background_result_v2(pid pg_catalog.int4, cookie pg_catalog.int8)
RETURNS SETOF pg_catalog.record LANGUAGE plpgsql VOLATILE STRICT AS $function$
#variable_conflict use_variable
DECLARE
  verb   CONSTANT pg_catalog.text := 'pg_background_result_v2';
  @result_variables@
BEGIN
  @result_body@
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_result_v2(pg_catalog.int4, pg_catalog.int8) IS
  'Waits for a background worker and gives its rows, or its command tags. Reads a result once.';

CREATE FUNCTION __extschema__.pg_background_list_v2()
RETURNS SETOF pg_catalog.record LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
DECLARE
  may_be_shorter CONSTANT boolean := true;
  -- int4, int8, timestamptz, oid, int4, text, text, text, bool
  type_oids CONSTANT pg_catalog.json := '[23, 20, 1184, 26, 23, 25, 25, 25, 16]';
  refusal   CONSTANT pg_catalog.text := 'column definition list of pg_background_list_v2 must be (pid integer, cookie bigint, launched_at timestamp with time zone, user_id oid, queue_size integer, state text, sql_preview text, last_error text, consumed boolean) or begin like it';
  types     pg_catalog.text[] := pgbackground.type_names(type_oids);
  complaint pg_catalog.text;
  reply     pg_catalog.json;
BEGIN
  @probe_loop@
  reply := pgbackground.call('pg_background_list_v2', '{}');
  RETURN QUERY EXECUTE pgbackground.rows_query(types, false)
    USING ARRAY(SELECT CASE WHEN c.n OPERATOR(pg_catalog.=) 3 AND types[3] OPERATOR(pg_catalog.=) 'text'
                         -- Read as text, a time looks as the session writes it.
                         THEN ARRAY(SELECT (u.v::timestamp with time zone)::pg_catalog.text
                                      FROM pg_catalog.unnest(c.vals::pg_catalog.text[]) WITH ORDINALITY AS u(v, m) ORDER BY u.m)::pg_catalog.text
                         ELSE c.vals END
                  FROM pg_catalog.json_array_elements_text(reply OPERATOR(pg_catalog.->) 'columns') WITH ORDINALITY AS c(vals, n) ORDER BY c.n);
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_list_v2() IS
  'Lists this session''s background workers: pid int4, cookie int8, launched_at timestamptz, user_id oid, queue_size int4, state text, sql_preview text, last_error text, consumed bool.';

CREATE FUNCTION __extschema__.pg_background_detach(pid pg_catalog.int4)
RETURNS void LANGUAGE plpgsql VOLATILE STRICT AS $function$
#variable_conflict use_variable
BEGIN
  PERFORM pgbackground.call('pg_background_detach', pg_catalog.json_build_object('pid', pid));
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_detach(pg_catalog.int4) IS
  'Forgets a background worker. It goes on, and nobody will read its result.';

CREATE FUNCTION __extschema__.pg_background_detach_v2(pid pg_catalog.int4, cookie pg_catalog.int8)
RETURNS void LANGUAGE plpgsql VOLATILE STRICT AS $function$
#variable_conflict use_variable
BEGIN
  PERFORM pgbackground.call('pg_background_detach_v2', pg_catalog.json_build_object('pid', pid, 'cookie', cookie::pg_catalog.text));
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_detach_v2(pg_catalog.int4, pg_catalog.int8) IS
  'Forgets a background worker. It goes on, and nobody will read its result.';

CREATE FUNCTION __extschema__.pg_background_cancel_v2(pid pg_catalog.int4, cookie pg_catalog.int8)
RETURNS void LANGUAGE plpgsql VOLATILE STRICT AS $function$
#variable_conflict use_variable
BEGIN
  PERFORM pgbackground.call('pg_background_cancel_v2', pg_catalog.json_build_object('pid', pid, 'cookie', cookie::pg_catalog.text));
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_cancel_v2(pg_catalog.int4, pg_catalog.int8) IS
  'Terminates a background worker, and does not wait for its end.';

CREATE FUNCTION __extschema__.pg_background_cancel_v2_grace(pid pg_catalog.int4, cookie pg_catalog.int8, grace_ms pg_catalog.int4)
RETURNS void LANGUAGE plpgsql VOLATILE STRICT AS $function$
#variable_conflict use_variable
BEGIN
  PERFORM pgbackground.call('pg_background_cancel_v2_grace', pg_catalog.json_build_object('pid', pid, 'cookie', cookie::pg_catalog.text, 'graceMs', grace_ms));
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_cancel_v2_grace(pg_catalog.int4, pg_catalog.int8, pg_catalog.int4) IS
  'Cancels the statement of a background worker, and terminates the worker when it still runs after grace_ms milliseconds.';

CREATE FUNCTION __extschema__.pg_background_wait_v2(pid pg_catalog.int4, cookie pg_catalog.int8)
RETURNS void LANGUAGE plpgsql VOLATILE STRICT AS $function$
#variable_conflict use_variable
BEGIN
  PERFORM pgbackground.call('pg_background_wait_v2', pg_catalog.json_build_object('pid', pid, 'cookie', cookie::pg_catalog.text));
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_wait_v2(pg_catalog.int4, pg_catalog.int8) IS
  'Waits until a background worker has ended, well or not.';

CREATE FUNCTION __extschema__.pg_background_wait_v2_timeout(pid pg_catalog.int4, cookie pg_catalog.int8, timeout_ms pg_catalog.int4)
RETURNS pg_catalog.bool LANGUAGE plpgsql VOLATILE STRICT AS $function$
#variable_conflict use_variable
BEGIN
  RETURN pgbackground.call('pg_background_wait_v2_timeout', pg_catalog.json_build_object('pid', pid, 'cookie', cookie::pg_catalog.text, 'timeoutMs', timeout_ms)) OPERATOR(pg_catalog.->>) 'ended';
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_wait_v2_timeout(pg_catalog.int4, pg_catalog.int8, pg_catalog.int4) IS
  'Waits until a background worker has ended, timeout_ms milliseconds at most, and tells whether it has.';

CREATE FUNCTION __extschema__.pg_background_stats_v2()
RETURNS __extschema__.pg_background_stats LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
DECLARE
  reply pg_catalog.json := pgbackground.call('pg_background_stats_v2', pg_catalog.json_build_object(
    'maxWorkers', pg_catalog.current_setting('pg_background.max_workers', true)));
BEGIN
  RETURN ROW((reply OPERATOR(pg_catalog.->>) 'launched')::bigint, (reply OPERATOR(pg_catalog.->>) 'completed')::bigint,
    (reply OPERATOR(pg_catalog.->>) 'failed')::bigint, (reply OPERATOR(pg_catalog.->>) 'canceled')::bigint,
    (reply OPERATOR(pg_catalog.->>) 'active')::integer, (reply OPERATOR(pg_catalog.->>) 'averageMs')::double precision,
    (reply OPERATOR(pg_catalog.->>) 'maxWorkers')::integer);
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_stats_v2() IS 'Counts the background workers of this session.';

CREATE FUNCTION __extschema__.pg_background_progress(pct pg_catalog.int4, msg pg_catalog.text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
BEGIN
  IF COALESCE(pg_catalog.current_setting('pgbg_proxy.session', true), '') OPERATOR(pg_catalog.!~) '^worker:' THEN
    RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
      MESSAGE = 'pg_background_progress can only be called from a background worker';
  END IF;
  RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pgbackground.sign(pg_catalog.concat('- ', pgbackground.armor(
    pg_catalog.json_build_object('verb', 'pg_background_progress', 'arguments', pg_catalog.json_build_object('pct', pct, 'msg', pg_catalog.substr(msg, 1, 64))))));
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_progress(pg_catalog.int4, pg_catalog.text) IS
  'In a background worker: tells its launcher how far it is.';

CREATE FUNCTION __extschema__.pg_background_get_progress_v2(pid pg_catalog.int4, cookie pg_catalog.int8)
RETURNS __extschema__.pg_background_progress LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
DECLARE
  reply pg_catalog.json := pgbackground.call('pg_background_get_progress_v2',
    pg_catalog.json_build_object('pid', pid, 'cookie', cookie::pg_catalog.text));
BEGIN
  IF reply OPERATOR(pg_catalog.->>) 'pct' IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN ROW((reply OPERATOR(pg_catalog.->>) 'pct')::integer, reply OPERATOR(pg_catalog.->>) 'msg');
END
$function$;
COMMENT ON FUNCTION __extschema__.pg_background_get_progress_v2(pg_catalog.int4, pg_catalog.int8) IS
  'Gives the last report of a background worker; NULL before the first.';
