/*
 * What the control link asks the server. It never runs anybody's SQL.
 */
import { SERVER_CLOCK } from './server-clock.ts';

/** What the control link says to DBAs who look at pg_stat_activity. */
const CONTROL_LINK_NAME = 'pg-background-proxy control';

/** An expression: the role that a connection has logged in as, which keeps its number when it is renamed. */
export const OWN_ROLE_OID =
  '(SELECT me.usesysid FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS me)';

/** What a new link has to know of its server, database and role. */
export const DESCRIBE = `SELECT (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c), d.oid,
  pg_catalog.current_setting('track_activities'),
  (SELECT s.setting FROM pg_catalog.pg_settings AS s WHERE s.name OPERATOR(pg_catalog.=) 'track_activity_query_size'),
  pg_catalog.getdatabaseencoding(), ${SERVER_CLOCK}, ${OWN_ROLE_OID}
  FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()`;

/** How the link shows a packet: one prepared statement, for one line in pg_stat_statements. */
export const REPLY = "SELECT pg_catalog.set_config('application_name', $1, false)";

/**
 * Cancels what a backend runs, and tells whether that was sure to hit. With track_activities off nobody
 * knows: it may wait for its client, which is told all the same, or be just about to.
 */
export const cancelUnlessIdle = (pid: number) =>
  `SELECT CASE WHEN a.state OPERATOR(pg_catalog.=) 'idle'
                 OR (a.state OPERATOR(pg_catalog.=) 'disabled' AND a.wait_event OPERATOR(pg_catalog.=) 'ClientRead')
               THEN 'idle'
               WHEN NOT pg_catalog.pg_cancel_backend(a.pid) THEN 'gone'
               WHEN a.state OPERATOR(pg_catalog.=) 'disabled' THEN 'unsure' ELSE 'sure' END
     FROM pg_catalog.pg_stat_get_activity(${pid}) AS a`;

/**
 * Which of some backends wait for a lock, and for whom. To find that out holds up all who want one: those that are
 * seen to do or wait for something else are left out.
 */
export const findBlockers = (pids: readonly number[]) =>
  `SELECT a.pid, other FROM pg_catalog.pg_stat_get_activity(NULL) AS a, pg_catalog.unnest(pg_catalog.pg_blocking_pids(a.pid)) AS other
    WHERE a.pid OPERATOR(pg_catalog.=) ANY ('{${pids.join()}}')
      AND (a.wait_event_type IS NULL OR a.wait_event_type OPERATOR(pg_catalog.=) 'Lock')`;

/** Which of some backends have logged in as a role. */
export const findBackends = (pids: readonly number[], roleOid: number) =>
  `SELECT a.pid FROM pg_catalog.pg_stat_get_activity(NULL) AS a
    WHERE a.pid OPERATOR(pg_catalog.=) ANY ('{${pids.join()}}') AND a.usesysid OPERATOR(pg_catalog.=) ${roleOid}`;

/** Settings that would otherwise come from the role or the database, and must not disturb the link. */
export const LINK_SETTINGS = {
  application_name: CONTROL_LINK_NAME,
  search_path: 'pg_catalog',
  statement_timeout: '0',
  lock_timeout: '0',
  idle_session_timeout: '0',
  client_min_messages: 'error',
  standard_conforming_strings: 'on',
} as const;
