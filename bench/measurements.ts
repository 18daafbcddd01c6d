import { bulk } from './bulk.ts';
import { launch } from './launch.ts';
import type { Measurement } from './measurement.ts';
import { relay } from './relay.ts';
import { resultInserts } from './result-inserts.ts';
import { resultMemory } from './result-memory.ts';
import { results } from './results.ts';

/** All that is measured, in the order in which it is. */
export const measurements: readonly Measurement[] = [
  launch,
  results,
  resultMemory,
  resultInserts,
  relay,
  bulk,
];
