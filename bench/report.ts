import type { Regression } from './baseline.ts';
import { isMet, type Figure } from './figure.ts';
import type { Summary } from './statistics.ts';

/** The summary: each figure with its spread, its target and whether it is met. */
export function summaryTable(figures: readonly Figure[]): string {
  const rows = figures.map((figure) => [
    figure.name,
    `${show(figure.median)} ${figure.unit}`,
    spreadOf(figure),
    targetOf(figure),
    verdictOf(figure),
  ]);
  return table([['', 'median', 'spread', 'target', ''], ...rows]);
}

/** One line for each figure that got worse. */
export function regressionTable(regressions: readonly Regression[]): string {
  const rows = regressions.map(({ now, before }) => [
    now.name,
    `${show(now.median)} ${now.unit}`,
    spreadOf(now),
    show(before.median),
    `${show(before.low)} – ${show(before.high)}`,
  ]);
  return table([['', 'now', 'spread', 'baseline', 'its spread'], ...rows]);
}

function spreadOf({ low, high, count }: Summary): string {
  return count > 1 ? `${show(low)} – ${show(high)}` : '';
}

function targetOf({ target, better }: Figure): string {
  return target === undefined ? '' : `${better === 'lower' ? '≤' : '≥'} ${target}`;
}

function verdictOf(figure: Figure): string {
  const met = isMet(figure);
  return met === undefined ? '' : met ? 'met' : 'not met';
}

/** Three digits, or whole numbers. */
function show(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

/** Columns as wide as their widest cell: the first and the last to the left, others to the right. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) => {
          const width = widths[column] ?? 0;
          const isLeft = column === 0 || column === row.length - 1;
          return isLeft ? cell.padEnd(width) : cell.padStart(width);
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
