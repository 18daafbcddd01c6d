import { BackgroundError } from './errors.ts';

/** One of the pg_background.* settings: its unit, default and range, as in the C extension. */
export interface SettingDefinition {
  readonly name: string;
  readonly unit: 'B' | 'ms' | undefined;
  readonly fallback: number;
  readonly min: number;
  readonly max: number;
}

export const maxWorkers: SettingDefinition = {
  name: 'pg_background.max_workers',
  unit: undefined,
  fallback: 16,
  min: 1,
  max: 1000,
};
export const defaultQueueSize: SettingDefinition = {
  name: 'pg_background.default_queue_size',
  unit: 'B',
  fallback: 65536,
  min: 64,
  max: 268435456,
};
export const workerTimeout: SettingDefinition = {
  name: 'pg_background.worker_timeout',
  unit: 'ms',
  fallback: 0,
  min: 0,
  max: 2147483647,
};

const units: Readonly<Record<string, ReadonlyMap<string, number>>> = {
  B: new Map([
    ['b', 1],
    ['kb', 1024],
    ['mb', 1024 ** 2],
    ['gb', 1024 ** 3],
    ['tb', 1024 ** 4],
  ]),
  ms: new Map([
    ['us', 0.001],
    ['ms', 1],
    ['s', 1000],
    ['min', 60_000],
    ['h', 3_600_000],
    ['d', 86_400_000],
  ]),
};

/**
 * Reads a setting as the session has it, which is text that nothing has checked yet. Missing or empty
 * means the default.
 * @throws BackgroundError 22023
 * @see https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-NAMES-VALUES
 */
export function readSetting(definition: SettingDefinition, text: unknown): number {
  if (typeof text !== 'string' || text === '') return definition.fallback;
  const [, digits, suffix = ''] = /^\s*([+-]?[0-9]*\.?[0-9]+)\s*([a-z]*)\s*$/i.exec(text) ?? [];
  const factor = suffix === '' ? 1 : units[definition.unit ?? '']?.get(suffix.toLowerCase());
  if (digits === undefined || factor === undefined) {
    throw new BackgroundError(
      '22023',
      `invalid value for parameter "${definition.name}": "${text}"`,
    );
  }
  const value = Math.round(Number(digits) * factor);
  if (value < definition.min || value > definition.max) {
    const unit = definition.unit === undefined ? '' : ` ${definition.unit}`;
    throw new BackgroundError(
      '22023',
      `${value}${unit} is outside the valid range for parameter "${definition.name}" (${definition.min}${unit} .. ${definition.max}${unit})`,
    );
  }
  return value;
}
