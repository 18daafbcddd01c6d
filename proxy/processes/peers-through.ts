import type { Peers, SessionWait } from '../../src/index.ts';
import { ANSWER_TIMEOUT_MS, type PrimaryCalls, type ServingCalls } from './calls.ts';
import type { Channel } from './channel.ts';
import { writeCredential } from './credential-message.ts';

/** How long the waits of the others are as good as new: each session that waits asks once a second. */
const WAITS_LIFETIME_MS = 100;

/** The engines of the other processes, as one process reaches them: through the primary. */
export function peersThrough(primary: Channel<PrimaryCalls, ServingCalls>): Peers {
  let waits: Promise<readonly SessionWait[]> | undefined;
  let askedAt = 0;
  return {
    makeWay: () => primary.tell('makeWay', null),
    doubt: () => primary.tell('doubt', null),
    accepted: (role, database, credential) =>
      primary.tell('accepted', { role, database, credential: writeCredential(credential) }),
    waits: () => {
      if (waits !== undefined && performance.now() - askedAt < WAITS_LIFETIME_MS) return waits;
      askedAt = performance.now();
      // The others have as much time to answer the primary.
      waits = primary.ask('waits', null, 2 * ANSWER_TIMEOUT_MS).then((answer) => answer ?? []);
      return waits;
    },
    resultBytes: {
      // Rows wait meanwhile, so the primary has time; it is gone only when we end too.
      take: async (needed, wanted) => (await primary.ask('takeBytes', { needed, wanted })) ?? 0,
      giveBack: (bytes) => primary.tell('giveBackBytes', bytes),
    },
  };
}
