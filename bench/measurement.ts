import type { Figure, Side } from './figure.ts';
import type { Workbench } from './workbench.ts';

/** A program that a measurement cannot do without. */
export type NeededTool = 'pgbench' | 'psql';

/** What a measurement found. */
export interface Findings {
  readonly sides: readonly Side[];
  readonly figures: readonly Figure[];
}

/** One thing that is measured, side by side. */
export interface Measurement {
  /** For `--only`. */
  readonly name: string;
  readonly title: string;
  readonly needs: readonly NeededTool[];
  run(bench: Workbench): Promise<Findings>;
}
