import type { Credential } from './credential.ts';
import type { DatabaseText } from './errors.ts';
import type { Logger } from './logger.ts';
import { noPeers, type Peers } from './peers.ts';
import type { ServerEndpoint } from './server-socket.ts';

/** What an engine can be told; names and defaults as DBAs know them from PgBouncer where it has them. */
export interface EngineSettings {
  /** Where the server is. */
  readonly server: ServerEndpoint;
  /** Signs the keys of all databases; every instance for a server has the same. */
  readonly secret: Buffer;
  readonly logger: Logger;
  /** How long a login at the server may take. */
  readonly serverConnectTimeoutMs: number;
  /** For each role and database: connections kept ready that no session has used yet. */
  readonly minPoolSize: number;
  /** And idle ones in all; of more, the one that has waited longest is closed. */
  readonly maxPoolSize: number;
  /** One that has waited longer than this is closed, unless no session has used it yet. */
  readonly serverIdleTimeoutMs: number;
  /** A connection older than this is not used again. */
  readonly serverLifetimeMs: number;
  /** What a worker's result may hold while nobody reads it. */
  readonly maxResultBytes: number;
  /** The same for all workers together. */
  readonly maxTotalResultBytes: number;
  /** Names of custom settings, `a.b`, that workers inherit wherever they were set. */
  readonly customSettings: readonly string[];
  /**
   * Credentials of roles other than the session's own, for one database each: what a SECURITY DEFINER
   * function launches runs with them. Whoever owns the extension in that database can use them.
   */
  readonly runAs: (database: string, role: DatabaseText) => Credential | undefined;
  /** Roles that are no superusers, whose extension sessions of superusers honour all the same. */
  readonly trustedOwners: readonly string[];
  /** How long after its signature a request is honoured: so long may privileges outlive a REVOKE. */
  readonly requestLifetimeMs: number;
  /** How long a plain launch waits for the end of its worker, or for rows: that would be waited for anyway. */
  readonly launchPatienceMs: number;
  /** After so long a plain launch looks at settings again: the server may have read its configuration meanwhile. */
  readonly unchangedSettingsMs: number;
  /** The engines of other processes, with which this one shares limits and news. */
  readonly peers: Peers;
  /** How long a shutdown waits for workers that still run. */
  readonly shutdownTimeoutMs: number;
}

export const defaultEngineSettings = {
  serverConnectTimeoutMs: 15_000,
  minPoolSize: 1,
  maxPoolSize: 20,
  serverIdleTimeoutMs: 600_000,
  serverLifetimeMs: 3_600_000,
  maxResultBytes: 1024 ** 3,
  maxTotalResultBytes: 10 * 1024 ** 3,
  customSettings: [],
  runAs: () => undefined,
  trustedOwners: [],
  requestLifetimeMs: 60_000,
  launchPatienceMs: 3,
  unchangedSettingsMs: 1_000,
  peers: noPeers,
  shutdownTimeoutMs: 60_000,
} as const satisfies Partial<EngineSettings>;
