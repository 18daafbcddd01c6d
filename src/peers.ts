import type { Credential } from './credential.ts';

/** A session whose backend is inside a call that waits for a worker. */
export interface SessionWait {
  readonly sessionPid: number;
  readonly workerPid: number;
  /** When it began, by a clock that all processes of the machine have: the youngest has the highest. */
  readonly order: number;
}

/** A part of a total that several processes share; whoever holds it gives it back. */
export interface ByteLease {
  /** @returns how many bytes it has got: from those it needs to those it would like, or 0 */
  take(neededBytes: number, wantedBytes: number): Promise<number>;
  giveBack(bytes: number): void;
}

/** The engines of the other processes that serve the same port: together they behave as one. */
export interface Peers {
  /** See BackgroundEngine.makeWay(). */
  makeWay(): void;
  /** See BackgroundEngine.doubt(). */
  doubt(): void;
  /** The server has accepted a credential; those whose sessions are of this role and database use it too. */
  accepted(role: string, database: string, credential: Credential): void;
  /** The waits of their sessions, within a bounded time: who does not answer is left out. */
  waits(): Promise<readonly SessionWait[]>;
  /** Where results get their part of maxTotalResultBytes; undefined: all of it is here. */
  readonly resultBytes: ByteLease | undefined;
}

/** There is one process. */
export const noPeers: Peers = {
  makeWay: () => {},
  doubt: () => {},
  accepted: () => {},
  waits: () => Promise.resolve([]),
  resultBytes: undefined,
};
