import { setTimeout as delay } from 'node:timers/promises';
import { repeatAtOnce } from './at-once.ts';
import { figure, side } from './figure.ts';
import type { Measurement } from './measurement.ts';
import { openFiles, residentMemory } from './process-usage.ts';
import { RawReader } from './raw-reader.ts';
import type { RunningProxy } from './proxy.ts';
import { startStubServer } from './stub-server.ts';

/** Behind as many others: till then code is compiled, and the heap takes its size. */
const SESSIONS = 5000;
const AT_ONCE = 4;
const MIB = 2 ** 20;
const PATIENCE_MS = 10_000;
const POLL_INTERVAL_MS = 20;

/** Whether sessions that have ended leave something behind in the proxy. */
export const sessionsInARow: Measurement = {
  name: 'sessions-in-a-row',
  title: `what ${SESSIONS} sessions leave behind in the proxy`,
  needs: [],
  async run(bench) {
    const stub = await startStubServer(bench.resources);
    const proxy = await bench.startProxy([], stub);
    const session = async () => (await RawReader.connect(proxy.port)).end();
    await repeatAtOnce(100, AT_ONCE, session);
    const filesAtFirst = await settledFiles(proxy, 0);
    await repeatAtOnce(SESSIONS, AT_ONCE, session);
    await settledFiles(proxy, filesAtFirst);
    const before = await residentMemory(proxy.pid);
    await repeatAtOnce(SESSIONS, AT_ONCE, session);
    const files = await settledFiles(proxy, filesAtFirst);
    const after = await residentMemory(proxy.pid);
    bench.print(
      `\nmemory after ${SESSIONS} sessions ${(before / MIB).toFixed(1)} MiB, after as many again ` +
        `${(after / MIB).toFixed(1)} MiB; open files ${filesAtFirst} at first, ${files} at last`,
    );
    return {
      sides: [
        side(`memory after ${SESSIONS} sessions`, 'MiB', [before / MIB]),
        side(`memory after ${2 * SESSIONS} sessions`, 'MiB', [after / MIB]),
      ],
      figures: [
        figure(`memory after ${2 * SESSIONS} sessions / after half of them`, [after / before], {
          better: 'lower',
          target: 1.1,
        }),
        figure(`files left open by ${2 * SESSIONS} sessions`, [Math.max(0, files - filesAtFirst)], {
          better: 'lower',
          target: 0,
          unit: 'files',
        }),
      ],
    };
  },
};

/** The number of open files once it is no more than that, or has had ten seconds for it. */
async function settledFiles(proxy: RunningProxy, wanted: number): Promise<number> {
  const deadline = Date.now() + (wanted === 0 ? 1_000 : PATIENCE_MS);
  for (;;) {
    const files = await openFiles(proxy.pid);
    if (files <= wanted || Date.now() > deadline) return files;
    await delay(POLL_INTERVAL_MS);
  }
}
