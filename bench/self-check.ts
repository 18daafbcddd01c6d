import { findRegressions, updateBaseline } from './baseline.ts';
import { startDelayingForwarder } from './delaying-forwarder.ts';
import { figure, type Figure } from './figure.ts';
import { prepareTables } from './pgbench-tables.ts';
import { regressionTable } from './report.ts';
import { ratios } from './statistics.ts';
import { takeTurns } from './turns.ts';
import type { Workbench } from './workbench.ts';

const DELAY_MS = 1;

/**
 * Measures the proxy behind a forwarder that delays nothing, twice, and behind one that delays each
 * chunk by a millisecond. Both count on the way to the proxy; only the last must be called worse.
 * @returns whether it was
 */
export async function checkItself(bench: Workbench): Promise<boolean> {
  if (bench.tools.pgbench === undefined) {
    bench.print('the self-check needs pgbench');
    return false;
  }
  const { port } = await bench.server();
  await prepareTables(bench);
  const proxy = await bench.startProxy();
  const prompt = await startDelayingForwarder(bench.resources, proxy.port, 0);
  const late = await startDelayingForwarder(bench.resources, proxy.port, DELAY_MS);
  const before = await measure(bench, 'as it is', port, prompt);
  const baseline = updateBaseline({}, before);
  const again = findRegressions(await measure(bench, 'as it is, again', port, prompt), baseline);
  const delayed = await measure(bench, `delayed by ${DELAY_MS} ms`, port, late);
  const seen = findRegressions(delayed, baseline);
  const isSeen = seen.length === delayed.length;
  bench.print(`\n${regressionTable(seen)}`);
  if (again.length > 0) {
    bench.print(`\nwithout a delay this was called worse as well: the machine is not calm`);
    bench.print(regressionTable(again));
  }
  bench.print(`\nthe delay of ${DELAY_MS} ms is ${isSeen ? 'seen' : 'NOT SEEN'}`);
  return isSeen;
}

async function measure(
  bench: Workbench,
  title: string,
  direct: number,
  proxy: number,
): Promise<Figure[]> {
  const turn = (port: number) => () =>
    bench.pgbench({ port, clients: 1, seconds: 1, options: ['-S'], isLogged: true });
  const samples = await takeTurns(
    bench,
    { direct: turn(direct), proxy: turn(proxy) },
    {
      title,
      rounds: bench.isQuick ? 3 : 5,
      warmsUp: true,
      show: ({ perSecond, p99Ms }) => `${perSecond.toFixed(0)} /s, ${p99Ms.toFixed(2)} ms`,
    },
  );
  const [ours, theirs] = [samples.proxy, samples.direct];
  return [
    figure(
      'throughput / direct',
      ratios(
        ours.map((r) => r.perSecond),
        theirs.map((r) => r.perSecond),
      ),
      { better: 'higher' },
    ),
    figure(
      'latency / direct',
      ratios(
        ours.map((r) => r.latencyMs),
        theirs.map((r) => r.latencyMs),
      ),
      { better: 'lower' },
    ),
  ];
}
