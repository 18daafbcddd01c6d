import { bulk } from './bulk.ts';
import { crowd } from './crowd.ts';
import { firstRow } from './first-row.ts';
import { idleClients } from './idle-clients.ts';
import { launch } from './launch.ts';
import { launchDrift } from './launch-drift.ts';
import type { Measurement } from './measurement.ts';
import { relay } from './relay.ts';
import { resultInserts } from './result-inserts.ts';
import { resultMemory } from './result-memory.ts';
import { results } from './results.ts';
import { sessionsInARow } from './sessions-in-a-row.ts';
import { waitingSessions } from './waiting-sessions.ts';

/** All that is measured, in the order in which it is. */
export const measurements: readonly Measurement[] = [
  launch,
  firstRow,
  results,
  resultMemory,
  resultInserts,
  relay,
  bulk,
  idleClients,
  sessionsInARow,
  launchDrift,
  crowd,
  waitingSessions,
];
