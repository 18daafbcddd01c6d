import type { Workbench } from './workbench.ts';

/** What is done in each turn of one side. */
export type Turn<T> = () => Promise<T>;

/** How turns are taken. */
export interface TurnOptions<T> {
  readonly title: string;
  readonly rounds: number;
  /** One round before the others does not count: plans, pools and compilers are cold. */
  readonly warmsUp?: boolean;
  show(sample: T): string;
}

/**
 * Lets each side have its turn in each round, so that a busy machine slows all of them, and prints a
 * line for each round.
 * @returns the samples of each side, one for each round
 */
export async function takeTurns<T, Name extends string>(
  bench: Workbench,
  sides: Readonly<Record<Name, Turn<T>>>,
  { title, rounds, warmsUp = false, show }: TurnOptions<T>,
): Promise<Record<Name, T[]>> {
  const names = Object.keys(sides) as Name[];
  const samples = Object.fromEntries(names.map((name) => [name, [] as T[]])) as Record<Name, T[]>;
  bench.print(`\n${title}`);
  const row = (label: string, cells: readonly string[]) =>
    bench.print(`  ${label.padEnd(8)}${cells.map((cell) => cell.padStart(24)).join('')}`);
  row('', names);
  for (let round = warmsUp ? 0 : 1; round <= rounds; round++) {
    const cells: string[] = [];
    for (const name of names) {
      const sample = await sides[name]();
      cells.push(show(sample));
      if (round > 0) samples[name].push(sample);
    }
    row(round === 0 ? 'warm-up' : `round ${round}`, cells);
  }
  return samples;
}
