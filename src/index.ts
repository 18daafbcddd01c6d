/**
 * The engine: runs SQL in background connections and answers the functions of pg_background.
 *
 * - **session**: one client connection and its one server connection.
 * - **backend**: the server process behind a connection; its process ID is the pid.
 * - **worker**: one SQL text running, or having run, on a connection of the engine's own.
 * - **handle**: a worker's pid and cookie, as the session that launched it holds them.
 * - **cookie**: a random number that tells a worker from a later one with the same pid.
 * - **result**: the rows, or else the command tags, of a worker; read once.
 * - **detach**: to forget a handle; the worker goes on.
 * - **login**: a (role, database), with its control link and its pool of connections.
 * - **callback**: a function's request to the proxy, sent as a notice that the client never sees.
 * - **control link**: the connection in whose pg_stat_activity entry the functions read their answers.
 * - **packet**: a part of an answer, as much as the control link can show at once.
 */
export {
  BackgroundEngine,
  type OpenedSession,
  type SessionDefaults,
  type StartupParameter,
} from './engine.ts';
export { isCustomSetting, MAY_BE_MISPLACED, MISPLACED_DEFAULTS } from './session-defaults.ts';
export type { BackgroundSession } from './background-session.ts';
export type { SessionEvents, StatementPlace } from './session-events.ts';
export { defaultEngineSettings, type EngineSettings } from './settings.ts';
export { Authenticator } from './authenticator.ts';
export { BackendConnection, type LoginTarget } from './backend-connection.ts';
export { drained } from './drained.ts';
export type { TextRows } from './exchange.ts';
export { Password, RecoveredKeys, type Credential } from './credential.ts';
export {
  DEFAULT_ITERATIONS,
  formatVerifier,
  parseVerifier,
  SCRAM_MECHANISM,
  scramKeys,
  ScramServerExchange,
  verifierOf,
  type ScramVerifier,
} from './scram.ts';
export {
  ALPN_PROTOCOL,
  connectToServer,
  sendCancelRequest,
  type ServerEndpoint,
  type ServerTls,
} from './server-socket.ts';
export {
  BackgroundError,
  ProtocolError,
  reportFieldsOf,
  toDatabaseText,
  type ReportFields,
} from './errors.ts';
export { CALLBACK_SQLSTATE, MAX_REQUEST_BYTES } from './callback.ts';
export { alterStatement, createStatement, dropStatement } from './install.ts';
export { findExtensionStatements, type ExtensionStatement } from './sql-text.ts';
export { plainResultOf, type PlainResult } from './plain-call.ts';
export { EndableWaits } from './endable-waits.ts';
export { repeatedStatement } from './repeatable-call.ts';
export type { RowSink, StreamableResult } from './row-sink.ts';
export { newGrantToken } from './signing-key.ts';
export {
  decodeCommandTag,
  decodeParameterStatus,
  decodeReport,
  decodeRowDescription,
  encodeReport,
  encodeReportFields,
  frameOf,
  MessageType,
  reportFields,
  type ColumnType,
} from './messages.ts';
export { RaisedReports } from './report-cleaner.ts';
export type { Verb } from './api.ts';
export type { Logger } from './logger.ts';
export { noPeers, type ByteLease, type Peers, type SessionWait } from './peers.ts';
