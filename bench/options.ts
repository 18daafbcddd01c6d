import { parseArgs } from 'node:util';

/** What the command line asks for. */
export interface BenchOptions {
  readonly isQuick: boolean;
  /** Names of measurements; all when empty. */
  readonly only: readonly string[];
  readonly updatesBaseline: boolean;
  readonly checksItself: boolean;
  readonly asksForHelp: boolean;
}

export const USAGE = `npm run bench -- [options]

  --quick             fewer and shorter rounds
  --only <name>       this measurement only; may be given several times
  --update-baseline   write what was measured into bench/baseline.json
  --self-check        delay one side by 1 ms; fail when that is not seen
  --help              this text
`;

/** @throws Error on what it does not know */
export function parseOptions(parameters: readonly string[], known: readonly string[]) {
  const { values } = parseArgs({
    args: [...parameters],
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true, default: [] },
      'update-baseline': { type: 'boolean', default: false },
      'self-check': { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const unknown = values.only.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new Error(`no measurement "${unknown.join('", "')}"; there are ${known.join(', ')}`);
  }
  return {
    isQuick: values.quick,
    only: values.only,
    updatesBaseline: values['update-baseline'],
    checksItself: values['self-check'],
    asksForHelp: values.help,
  } satisfies BenchOptions;
}
