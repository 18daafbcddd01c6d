import type { Socket } from 'node:net';
import type { ProxyConfig } from './config.ts';
import { ProcessGroup } from './processes/process-group.ts';
import { Service, type ServicePlace } from './service.ts';

/** Who serves the clients that have come: this process, or others. */
export interface Serving {
  /** Serves a client, whose connection, a paused one, is its own from now on. */
  accept(socket: Socket, isUnixSocket: boolean): void;
  /** How many background workers run their SQL right now. */
  runningWorkers(): Promise<number>;
  /** Settles with the reason when it cannot serve any more; never rejects. */
  readonly lost: Promise<Error>;
  /** Ends the sessions, then all else when the workers are done, or the matter is urgent. */
  close(urgent: AbortSignal): Promise<void>;
}

/**
 * Settles when clients may come. With one process nothing is forked.
 * @throws ConfigError when what an option names cannot be used
 */
export async function startServing(config: ProxyConfig, place: ServicePlace): Promise<Serving> {
  if (config.workers > 1) return ProcessGroup.start(config, place);
  const service = await Service.open(config, place);
  return {
    accept: (socket, isUnixSocket) => service.proxy.accept(socket, isUnixSocket),
    runningWorkers: () => Promise.resolve(service.engine.runningWorkers),
    lost: new Promise(() => {}),
    close: (urgent) => service.close(urgent),
  };
}
