-- What proves which role asks: in a view, tables are read with the rights of the view's owner, but
-- current_user is the role that runs the query. So the views sign as exactly that role, and the key
-- stays hidden. Their key column is HMAC-SHA256(key, context): good for one request, since the
-- context holds a number that grows with the clock.

CREATE VIEW pgbackground.free_signature AS
SELECT c.context, pg_catalog.sha256(i.outer_key OPERATOR(pg_catalog.||) pg_catalog.sha256(i.inner_key OPERATOR(pg_catalog.||) c.context::pg_catalog.bytea)) AS signing_key
  FROM pgbackground.installation AS i, LATERAL (
    SELECT pg_catalog.concat_ws(',', 'v1',
      -- Changes nothing, and is refused by the server wherever the current role is not the session's
      -- own choice: in SECURITY DEFINER functions and security-restricted operations.
      CASE WHEN pg_catalog.set_config('role', pg_catalog.current_setting('role'), true) IS NOT NULL THEN 'free' END,
      @signed_context@) AS context
    OFFSET 0) AS c;
COMMENT ON VIEW pgbackground.free_signature IS 'Signs as the current role, where the session itself has chosen it.';

CREATE VIEW pgbackground.bound_signature AS
SELECT c.context, pg_catalog.sha256(i.outer_key OPERATOR(pg_catalog.||) pg_catalog.sha256(i.inner_key OPERATOR(pg_catalog.||) c.context::pg_catalog.bytea)) AS signing_key
  FROM pgbackground.installation AS i, LATERAL (
    SELECT pg_catalog.concat_ws(',', 'v1', 'bound',
      @signed_context@) AS context
    OFFSET 0) AS c;
COMMENT ON VIEW pgbackground.bound_signature IS 'Signs as the current role, where a function or an operation has chosen it.';

-- Whether a name without a schema can only mean our function, under the search_path in effect. The view keeps
-- the functions themselves, whatever schema they move to.
CREATE VIEW pgbackground.visible_calls AS
SELECT c.verb, pg_catalog.to_regproc(c.verb)::pg_catalog.oid OPERATOR(pg_catalog.=) c.function
           AND pg_catalog.to_regproc('pg_background_launch')::pg_catalog.oid OPERATOR(pg_catalog.=)
             '__extschema_text__.pg_background_launch(pg_catalog.text, pg_catalog.int4)'::pg_catalog.regprocedure::pg_catalog.oid AS is_unique
  FROM (VALUES
    ('pg_background_result'::pg_catalog.text, '__extschema_text__.pg_background_result(pg_catalog.int4)'::pg_catalog.regprocedure::pg_catalog.oid),
    ('pg_background_result_v2', '__extschema_text__.pg_background_result_v2(pg_catalog.int4, pg_catalog.int8)'::pg_catalog.regprocedure::pg_catalog.oid)
  ) AS c(verb, function);
COMMENT ON VIEW pgbackground.visible_calls IS 'Tells whether the name of a function that gives results can only mean that function.';
