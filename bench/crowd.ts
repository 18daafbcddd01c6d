import type pg from 'pg';
import { repeatAtOnce } from './at-once.ts';
import { figure, side } from './figure.ts';
import { timeLaunches } from './launch-timing.ts';
import type { Measurement } from './measurement.ts';
import { ratios, median } from './statistics.ts';
import { takeTurns } from './turns.ts';
import type { Workbench } from './workbench.ts';

const CROWD = 500;
const LAUNCHES = 300;
const LOGINS_AT_ONCE = 10;

/** What a launch costs while many other sessions that have used workers are idle. */
export const crowd: Measurement = {
  name: 'crowd',
  title: `a launch beside ${CROWD} idle sessions against one beside one`,
  needs: [],
  async run(bench) {
    const proxy = await bench.startProxyWithExtension('large');
    const samples = await bench.withClient(proxy.port, async (client) => {
      await timeLaunches(client, LAUNCHES);
      const beside = (sessions: number) => () =>
        withIdle(bench, proxy.port, sessions, async () =>
          median(await timeLaunches(client, LAUNCHES)),
        );
      return takeTurns(
        bench,
        { 'beside 1': beside(1), [`beside ${CROWD}`]: beside(CROWD) },
        {
          title: `a launch beside idle sessions, median of ${LAUNCHES}`,
          rounds: bench.isQuick ? 2 : 5,
          show: (ms) => `${ms.toFixed(3)} ms`,
        },
      );
    });
    const [alone = [], crowded = []] = Object.values(samples);
    return {
      sides: [
        side('a launch beside 1 idle session', 'ms', alone),
        side(`a launch beside ${CROWD} idle sessions`, 'ms', crowded),
      ],
      figures: [
        figure(`a launch beside ${CROWD} idle sessions / beside one`, ratios(crowded, alone), {
          better: 'lower',
          target: 1.5,
        }),
      ],
    };
  },
};

async function withIdle<T>(
  bench: Workbench,
  port: number,
  sessions: number,
  action: () => Promise<T>,
): Promise<T> {
  const idle: pg.Client[] = [];
  try {
    await repeatAtOnce(sessions, LOGINS_AT_ONCE, async () => {
      const client = await bench.connect(port);
      idle.push(client);
      await timeLaunches(client, 1);
    });
    return await action();
  } finally {
    await Promise.all(idle.map((client) => client.end()));
  }
}
