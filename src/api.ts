/**
 * The functions of the API with their argument types, in the order of the privilege letters that a
 * signature carries. A request's verb is the name of the function that makes it.
 */
export const apiFunctions = [
  ['pg_background_launch', 'pg_catalog.text, pg_catalog.int4'],
  ['pg_background_result', 'pg_catalog.int4'],
  ['pg_background_detach', 'pg_catalog.int4'],
  ['pg_background_launch_v2', 'pg_catalog.text, pg_catalog.int4'],
  ['pg_background_submit_v2', 'pg_catalog.text, pg_catalog.int4'],
  ['pg_background_result_v2', 'pg_catalog.int4, pg_catalog.int8'],
  ['pg_background_detach_v2', 'pg_catalog.int4, pg_catalog.int8'],
  ['pg_background_cancel_v2', 'pg_catalog.int4, pg_catalog.int8'],
  ['pg_background_cancel_v2_grace', 'pg_catalog.int4, pg_catalog.int8, pg_catalog.int4'],
  ['pg_background_wait_v2', 'pg_catalog.int4, pg_catalog.int8'],
  ['pg_background_wait_v2_timeout', 'pg_catalog.int4, pg_catalog.int8, pg_catalog.int4'],
  ['pg_background_list_v2', ''],
  ['pg_background_stats_v2', ''],
  ['pg_background_progress', 'pg_catalog.int4, pg_catalog.text'],
  ['pg_background_get_progress_v2', 'pg_catalog.int4, pg_catalog.int8'],
] as const;

/** The name of an API function, which is what a request asks for. */
export type Verb = (typeof apiFunctions)[number][0];

/** Functions of the extension that only its owner may call: they ask nothing of the proxy. */
export const ownerFunctions = [
  ['grant_pg_background_privileges', 'pg_catalog.text, pg_catalog.bool'],
  ['revoke_pg_background_privileges', 'pg_catalog.text, pg_catalog.bool'],
  ['pg_background_drop_executor_role', ''],
] as const;

/** Names of all functions that CREATE EXTENSION puts into the schema it was given. */
export const apiFunctionNames: readonly string[] = [...apiFunctions, ...ownerFunctions].map(
  ([name]) => name,
);

export const apiTypes = [
  'pg_background_handle',
  'pg_background_stats',
  'pg_background_progress',
] as const;

/** What a user of the API needs of the private schema. */
export const internalFunctions = [
  'transfer_put(pg_catalog.uuid, pg_catalog.int4, pg_catalog.int4, pg_catalog.text[], pg_catalog.int8)',
  'transfer_take(pg_catalog.uuid, pg_catalog.int4, pg_catalog.int4)',
  'transfer_drop(pg_catalog.uuid)',
  'sign(pg_catalog.text)',
  'armor(pg_catalog.json)',
  'number_in(pg_catalog.text)',
  'place_of(pg_catalog.int4)',
  'login_role()',
  'read_packet(pg_catalog.text, pg_catalog.bytea, pg_catalog.int4, pg_catalog.oid, pg_catalog.bool, pg_catalog.int8, pg_catalog.bool)',
  'sleep_on(pg_catalog.int8)',
  'call(pg_catalog.text, pg_catalog.json, pg_catalog.text)',
  'raise_notices(pg_catalog.json)',
  'session_settings()',
  'settings_digest()',
  'shown_settings()',
  'custom_settings(pg_catalog.text)',
  'statement()',
  'launch(pg_catalog.text, pg_catalog.text, pg_catalog.int4)',
  'was_streamed(pg_catalog.int4)',
  'is_visible(pg_catalog.text)',
  'wrong_type()',
  'type_name(pg_catalog.oid)',
  'type_names(pg_catalog.json)',
  'probe(pg_catalog.text[])',
  'adopt(pg_catalog.json, pg_catalog.text[], pg_catalog.text, pg_catalog.bool, pg_catalog.text)',
  'rows_query(pg_catalog.text[], pg_catalog.bool)',
  'take(pg_catalog.text, pg_catalog.int4, pg_catalog.int8)',
  'use_formats(pg_catalog.json)',
] as const;

/** The rest of the private schema's functions: only the owner's helpers call them. */
export const ownerInternalFunctions = [
  'api_schema()',
  'privileges()',
  'change_privileges(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool)',
] as const;

export const internalViews = ['free_signature', 'bound_signature', 'visible_calls'] as const;
