import { readFile, writeFile } from 'node:fs/promises';
import { hasErrno } from '../proxy/embedded-files.ts';
import type { Better, Figure } from './figure.ts';

/** What a figure was when the baseline was written. */
export interface BaselineFigure {
  readonly better: Better;
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

/** Figures by their names. */
export type Baseline = Readonly<Record<string, BaselineFigure>>;

/** A figure that got worse, and what it was. */
export interface Regression {
  readonly now: Figure;
  readonly before: BaselineFigure;
}

/** Two runs of the same code differ by as much, also where the rounds of each agree. */
const TOLERANCE = 0.1;

/**
 * The figures that got worse by more than the spread: their whole range is on the worse side of the
 * baseline's, and the medians differ by more than a tenth.
 */
export function findRegressions(figures: readonly Figure[], baseline: Baseline): Regression[] {
  return figures.flatMap((now) => {
    const before = baseline[now.name];
    return before !== undefined && isWorse(now, before) ? [{ now, before }] : [];
  });
}

function isWorse(now: Figure, before: BaselineFigure): boolean {
  const margin = Math.abs(before.median) * TOLERANCE;
  if (now.better === 'lower') {
    return now.low > before.high && now.median > before.median + margin;
  }
  return now.high < before.low && now.median < before.median - margin;
}

/** The baseline with figures of a run in the place of its own; those not measured stay. */
export function updateBaseline(baseline: Baseline, figures: readonly Figure[]): Baseline {
  const measured = figures.map(({ name, better, median, low, high }) => {
    return [name, { better, median: short(median), low: short(low), high: short(high) }] as const;
  });
  return { ...baseline, ...Object.fromEntries(measured) };
}

/** Four digits say all that a measurement knows. */
function short(value: number): number {
  return Number(value.toPrecision(4));
}

/** The committed baseline; empty when there is none yet. */
export async function readBaseline(file: string): Promise<Baseline> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Baseline;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return {};
    throw error;
  }
}

export async function writeBaseline(file: string, baseline: Baseline): Promise<void> {
  await writeFile(file, `${JSON.stringify(baseline, null, 2)}\n`);
}
