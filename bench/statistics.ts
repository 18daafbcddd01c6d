/** The middle of some samples, and the range in which the middle half of them lies. */
export interface Summary {
  readonly median: number;
  readonly low: number;
  readonly high: number;
  readonly count: number;
}

/**
 * The value below which a part of the samples lies, between two samples where it falls between them.
 * @param part from 0 to 1
 * @returns NaN without samples
 */
export function quantile(samples: readonly number[], part: number): number {
  const sorted = Float64Array.from(samples).sort();
  const position = (sorted.length - 1) * part;
  const below = sorted[Math.floor(position)] ?? NaN;
  const above = sorted[Math.ceil(position)] ?? NaN;
  return below + (above - below) * (position - Math.floor(position));
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

/** Median and spread: from the first to the third quartile. */
export function summarise(samples: readonly number[]): Summary {
  return {
    median: median(samples),
    low: quantile(samples, 0.25),
    high: quantile(samples, 0.75),
    count: samples.length,
  };
}

/**
 * What one side has of the other, round by round: both sides of a round ran under the same load of
 * the machine. Rounds that only one side has are left out.
 */
export function ratios(some: readonly number[], others: readonly number[]): number[] {
  const rounds = Math.min(some.length, others.length);
  return some.slice(0, rounds).map((value, round) => value / (others[round] ?? NaN));
}
