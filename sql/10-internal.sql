-- The private half: what the functions of the API need in the database. Everything stands in the
-- schema pgbackground, which must not exist before, so that nothing that lies in wait is adopted.
--
-- Every name is schema-qualified and every operator is written OPERATOR(pg_catalog....): the bodies
-- run with the caller's search_path, on which anybody may have put functions and operators.

CREATE SCHEMA pgbackground;
COMMENT ON SCHEMA pgbackground IS 'pg_background, private part: not called by users';

-- One row: the key with which requests are signed. inner_key and outer_key are the key XORed with
-- the two pads of HMAC (RFC 2104), so that HMAC-SHA256 is two calls of sha256().
CREATE TABLE pgbackground.installation (
  key_id    pg_catalog.uuid  NOT NULL,
  inner_key pg_catalog.bytea NOT NULL,
  outer_key pg_catalog.bytea NOT NULL
);
ALTER TABLE pgbackground.installation ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE pgbackground.installation IS
  'The key that signs requests to the proxy. Row level security without a policy hides it from everybody but its owner.';

-- Rows on their way from a worker to the function that returns them: each row holds one chunk of
-- one column. Rows belong to a transfer key that only the proxy and the reading function know.
CREATE UNLOGGED TABLE pgbackground.transfer (
  transfer_key pg_catalog.uuid NOT NULL,
  chunk        integer NOT NULL,
  col          integer NOT NULL,
  vals         pg_catalog.text[] NOT NULL,
  writer_lock  bigint NOT NULL,
  PRIMARY KEY (transfer_key, chunk, col)
);
ALTER TABLE pgbackground.transfer ALTER COLUMN vals SET STORAGE EXTERNAL;
ALTER TABLE pgbackground.transfer ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE pgbackground.transfer IS
  'Results on their way from the proxy into a session. Empty but for the moment of the transfer. Row level security without a policy hides it from everybody but its owner.';

