// One serving process; see process-group.ts. Its parent is the primary, and its options are the primary's.
import type { Socket } from 'node:net';
import { commandLine, ConfigError, type ProxyConfig } from '../config.ts';
import { openLog } from '../log.ts';
import { Service } from '../service.ts';
import { aborted } from '../stop-signals.ts';
import { ANSWER_TIMEOUT_MS, type PrimaryCalls, type ServingCalls } from './calls.ts';
import { Channel } from './channel.ts';
import { readCredential } from './credential-message.ts';
import { peersThrough } from './peers-through.ts';
import { SharedAdmission } from './shared-admission.ts';

/** How long closing may take when the primary is gone, and nobody is there to end us by force. */
const ORPHAN_TIMEOUT_MS = 10_000;

// The terminal and the system's service manager say it to the primary too, which tells us.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

await commandLine({
  run: serve,
  printConfig: () => {},
  printSql: async () => {},
  printVerifier: async () => {},
}).parseAsync();

async function serve(config: ProxyConfig): Promise<void> {
  const logger = openLog(config.logLevel);
  const asked = new AbortController();
  const urgent = new AbortController();
  let service: Service | undefined;
  const primary = new Channel<PrimaryCalls, ServingCalls>(
    process,
    {
      client: (isUnixSocket, socket) => {
        // It may have gone on the way.
        if (socket !== undefined) service?.proxy.accept(asAccepted(socket), isUnixSocket);
        return true;
      },
      makeWay: () => service?.engine.makeWay({ tellPeers: false }),
      doubt: () => service?.engine.doubt({ tellPeers: false }),
      accepted: ({ role, database, credential }) =>
        service?.engine.useCredential(role, database, readCredential(credential)),
      filesChanged: () => service?.lookAtFiles(),
      waits: () => service?.engine.waits ?? [],
      cancel: (key) => service?.proxy.cancel(key) ?? false,
      runningWorkers: () => service?.engine.runningWorkers ?? 0,
      stop: (isUrgent) => {
        asked.abort();
        if (isUrgent) urgent.abort();
      },
    },
    logger,
  );
  process.on('disconnect', () => {
    asked.abort();
    urgent.abort();
    setTimeout(() => process.exit(1), ORPHAN_TIMEOUT_MS).unref();
  });
  const order = await primary.ask('order', null);
  if (order === undefined) return;
  const { upstream, secret, processes } = order;
  try {
    service = await Service.open(config, {
      upstream,
      secret: Buffer.from(secret, 'base64'),
      logger,
      others: {
        peers: peersThrough(primary),
        filesChanged: () => primary.tell('filesChanged', null),
        neighbours: {
          admission: new SharedAdmission(primary, config, processes),
          cancelElsewhere: async (key) =>
            // The others have as much time to answer the primary.
            (await primary.ask('cancel', key, 2 * ANSWER_TIMEOUT_MS)) === true,
        },
      },
    });
    primary.tell('ready', null);
    await aborted(asked.signal);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    // Asked, not told: it must have arrived before the end of this process is noticed.
    await primary.ask('failed', error.message, ANSWER_TIMEOUT_MS);
  } finally {
    await service?.close(urgent.signal);
    if (process.connected) process.disconnect();
  }
}

/** A connection that came from another process, as if it had been accepted here: see Listeners. */
function asAccepted(socket: Socket): Socket {
  socket.allowHalfOpen = true;
  return socket.pause();
}
