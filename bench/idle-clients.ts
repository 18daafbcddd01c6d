import { repeatAtOnce } from './at-once.ts';
import { figure, side } from './figure.ts';
import type { Measurement } from './measurement.ts';
import { residentMemory } from './process-usage.ts';
import { RawReader } from './raw-reader.ts';
import { startStubServer } from './stub-server.ts';
import { takeTurns } from './turns.ts';
import type { Workbench } from './workbench.ts';

const CLIENTS = 1000;
const WARM_UP_CLIENTS = 100;
const LOGINS_AT_ONCE = 20;

/** What an idle client costs the proxy in memory. */
export const idleClients: Measurement = {
  name: 'idle-clients',
  title: `memory of the proxy for each of ${CLIENTS} idle clients`,
  needs: [],
  async run(bench) {
    const stub = await startStubServer(bench.resources);
    const samples = await takeTurns(
      bench,
      { proxy: () => memoryOfClient(bench, stub) },
      {
        title: 'a new proxy each time: memory for each client',
        rounds: bench.isQuick ? 1 : 3,
        show: (bytes) => `${(bytes / 1024).toFixed(1)} KiB`,
      },
    );
    const kibibytes = samples.proxy.map((bytes) => bytes / 1024);
    return {
      sides: [side('memory for each idle client', 'KiB', kibibytes)],
      figures: [
        figure('memory of the proxy for each idle client', kibibytes, {
          unit: 'KiB',
          better: 'lower',
        }),
      ],
    };
  },
};

async function memoryOfClient(bench: Workbench, stub: number): Promise<number> {
  const proxy = await bench.startProxy(['--max-client-conn', String(2 * CLIENTS)], stub);
  const open = (clients: number) =>
    repeatAtOnce(clients, LOGINS_AT_ONCE, () => RawReader.connect(proxy.port));
  // What the first ones cost is compiled code.
  const first = await open(WARM_UP_CLIENTS);
  const before = await residentMemory(proxy.pid);
  const clients = await open(CLIENTS);
  const after = await residentMemory(proxy.pid);
  for (const client of [...first, ...clients]) client.destroy();
  await proxy.stop();
  return (after - before) / CLIENTS;
}