CREATE FUNCTION pgbackground.transfer_put(transfer_key pg_catalog.uuid, chunk integer, col integer, vals pg_catalog.text[], writer_lock bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_variable
BEGIN
  INSERT INTO pgbackground.transfer VALUES (transfer_key, chunk, col, vals, writer_lock);
END
$function$;
COMMENT ON FUNCTION pgbackground.transfer_put(pg_catalog.uuid, integer, integer, pg_catalog.text[], bigint) IS
  'Called by the proxy: stores one chunk of one column of a result. The writer holds the advisory lock as long as it lives.';

CREATE FUNCTION pgbackground.transfer_take(transfer_key pg_catalog.uuid, chunk integer, col integer)
RETURNS pg_catalog.text[] LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_variable
BEGIN
  RETURN (SELECT t.vals FROM pgbackground.transfer AS t
           WHERE t.transfer_key OPERATOR(pg_catalog.=) transfer_key
             AND t.chunk OPERATOR(pg_catalog.=) chunk
             AND t.col OPERATOR(pg_catalog.=) col);
END
$function$;
COMMENT ON FUNCTION pgbackground.transfer_take(pg_catalog.uuid, integer, integer) IS
  'Gives one chunk of one column of a result to whoever knows its transfer key.';

CREATE FUNCTION pgbackground.transfer_drop(transfer_key pg_catalog.uuid)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_variable
DECLARE
  abandoned bigint;
BEGIN
  IF transfer_key IS NOT NULL THEN
    DELETE FROM pgbackground.transfer AS t WHERE t.transfer_key OPERATOR(pg_catalog.=) transfer_key;
    RETURN;
  END IF;
  FOR abandoned IN SELECT DISTINCT t.writer_lock FROM pgbackground.transfer AS t LOOP
    IF pg_catalog.pg_try_advisory_xact_lock(abandoned) THEN
      DELETE FROM pgbackground.transfer AS t WHERE t.writer_lock OPERATOR(pg_catalog.=) abandoned;
    END IF;
  END LOOP;
END
$function$;
COMMENT ON FUNCTION pgbackground.transfer_drop(pg_catalog.uuid) IS
  'Called by the proxy: removes a transfer that was read, or, with NULL, those whose writer is gone.';

-- Signs a header and a payload as the role that runs this. The free signature is refused by the server inside
-- SECURITY DEFINER functions and security-restricted operations; the bound one stands for those.
-- The view's key is good for this one request: its context holds a number that never comes back.
CREATE FUNCTION pgbackground.sign(payload pg_catalog.text)
RETURNS pg_catalog.text LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
DECLARE
  context     pg_catalog.text;
  signing_key pg_catalog.bytea;
BEGIN
  BEGIN
    SELECT s.context, s.signing_key INTO context, signing_key FROM pgbackground.free_signature AS s;
  EXCEPTION WHEN insufficient_privilege THEN
    SELECT s.context, s.signing_key INTO context, signing_key FROM pgbackground.bound_signature AS s;
  END;
  RETURN pg_catalog.concat('R ', context, ' ', payload, ' ', pg_catalog.encode(
    pg_catalog.sha256(signing_key OPERATOR(pg_catalog.||)
      pg_catalog.sha256(signing_key OPERATOR(pg_catalog.||) payload::pg_catalog.bytea)), 'hex'));
END
$function$;
COMMENT ON FUNCTION pgbackground.sign(pg_catalog.text) IS
  'Gives the request that carries a payload, signed as the current role.';

-- JSON as base64 on one line: ASCII, so that no client_encoding damages it on its way.
CREATE FUNCTION pgbackground.armor(payload pg_catalog.json)
RETURNS pg_catalog.text LANGUAGE plpgsql STABLE AS $function$
#variable_conflict use_variable
BEGIN
  RETURN pg_catalog.translate(pg_catalog.encode(
    pg_catalog.convert_to(payload::pg_catalog.text, pg_catalog.getdatabaseencoding()), 'base64'), E'\n', '');
END
$function$;
COMMENT ON FUNCTION pgbackground.armor(pg_catalog.json) IS 'Gives JSON as base64 without line breaks.';

-- Settings of ours hold what a session has found out; anybody may set them, so they are believed only where it can be seen.
CREATE FUNCTION pgbackground.number_in(setting pg_catalog.text)
RETURNS integer LANGUAGE plpgsql STABLE AS $function$
#variable_conflict use_variable
DECLARE
  value pg_catalog.text := pg_catalog.current_setting(setting, true);
BEGIN
  IF value OPERATOR(pg_catalog.~) '^[0-9]{1,9}$' THEN
    RETURN value;
  END IF;
  RETURN NULL;
END
$function$;
COMMENT ON FUNCTION pgbackground.number_in(pg_catalog.text) IS 'Gives the number in a setting, or NULL.';

CREATE FUNCTION pgbackground.place_of(pid integer)
RETURNS integer LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
BEGIN
  RETURN (SELECT i.place FROM pg_catalog.pg_stat_get_backend_idset() AS i(place)
           WHERE pg_catalog.pg_stat_get_backend_pid(i.place) OPERATOR(pg_catalog.=) pid);
END
$function$;
COMMENT ON FUNCTION pgbackground.place_of(integer) IS 'Gives the number by which pg_stat_get_backend_activity and its like know a backend.';

-- The login's role, whatever it is called and whatever role has been taken on since.
CREATE FUNCTION pgbackground.login_role()
RETURNS pg_catalog.oid LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
DECLARE
  place   integer := pgbackground.number_in('pgbg_proxy.own_place');
  nothing pg_catalog.text;
BEGIN
  IF COALESCE(pg_catalog.pg_stat_get_backend_pid(place) OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid(), true) THEN
    place := pgbackground.place_of(pg_catalog.pg_backend_pid());
    nothing := pg_catalog.set_config('pgbg_proxy.own_place', place::pg_catalog.text, false);
  END IF;
  RETURN pg_catalog.pg_stat_get_backend_userid(place);
END
$function$;
COMMENT ON FUNCTION pgbackground.login_role() IS 'Gives the role that the session has logged in as.';

-- A packet is the text pgbg:<nonce>:<base64 of an 8-byte tag and the masked bytes>. It stands in the
-- application_name of the proxy's control link or, where this role may read that, in a comment that is
-- its query text, perhaps between others'. Only shared memory is read: it works in every isolation level.
CREATE FUNCTION pgbackground.read_packet(nonce pg_catalog.text, seed pg_catalog.bytea, packet integer, own_role pg_catalog.oid, wide boolean, wake_key bigint, is_long boolean)
RETURNS pg_catalog.bytea LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
DECLARE
  prefix     pg_catalog.text := pg_catalog.concat('pgbg:', nonce, ':');
  linked     integer := pgbackground.number_in('pgbg_proxy.control_pid');
  place      integer := pgbackground.number_in('pgbg_proxy.control_place');
  shown      pg_catalog.text[];
  pids       integer[];
  carried    pg_catalog.text;
  sealed     pg_catalog.bytea;
  masked     pg_catalog.bytea;
  mask       pg_catalog.bytea;
  opened     pg_catalog.bytea;
  salt       pg_catalog.bytea := seed OPERATOR(pg_catalog.||) pg_catalog.int4send(packet);
  rounds     integer := 0;
  began      timestamp with time zone := pg_catalog.clock_timestamp();
  deadline   timestamp with time zone := began OPERATOR(pg_catalog.+) '5 s'::interval;
  waited     interval := '0';
  asleep     timestamp with time zone;
  slept      interval;
  looks_wide boolean;
  -- What is assigned to it is an expression; PERFORM would make a query of it, which takes longer.
  nothing    pg_catalog.text;
  -- Many who ask again and again would take the processor from each other, and from the proxy.
  patient    boolean := COALESCE(pg_catalog.current_setting('pgbg_proxy.is_busy', true) OPERATOR(pg_catalog.=) 'true', false);
BEGIN
  LOOP
    IF patient OR is_long OR waited OPERATOR(pg_catalog.>) '1 ms'::interval THEN
      asleep := pg_catalog.clock_timestamp();
      -- Where the answer takes long, the proxy holds this lock until it shows it; it lives as long as it does.
      IF wake_key IS NOT NULL AND (is_long OR waited OPERATOR(pg_catalog.>) '4 ms'::interval) AND NOT pgbackground.sleep_on(wake_key) THEN
        RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('W ', nonce);
        wake_key := NULL;
        -- So that one look is enough: it costs by the number of all backends.
        nothing := pg_catalog.pg_sleep(0.005);
      END IF;
      slept := pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) asleep;
      -- Long sleep is no part of the five seconds, and who has slept looks without pauses again. Not to find the lock held
      -- takes time as well, on a busy machine milliseconds: that counts, or waiting would have no end.
      IF slept OPERATOR(pg_catalog.>) '1 s'::interval THEN
        deadline := deadline OPERATOR(pg_catalog.+) slept;
      END IF;
      IF slept OPERATOR(pg_catalog.>) '100 ms'::interval THEN
        began := pg_catalog.clock_timestamp();
      ELSIF slept OPERATOR(pg_catalog.<=) '1 ms'::interval THEN
        nothing := pg_catalog.pg_sleep(LEAST(GREATEST(EXTRACT(epoch FROM waited) OPERATOR(pg_catalog./) 10, 0.001), 0.2)::double precision);
      END IF;
    END IF;
    nothing := pg_catalog.pg_stat_clear_snapshot();
    -- Where the control link is known, nobody else need be looked at; where its place in shared memory is known,
    -- no query is needed for that. Now and then all backends are looked at, for it may have been replaced.
    looks_wide := wide AND place IS NOT NULL AND rounds OPERATOR(pg_catalog.%) 32 OPERATOR(pg_catalog.<) 31
      AND COALESCE(pg_catalog.pg_stat_get_backend_pid(place) OPERATOR(pg_catalog.=) linked, false);
    IF looks_wide THEN
      carried := pg_catalog.pg_stat_get_backend_activity(place);
      IF pg_catalog.strpos(carried, prefix) OPERATOR(pg_catalog.>) 0 AND pg_catalog.pg_stat_get_backend_userid(place) OPERATOR(pg_catalog.=) own_role THEN
        shown := ARRAY[carried];
        pids := ARRAY[linked];
      ELSE
        shown := NULL;
      END IF;
    ELSE
      -- Another backend may show our nonce too: the tag tells who is the proxy.
      SELECT pg_catalog.array_agg(f.carried), pg_catalog.array_agg(f.pid) INTO shown, pids
        FROM (SELECT a.pid, CASE WHEN wide AND pg_catalog.strpos(a.query, prefix) OPERATOR(pg_catalog.>) 0 THEN a.query ELSE a.application_name END AS carried
                FROM pg_catalog.pg_stat_get_activity(CASE WHEN rounds OPERATOR(pg_catalog.%) 32 OPERATOR(pg_catalog.<) 31 THEN linked END) AS a
               WHERE a.usesysid OPERATOR(pg_catalog.=) own_role
                 AND (pg_catalog.starts_with(a.application_name, prefix)
                      OR (wide AND pg_catalog.strpos(a.query, prefix) OPERATOR(pg_catalog.>) 0))) AS f;
    END IF;
    FOR n IN 1 .. COALESCE(pg_catalog.cardinality(shown), 0) LOOP
      carried := pg_catalog.split_part(pg_catalog.substr(shown[n], pg_catalog.strpos(shown[n], prefix)), ' ', 1);
      IF carried OPERATOR(pg_catalog.~) ':([A-Za-z0-9+/]{4}){3,}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$' THEN
        sealed := pg_catalog.decode(
          pg_catalog.substr(carried, pg_catalog.length(prefix) OPERATOR(pg_catalog.+) 1), 'base64');
        masked := pg_catalog.substr(sealed, 9);
        mask := ''::pg_catalog.bytea;
        FOR block IN 0 .. (pg_catalog.length(masked) OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog./) 32 LOOP
          mask := mask OPERATOR(pg_catalog.||) pg_catalog.sha256(salt OPERATOR(pg_catalog.||) pg_catalog.int4send(block));
        END LOOP;
        -- Bytes can be XORed as bits only; behind the four of its length, a bit string is sent as bytes.
        opened := pg_catalog.substr(pg_catalog.varbit_send(
          pg_catalog.concat('x', pg_catalog.encode(masked, 'hex'))::bit varying OPERATOR(pg_catalog.#)
          pg_catalog.concat('x', pg_catalog.encode(pg_catalog.substr(mask, 1, pg_catalog.length(masked)), 'hex'))::bit varying), 5);
        IF pg_catalog.substr(sealed, 1, 8) OPERATOR(pg_catalog.=) pg_catalog.substr(pg_catalog.sha256(
             salt OPERATOR(pg_catalog.||) pg_catalog.int4send(-1) OPERATOR(pg_catalog.||) opened), 1, 8) THEN
          IF pids[n] OPERATOR(pg_catalog.<>) COALESCE(linked, 0) THEN
            nothing := pg_catalog.set_config('pgbg_proxy.control_pid', pids[n]::pg_catalog.text, false);
          END IF;
          IF wide AND NOT looks_wide THEN
            place := pgbackground.place_of(pids[n]);
            -- Where the server shows no query texts, the link does not show packets there.
            IF pg_catalog.strpos(pg_catalog.pg_stat_get_backend_activity(place), prefix) OPERATOR(pg_catalog.>) 0 THEN
              nothing := pg_catalog.set_config('pgbg_proxy.control_place', place::pg_catalog.text, false);
            END IF;
          END IF;
          RETURN opened;
        END IF;
      END IF;
    END LOOP;
    rounds := rounds OPERATOR(pg_catalog.+) 1;
    waited := pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began;
    EXIT WHEN began OPERATOR(pg_catalog.+) waited OPERATOR(pg_catalog.>) deadline;
  END LOOP;
  RAISE EXCEPTION USING ERRCODE = 'insufficient_resources', MESSAGE = 'could not register background process',
    DETAIL = 'The proxy did not answer within 5 seconds.',
    HINT = 'The server or this role may have no free connection (max_connections, CONNECTION LIMIT), or the proxy is gone.';
END
$function$;
COMMENT ON FUNCTION pgbackground.read_packet(pg_catalog.text, pg_catalog.bytea, integer, pg_catalog.oid, boolean, bigint, boolean) IS
  'Waits for one packet of a reply, which may be known to take long, and gives it unmasked; fails with 53000 after 5 seconds.';

-- Sleeps until the proxy lets go of an advisory lock, 30 s at most. The subtransaction is always
-- rolled back, which gives back the lock and the caller's lock_timeout whatever happens.
CREATE FUNCTION pgbackground.sleep_on(lock_key bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
BEGIN
  PERFORM pg_catalog.set_config('lock_timeout', '30s', true);
  PERFORM pg_catalog.pg_advisory_xact_lock_shared(lock_key);
  RAISE EXCEPTION USING ERRCODE = 'PGBG1', MESSAGE = 'awake';
EXCEPTION
  WHEN SQLSTATE 'PGBG1' THEN
    RETURN true;
  WHEN lock_not_available THEN
    RETURN false;
END
$function$;
COMMENT ON FUNCTION pgbackground.sleep_on(bigint) IS 'Waits, without using the processor, until the proxy has news; false when it had none for long.';

-- One request and its reply: what the call gives, or the error that it raises.
CREATE FUNCTION pgbackground.call(verb pg_catalog.text, arguments pg_catalog.json, grant_token pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.json LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
DECLARE
  random   pg_catalog.bytea := pg_catalog.sha256(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()));
  nonce    pg_catalog.text := pg_catalog.encode(pg_catalog.substr(random, 1, 12), 'base64');
  wake_key bigint := pg_catalog.concat('x', pg_catalog.encode(pg_catalog.substr(random, 13, 8), 'hex'))::bit(64)::bigint;
  seed     pg_catalog.bytea := pg_catalog.sha256(pg_catalog.uuid_send(pg_catalog.gen_random_uuid())
    OPERATOR(pg_catalog.||) pg_catalog.uuid_send(pg_catalog.gen_random_uuid()));
  own_role pg_catalog.oid;
  wide     boolean;
  payload  pg_catalog.text;
  pieces   pg_catalog.bytea[];
  piece    pg_catalog.bytea;
  packet   integer := 0;
  reply    pg_catalog.json;
  problem  pg_catalog.json;
  key      bigint;
  is_long  boolean := false;
BEGIN
  IF pg_catalog.current_setting('pgbg_proxy.session', true) IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = 'pg_background works only in sessions of pg-background-proxy',
      HINT = 'This session reached the server directly: connect to the proxy instead.';
  END IF;
  own_role := pgbackground.login_role();
  wide := pg_catalog.pg_has_role(own_role, 'USAGE');
  payload := pg_catalog.concat(nonce, ',', pg_catalog.encode(seed, 'hex'), ',', wide::integer, ',', wake_key, ' ',
    pgbackground.armor(pg_catalog.json_build_object('verb', verb, 'arguments', arguments)));
  IF pg_catalog.length(payload) OPERATOR(pg_catalog.>) 66000000 THEN
    RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'request to the proxy is too large',
      DETAIL = 'SQL for a background worker may hold about 48 MB.';
  END IF;
  IF grant_token IS NULL THEN
    payload := pgbackground.sign(payload);
  ELSE
    payload := pg_catalog.concat('I ', grant_token, ' ', payload);
  END IF;
  RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = payload;
  -- A log may have both the request and the answer: this half of the seed stands in neither.
  seed := pg_catalog.sha256(seed OPERATOR(pg_catalog.||)
    COALESCE(pg_catalog.current_setting('pgbg_proxy.seal', true), '')::pg_catalog.bytea);
  LOOP
    pieces := ARRAY[]::pg_catalog.bytea[];
    key := wake_key;
    LOOP
      packet := packet OPERATOR(pg_catalog.+) 1;
      piece := pgbackground.read_packet(nonce, seed, packet, own_role, wide, key, is_long);
      pieces := pg_catalog.array_append(pieces, pg_catalog.substr(piece, 2));
      EXIT WHEN pg_catalog.get_byte(piece, 0) OPERATOR(pg_catalog.=) 0;
      RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('A ', nonce, ' ', packet);
      -- The rest of an answer comes at once, and wakes nobody.
      key := NULL;
      is_long := false;
    END LOOP;
    -- Most replies are one piece.
    piece := pieces[1];
    IF pg_catalog.cardinality(pieces) OPERATOR(pg_catalog.>) 1 THEN
      piece := (SELECT pg_catalog.string_agg(p.piece, ''::pg_catalog.bytea ORDER BY p.n)
                  FROM pg_catalog.unnest(pieces) WITH ORDINALITY AS p(piece, n));
    END IF;
    reply := pg_catalog.convert_from(piece, pg_catalog.getdatabaseencoding());
    -- A receipt for rows that went past the functions will say the same in a moment.
    IF reply OPERATOR(pg_catalog.->) 'ok' OPERATOR(pg_catalog.->) 'isStreamed' IS NULL THEN
      RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('A ', nonce, ' ', packet);
    END IF;
    IF COALESCE(reply OPERATOR(pg_catalog.->>) 'busy', 'false') OPERATOR(pg_catalog.<>)
       COALESCE(pg_catalog.current_setting('pgbg_proxy.is_busy', true), 'false') THEN
      PERFORM pg_catalog.set_config('pgbg_proxy.is_busy', COALESCE(reply OPERATOR(pg_catalog.->>) 'busy', 'false'), false);
    END IF;
    is_long := reply OPERATOR(pg_catalog.->) 'wait' IS NOT NULL;
    EXIT WHEN NOT is_long;
  END LOOP;
  problem := reply OPERATOR(pg_catalog.->) 'error';
  IF problem IS NOT NULL THEN
    PERFORM pgbackground.raise_notices(reply OPERATOR(pg_catalog.->) 'notices');
    -- Fields that are missing are empty here: RAISE refuses NULL. The proxy takes empty ones out.
    RAISE EXCEPTION USING ERRCODE = problem OPERATOR(pg_catalog.->>) 'code',
      MESSAGE    = COALESCE(problem OPERATOR(pg_catalog.->>) 'message', ''),
      DETAIL     = COALESCE(problem OPERATOR(pg_catalog.->>) 'detail', ''),
      HINT       = COALESCE(problem OPERATOR(pg_catalog.->>) 'hint', ''),
      SCHEMA     = COALESCE(problem OPERATOR(pg_catalog.->>) 'schema', ''),
      TABLE      = COALESCE(problem OPERATOR(pg_catalog.->>) 'table', ''),
      COLUMN     = COALESCE(problem OPERATOR(pg_catalog.->>) 'column', ''),
      DATATYPE   = COALESCE(problem OPERATOR(pg_catalog.->>) 'dataType', ''),
      CONSTRAINT = COALESCE(problem OPERATOR(pg_catalog.->>) 'constraint', '');
  END IF;
  reply := reply OPERATOR(pg_catalog.->) 'ok';
  -- The statement will be run again; till then the proxy watches over its time limit.
  IF reply OPERATOR(pg_catalog.->) 'later' IS NOT NULL THEN
    RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('L ', nonce, ' ',
      (SELECT s.setting FROM pg_catalog.pg_show_all_settings() AS s WHERE s.name OPERATOR(pg_catalog.=) 'statement_timeout'));
  END IF;
  RETURN reply;
END
$function$;
COMMENT ON FUNCTION pgbackground.call(pg_catalog.text, pg_catalog.json, pg_catalog.text) IS
  'Asks the proxy something and gives its answer, or raises the error that it answers with.';

CREATE FUNCTION pgbackground.raise_notices(notices pg_catalog.json)
RETURNS void LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
DECLARE
  notice  pg_catalog.json;
  level   pg_catalog.text;
  code    pg_catalog.text;
  message pg_catalog.text;
  detail  pg_catalog.text;
  hint    pg_catalog.text;
  names   pg_catalog.text[];
BEGIN
  IF notices IS NULL THEN
    RETURN;
  END IF;
  FOR notice IN SELECT n.value FROM pg_catalog.json_array_elements(notices) WITH ORDINALITY AS n(value, place) ORDER BY n.place LOOP
    level   := notice OPERATOR(pg_catalog.->>) 'severity';
    code    := notice OPERATOR(pg_catalog.->>) 'code';
    message := COALESCE(notice OPERATOR(pg_catalog.->>) 'message', '');
    detail  := COALESCE(notice OPERATOR(pg_catalog.->>) 'detail', '');
    hint    := COALESCE(notice OPERATOR(pg_catalog.->>) 'hint', '');
    names   := ARRAY(SELECT COALESCE(notice OPERATOR(pg_catalog.->>) n.name, '')
                       FROM pg_catalog.unnest(ARRAY['schema', 'table', 'column', 'dataType', 'constraint']) WITH ORDINALITY AS n(name, place)
                      ORDER BY n.place);
    IF level OPERATOR(pg_catalog.=) 'INFO' THEN
      RAISE INFO USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint, SCHEMA = names[1],
        TABLE = names[2], COLUMN = names[3], DATATYPE = names[4], CONSTRAINT = names[5];
    ELSIF level OPERATOR(pg_catalog.=) 'WARNING' THEN
      RAISE WARNING USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint, SCHEMA = names[1],
        TABLE = names[2], COLUMN = names[3], DATATYPE = names[4], CONSTRAINT = names[5];
    ELSIF level OPERATOR(pg_catalog.=) 'LOG' THEN
      RAISE LOG USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint, SCHEMA = names[1],
        TABLE = names[2], COLUMN = names[3], DATATYPE = names[4], CONSTRAINT = names[5];
    ELSIF level OPERATOR(pg_catalog.=) 'DEBUG' THEN
      RAISE DEBUG USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint, SCHEMA = names[1],
        TABLE = names[2], COLUMN = names[3], DATATYPE = names[4], CONSTRAINT = names[5];
    ELSE
      RAISE NOTICE USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint, SCHEMA = names[1],
        TABLE = names[2], COLUMN = names[3], DATATYPE = names[4], CONSTRAINT = names[5];
    END IF;
  END LOOP;
END
$function$;
COMMENT ON FUNCTION pgbackground.raise_notices(pg_catalog.json) IS 'Raises again what a worker''s SQL had raised.';

-- All that a worker inherits; the proxy replays what differs in the worker's own connection.
CREATE FUNCTION pgbackground.session_settings()
RETURNS pg_catalog.json LANGUAGE plpgsql STABLE AS $function$
BEGIN
  RETURN (SELECT pg_catalog.json_object_agg(s.name, s.setting) FROM pg_catalog.pg_show_all_settings() AS s
           WHERE (s.context OPERATOR(pg_catalog.=) 'user' OR s.context OPERATOR(pg_catalog.=) 'superuser')
             -- A module that only this session has loaded brings settings that a worker does not know yet.
             AND (s.source OPERATOR(pg_catalog.<>) 'default' OR pg_catalog.strpos(s.name, '.') OPERATOR(pg_catalog.=) 0));
END
$function$;
COMMENT ON FUNCTION pgbackground.session_settings() IS 'Gives the settings in effect, as JSON.';

-- The server lists custom settings (a.b) nowhere. Those go along of which the names are known: from the
-- session's startup packet, from the operator, and from quoted names and SHOW in the SQL itself.
CREATE FUNCTION pgbackground.custom_settings(sql pg_catalog.text)
RETURNS pg_catalog.json LANGUAGE plpgsql STABLE AS $function$
#variable_conflict use_variable
BEGIN
  -- Most SQL names none, and then there is nothing to look for.
  IF pg_catalog.strpos(sql, '.') OPERATOR(pg_catalog.=) 0 AND pg_catalog.current_setting('pgbg_proxy.custom_settings', true) IS NULL THEN
    RETURN pg_catalog.json_strip_nulls(pg_catalog.json_build_object(
      'pg_background.max_workers', pg_catalog.current_setting('pg_background.max_workers', true),
      'pg_background.default_queue_size', pg_catalog.current_setting('pg_background.default_queue_size', true),
      'pg_background.worker_timeout', pg_catalog.current_setting('pg_background.worker_timeout', true)));
  END IF;
  RETURN (SELECT pg_catalog.json_object_agg(n.name, pg_catalog.current_setting(n.name, true))
            FROM (SELECT k.name FROM pg_catalog.unnest(ARRAY['pg_background.max_workers', 'pg_background.default_queue_size', 'pg_background.worker_timeout']
                    OPERATOR(pg_catalog.||) pg_catalog.string_to_array(pg_catalog.current_setting('pgbg_proxy.custom_settings', true), ',')) AS k(name)
                  UNION
                  SELECT COALESCE(m.found[1], m.found[2])
                    FROM pg_catalog.regexp_matches(pg_catalog.substr(sql, 1, 100000),
                      '''([a-z_][a-z0-9_$]*(?:[.][a-z_][a-z0-9_$]*)+)''|\mSHOW\s+([a-z_][a-z0-9_$]*(?:[.][a-z_][a-z0-9_$]*)+)', 'gi') AS m(found)) AS n
           WHERE pg_catalog.current_setting(n.name, true) IS NOT NULL AND NOT pg_catalog.starts_with(n.name, 'pgbg_proxy.'));
END
$function$;
COMMENT ON FUNCTION pgbackground.custom_settings(pg_catalog.text) IS 'Gives the custom settings that a worker with this SQL inherits, as JSON.';

-- Changes with every setting in effect. All of them are looked at each time, for nothing tells what a function
-- or a module has done meanwhile; that costs a third of fetching them from pg_show_all_settings().
CREATE FUNCTION pgbackground.settings_digest()
RETURNS pg_catalog.text LANGUAGE plpgsql VOLATILE AS $function$
BEGIN
  RETURN (SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.array_send(pg_catalog.array_agg(s.setting))), 'base64')
            FROM pgbackground.shown_settings() AS s(name pg_catalog.text, setting pg_catalog.text, description pg_catalog.text));
END
$function$;
COMMENT ON FUNCTION pgbackground.settings_digest() IS 'Gives a hash of the settings in effect.';

CREATE FUNCTION pgbackground.shown_settings()
RETURNS SETOF pg_catalog.record LANGUAGE plpgsql VOLATILE AS $function$
BEGIN
  RETURN QUERY EXECUTE 'SHOW ALL';
END
$function$;
COMMENT ON FUNCTION pgbackground.shown_settings() IS 'Gives what SHOW ALL gives: name, setting, description.';

-- The proxy knows a prepared statement by its name, which SQL may have given to another.
CREATE FUNCTION pgbackground.statement()
RETURNS pg_catalog.text LANGUAGE plpgsql STABLE AS $function$
BEGIN
  RETURN CASE WHEN pg_catalog.octet_length(pg_catalog.current_query()) OPERATOR(pg_catalog.<=) 1024 THEN pg_catalog.current_query() END;
END
$function$;
COMMENT ON FUNCTION pgbackground.statement() IS 'Gives the text of the statement that the client has sent, if it is short.';

-- The settings go along when the proxy has not been sent these before, or has forgotten them. Where the
-- session has sent nothing but plain launches, the proxy knows that they are the same, and has said so.
CREATE FUNCTION pgbackground.launch(verb pg_catalog.text, sql pg_catalog.text, queue_size integer)
RETURNS pg_catalog.json LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
DECLARE
  before  pg_catalog.text := COALESCE(pg_catalog.current_setting('pgbg_proxy.is_plain', true), '');
  plain   boolean := before OPERATOR(pg_catalog.=) 'true';
  digest  pg_catalog.text;
  sent    boolean := plain;
  reply   pg_catalog.json;
  stack   pg_catalog.text;
BEGIN
  IF plain THEN
    -- This function and the one of the API: a third line means that another function calls.
    GET DIAGNOSTICS stack = PG_CONTEXT;
  END IF;
  LOOP
    IF digest IS NULL AND NOT plain THEN
      digest := pgbackground.settings_digest();
      sent := COALESCE(digest OPERATOR(pg_catalog.=) pg_catalog.current_setting('pgbg_proxy.settings_digest', true), false);
    END IF;
    reply := pgbackground.call(verb, pg_catalog.json_build_object('sql', sql, 'queueSize', queue_size,
      'maxWorkers', pg_catalog.current_setting('pg_background.max_workers', true),
      'defaultQueueSize', pg_catalog.current_setting('pg_background.default_queue_size', true),
      'workerTimeout', pg_catalog.current_setting('pg_background.worker_timeout', true),
      'isUnchanged', plain, 'settingsDigest', digest, 'settings', CASE WHEN sent THEN NULL ELSE pgbackground.session_settings() END,
      'isDirect', CASE WHEN plain AND pg_catalog.split_part(stack, pg_catalog.chr(10), 3) OPERATOR(pg_catalog.=) '' THEN pgbackground.is_visible('pg_background_result') END,
      'statement', CASE WHEN pg_catalog.strpos(pg_catalog.current_query(), 'pg_background_result') OPERATOR(pg_catalog.>) 0 THEN pgbackground.statement() END,
      'extraFloatDigits', pg_catalog.current_setting('extra_float_digits'),
      'custom', pgbackground.custom_settings(sql)));
    EXIT WHEN reply OPERATOR(pg_catalog.->) 'sendSettings' IS NULL;
    sent := plain;
    plain := false;
  END LOOP;
  IF NOT sent THEN
    PERFORM pg_catalog.set_config('pgbg_proxy.settings_digest', digest, false);
  END IF;
  IF COALESCE(reply OPERATOR(pg_catalog.->>) 'isPlain', '') OPERATOR(pg_catalog.<>) before THEN
    PERFORM pg_catalog.set_config('pgbg_proxy.is_plain', COALESCE(reply OPERATOR(pg_catalog.->>) 'isPlain', ''), false);
  END IF;
  IF reply OPERATOR(pg_catalog.->) 'receipt' IS NOT NULL THEN
    PERFORM pg_catalog.set_config('pgbg_proxy.streamed', pg_catalog.concat(
      reply OPERATOR(pg_catalog.->>) 'pid', ' ', reply OPERATOR(pg_catalog.->>) 'receipt'), false);
  END IF;
  RETURN reply;
END
$function$;
COMMENT ON FUNCTION pgbackground.launch(pg_catalog.text, pg_catalog.text, integer) IS 'What the three launching functions share.';

-- A statement that is nothing but the result of a launch may have had it, past the functions, before the launch
-- returned. In functions that run as another role that is not believed: who calls them could have set it.
CREATE FUNCTION pgbackground.was_streamed(pid integer)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $function$
#variable_conflict use_variable
DECLARE
  streamed pg_catalog.text := pg_catalog.current_setting('pgbg_proxy.streamed', true);
BEGIN
  IF streamed IS NULL OR pg_catalog.split_part(streamed, ' ', 1) OPERATOR(pg_catalog.<>) pid::pg_catalog.text THEN
    RETURN false;
  END IF;
  PERFORM pg_catalog.set_config('role', pg_catalog.current_setting('role'), true);
  PERFORM pg_catalog.set_config('pgbg_proxy.streamed', '', false);
  RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = pg_catalog.concat('F ', pg_catalog.split_part(streamed, ' ', 2));
  RETURN true;
EXCEPTION
  WHEN insufficient_privilege THEN
    RETURN false;
END
$function$;
COMMENT ON FUNCTION pgbackground.was_streamed(integer) IS 'Tells whether the client has the result of a launch already, and confirms it.';

-- Whether a statement that names this function, and types of pg_catalog, without schemas can mean nothing else.
CREATE FUNCTION pgbackground.is_visible(verb pg_catalog.text)
RETURNS boolean LANGUAGE plpgsql STABLE AS $function$
#variable_conflict use_variable
DECLARE
  path pg_catalog.name[] := pg_catalog.current_schemas(true);
BEGIN
  -- Before pg_catalog, if it comes first, types are looked for in pg_temp. Domains are described as what they are of.
  IF path[1] OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.name THEN
    IF COALESCE(path[2] OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.name, true)
       OR pg_catalog.to_regnamespace(pg_catalog.quote_ident(path[1]::pg_catalog.text))::pg_catalog.oid OPERATOR(pg_catalog.<>) pg_catalog.pg_my_temp_schema()
       OR EXISTS (SELECT FROM pg_catalog.pg_type AS t
                   WHERE t.typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AND t.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog."char") THEN
      RETURN false;
    END IF;
  END IF;
  RETURN (SELECT c.is_unique FROM pgbackground.visible_calls AS c WHERE c.verb OPERATOR(pg_catalog.=) verb);
END
$function$;
COMMENT ON FUNCTION pgbackground.is_visible(pg_catalog.text) IS 'Tells whether the name of a function that gives results can only mean that function.';
