import { summarise, type Summary } from './statistics.ts';

/** Which way is better. */
export type Better = 'lower' | 'higher';

/** One result of a measurement: what is compared with its target and with the baseline. */
export interface Figure extends Summary {
  /** Says what is measured against what; unique. */
  readonly name: string;
  /** `×` for a ratio. */
  readonly unit: string;
  readonly better: Better;
  /** At most this where lower is better, at least this where higher is. */
  readonly target?: number;
}

/** What one side of a measurement took in absolute terms, on this machine at this moment. */
export interface Side extends Summary {
  readonly name: string;
  readonly unit: string;
  /** One for each round. */
  readonly samples: readonly number[];
}

/** How a target is stated. */
export interface Goal {
  readonly unit?: string;
  readonly better: Better;
  readonly target?: number;
}

export function figure(name: string, samples: readonly number[], goal: Goal): Figure {
  return { name, unit: '×', ...goal, ...summarise(samples) };
}

export function side(name: string, unit: string, samples: readonly number[]): Side {
  return { name, unit, ...summarise(samples), samples };
}

/** Whether the median meets the target; undefined without one. */
export function isMet({ median, better, target }: Figure): boolean | undefined {
  if (target === undefined) return undefined;
  return better === 'lower' ? median <= target : median >= target;
}
