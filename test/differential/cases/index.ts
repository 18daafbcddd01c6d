import type { Script } from '../script.ts';
import { asynchronous } from './asynchronous.ts';
import { copies } from './copy.ts';
import { endings } from './endings.ts';
import { extendedQueries } from './extended-query.ts';
import { functionCalls } from './function-call.ts';
import { rarities } from './rarities.ts';
import { simpleQueries } from './simple-query.ts';
import { startups } from './startup.ts';
import { types } from './types.ts';

/** All scripts that are written by hand, by topic. */
export const topics: ReadonlyMap<string, readonly Script[]> = new Map([
  ['the simple protocol', simpleQueries],
  ['the extended protocol', extendedQueries],
  ['values', types],
  ['COPY', copies],
  ['what comes unasked', asynchronous],
  ['a FunctionCall', functionCalls],
  ['rarities', rarities],
  ['the beginning', startups],
  ['the end', endings],
]);
