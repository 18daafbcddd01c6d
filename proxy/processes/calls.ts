import type { SessionWait } from '../../src/index.ts';
import type { ConnectionString } from '../connection-string.ts';
import type { Call } from './channel.ts';
import type { CredentialMessage } from './credential-message.ts';

/** What a serving process must be told; all else stands in its options, which are the primary's. */
export interface ServingOrder {
  /** The server: that of the options, or the embedded one. */
  readonly upstream: ConnectionString;
  /** In base64. Not in the options: it may have been made just now. */
  readonly secret: string;
  /** How many serving processes there are. */
  readonly processes: number;
}

/** Something that a process holds of what is limited: a client's place, a login. It chooses the number. */
export type Ticket = number;

/** A credential that the server has accepted. */
export interface AcceptedCredential {
  readonly role: string;
  readonly database: string;
  readonly credential: CredentialMessage;
}

/** What one serving process tells all others, or asks them: through the primary, which does so in its name. */
type CallsOfAll = {
  readonly makeWay: Call<null, void>;
  readonly doubt: Call<null, void>;
  readonly accepted: Call<AcceptedCredential, void>;
  readonly filesChanged: Call<null, void>;
  readonly waits: Call<null, readonly SessionWait[]>;
  /** A CancelRequest's pid and key, in hex: whether another process has taken care of it. */
  readonly cancel: Call<string, boolean>;
};

/** What a serving process asks of the primary, or tells it. */
export type PrimaryCalls = CallsOfAll & {
  readonly order: Call<null, ServingOrder>;
  /** Clients may come. */
  readonly ready: Call<null, void>;
  /** It cannot serve: this is wrong with its options. */
  readonly failed: Call<string, void>;
  /** Whether a client may have a place. */
  readonly enter: Call<Ticket, boolean>;
  /** Answered when a login may begin. */
  readonly beginLogin: Call<Ticket, boolean>;
  /** A place is free again, a login has ended, or nobody waits for its beginning any more. */
  readonly release: Call<Ticket, void>;
  /** See ByteLease. */
  readonly takeBytes: Call<{ readonly needed: number; readonly wanted: number }, number>;
  readonly giveBackBytes: Call<number, void>;
};

/** What the primary asks of a serving process, or tells it. */
export type ServingCalls = CallsOfAll & {
  /** A client has come; the connection goes along. Its argument: whether by the Unix socket. Answered when taken. */
  readonly client: Call<boolean, true>;
  readonly runningWorkers: Call<null, number>;
  /** It is to end; its argument: whether without waiting for its workers. */
  readonly stop: Call<boolean, void>;
};

/** How long processes that share a machine may take to answer; a busy one is done without. */
export const ANSWER_TIMEOUT_MS = 1_000;
