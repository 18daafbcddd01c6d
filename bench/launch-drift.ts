import { figure, side } from './figure.ts';
import { timeLaunches } from './launch-timing.ts';
import type { Measurement } from './measurement.ts';
import { median } from './statistics.ts';

const LAUNCHES = 10_000;
const PART = 100;
const WARM_UP_LAUNCHES = 500;

/** Whether launches of a session get slower the more of them there were. */
export const launchDrift: Measurement = {
  name: 'launch-drift',
  title: `the last ${PART} of ${LAUNCHES} launches of a session against its first`,
  needs: [],
  async run(bench) {
    const proxy = await bench.startProxyWithExtension();
    const firsts: number[] = [];
    const lasts: number[] = [];
    await bench.withClient(proxy.port, (client) => timeLaunches(client, WARM_UP_LAUNCHES));
    bench.print('');
    for (let round = 1; round <= (bench.isQuick ? 1 : 3); round++) {
      const times = await bench.withClient(proxy.port, (client) => timeLaunches(client, LAUNCHES));
      const [first, last] = [median(times.slice(0, PART)), median(times.slice(-PART))];
      bench.print(`  session ${round}: first ${first.toFixed(3)} ms, last ${last.toFixed(3)} ms`);
      firsts.push(first);
      lasts.push(last);
    }
    return {
      sides: [
        side(`a launch, the first ${PART} of a session`, 'ms', firsts),
        side(`a launch, the last ${PART} of ${LAUNCHES}`, 'ms', lasts),
      ],
      figures: [
        figure(
          `a launch, the last ${PART} of ${LAUNCHES} / the first of the session`,
          lasts.map((last, round) => last / (firsts[round] ?? NaN)),
          { better: 'lower', target: 1.2 },
        ),
      ],
    };
  },
};
