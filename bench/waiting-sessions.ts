import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { repeatAtOnce } from './at-once.ts';
import { figure, side } from './figure.ts';
import type { Measurement } from './measurement.ts';
import { processorTime } from './process-usage.ts';

const SESSIONS = 500;
const LOGINS_AT_ONCE = 10;
/** Longer than the measurement: the workers are ended when it is over. */
const SLEEP = 'SELECT pg_sleep(3600)';
/** Half a minute after its call a function wakes for the first time, and sees all the backends that have come since. */
const SETTLE_MS = 35_000;
/** In which each function wakes once. */
const WINDOW_SECONDS = 30;
const PATIENCE_MS = 60_000;
const POLL_INTERVAL_MS = 100;

/** The processor time that waiting takes: of the proxy and of the server. */
export const waitingSessions: Measurement = {
  name: 'waiting-sessions',
  title: `processor time while ${SESSIONS} sessions wait for their workers`,
  needs: [],
  async run(bench) {
    const server = await bench.server('large');
    const proxy = await bench.startProxyWithExtension('large');
    const clients: pg.Client[] = [];
    const waits: Promise<unknown>[] = [];
    let refusal: string | undefined;
    bench.print('');
    const usage = { proxy: [] as number[], server: [] as number[] };
    await bench.withClient(server.port, async (observer) => {
      try {
        await repeatAtOnce(SESSIONS, LOGINS_AT_ONCE, async () => {
          if (refusal !== undefined) return;
          try {
            const client = await bench.connect(proxy.port);
            clients.push(client);
            waits.push(...(await startWaiting(client)));
          } catch (error) {
            refusal ??= describe(error);
          }
        });
        if (refusal !== undefined) bench.print(`  no more could be started: ${refusal}`);
        await untilAllSleep(observer, waits.length);
        bench.print(`  ${waits.length} of ${SESSIONS} sessions wait`);
        await delay(SETTLE_MS);
        for (let window = 1; window <= (bench.isQuick ? 1 : 2); window++) {
          const [ours, theirs] = await Promise.all([
            percentOfCore(proxy.pid),
            percentOfCore(server.pid),
          ]);
          usage.proxy.push(ours);
          usage.server.push(theirs);
          bench.print(`  proxy ${ours.toFixed(1)} %, server ${theirs.toFixed(1)} % of a core`);
        }
      } finally {
        await observer.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1 AND pid <> pg_backend_pid()`,
          [`%${SLEEP}%`],
        );
        await Promise.all(waits);
        await Promise.all(clients.map((client) => client.end()));
      }
    });
    const goal = { better: 'lower', target: 5, unit: '% of a core' } as const;
    return {
      sides: Object.entries(usage).map(([name, percents]) =>
        side(`${SESSIONS} sessions wait: ${name}`, '% of a core', percents),
      ),
      figures: [
        figure('sessions that wait at once', [waits.length], {
          unit: 'sessions',
          better: 'higher',
          target: SESSIONS,
        }),
        figure('processor of the proxy while they wait', usage.proxy, goal),
        figure('processor of the server while they wait', usage.server, goal),
      ],
    };
  },
};

/** @returns what settles when the wait is over, for whatever reason; in a list, for it is not awaited */
async function startWaiting(client: pg.Client): Promise<[Promise<unknown>]> {
  const { rows } = await client.query<{ pid: number; cookie: string }>(
    `SELECT pid, cookie FROM pg_background_launch_v2('${SLEEP}')`,
  );
  const { pid, cookie } = rows[0] as { pid: number; cookie: string };
  const wait = client.query('SELECT pg_background_wait_v2($1, $2)', [pid, cookie]);
  return [wait.catch(() => {})];
}

async function untilAllSleep(observer: pg.Client, wanted: number): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const { rows } = await observer.query<{ sleeping: number }>(
      `SELECT count(*)::int AS sleeping FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE $1`,
      [`%${SLEEP}%`],
    );
    const sleeping = rows[0]?.sleeping ?? 0;
    if (sleeping >= wanted) return;
    if (Date.now() > deadline) throw new Error(`only ${sleeping} of ${wanted} workers run`);
    await delay(POLL_INTERVAL_MS);
  }
}

/** The server's message, and what it says behind it. */
function describe(error: unknown): string {
  const { message, detail } = error as { message: string; detail?: string };
  return detail === undefined ? message : `${message} (${detail})`;
}

async function percentOfCore(pid: number): Promise<number> {
  const [began, before] = [process.hrtime.bigint(), await processorTime(pid)];
  await delay(WINDOW_SECONDS * 1000);
  const used = (await processorTime(pid)) - before;
  return (used / (Number(process.hrtime.bigint() - began) / 1e9)) * 100;
}
