import type { Arguments } from './callback.ts';
import { cutText } from './database-text.ts';
import { BackgroundError, type DatabaseText } from './errors.ts';
import { defaultQueueSize, readSetting } from './setting-value.ts';
import type { Progress } from './worker-order.ts';

/** Bytes of a message that pg_background_progress keeps. */
const PROGRESS_BYTES = 63;

/**
 * The queue size of a launch: what it asks for, or the setting when that is not above zero.
 * @throws BackgroundError 22023
 */
export function queueSizeOf(args: Arguments): number {
  const given = Number(args['queueSize']);
  const bytes = given > 0 ? given : readSetting(defaultQueueSize, args['defaultQueueSize']);
  if (bytes < defaultQueueSize.min) {
    throw new BackgroundError('22023', 'queue size must be at least 64 bytes');
  }
  if (bytes > defaultQueueSize.max) {
    throw new BackgroundError('22023', 'queue size must not exceed 268435456 bytes', {
      hint: 'Large result sets should be written to a table instead.',
    });
  }
  return bytes;
}

/** The text of the statement in which a function was called, where it has said so. */
export function statementOf(args: Arguments): DatabaseText | undefined {
  const { statement } = args;
  return typeof statement === 'string' ? statement : undefined;
}

/** What a worker reports, within the limits of the C extension. */
export function progressOf(args: Arguments, encoding: string): Progress {
  const message = typeof args['msg'] === 'string' ? args['msg'] : '';
  return { pct: clamp(args['pct'], 100), message: cutText(message, PROGRESS_BYTES, encoding) };
}

/** A number between 0 and a maximum; NULL is 0. */
export function clamp(value: unknown, max: number): number {
  return Math.min(Math.max(Number(value ?? 0), 0), max);
}
