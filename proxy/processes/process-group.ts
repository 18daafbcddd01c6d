import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { defaultEngineSettings, type Logger } from '../../src/index.ts';
import { Admission } from '../admission.ts';
import { ConfigError, type ProxyConfig } from '../config.ts';
import type { ServicePlace } from '../service.ts';
import type { Serving } from '../serving.ts';
import { ByteLedger } from './byte-ledger.ts';
import { ANSWER_TIMEOUT_MS, type PrimaryCalls, type ServingOrder } from './calls.ts';
import type { Handlers } from './channel.ts';
import { ServingProcess } from './serving-process.ts';
import { Tickets } from './tickets.ts';

/** So many processes in a row that do not start are the end. */
const MAX_FAILURES = 5;

/** How long to wait before the next try. */
const RETRY_MS = 500;

/** How long the processes may take to end, beyond the time that they give their workers. */
const STOP_TIMEOUT_MS = 15_000;

/**
 * The processes that serve clients. The primary, which serves none, accepts all connections and hands
 * each to the next process; it counts what is limited, and carries news and questions between them.
 * A process that dies is replaced; while none is there, clients wait.
 */
export class ProcessGroup implements Serving {
  readonly lost: Promise<Error>;
  readonly #order: ServingOrder;
  readonly #logger: Logger;
  readonly #admission: Admission;
  readonly #maxWaiting: number;
  readonly #bytes = new ByteLedger<ServingProcess>(defaultEngineSettings.maxTotalResultBytes);
  readonly #processes = new Set<ServingProcess>();
  /** Clients that have come while no process was there. */
  #waiting: { readonly socket: Socket; readonly isUnixSocket: boolean }[] = [];
  #next = 0;
  #failures = 0;
  readonly #closing = new AbortController();
  #keeping: Promise<void>[] = [];
  #lose: (reason: Error) => void = () => {};

  private constructor(config: ProxyConfig, { upstream, secret, logger }: ServicePlace) {
    this.#order = { upstream, secret: secret.toString('base64'), processes: config.workers };
    this.#logger = logger;
    this.#admission = new Admission(config);
    this.#maxWaiting = config.maxClientConn + config.maxLogins;
    this.lost = new Promise((resolve) => (this.#lose = resolve));
  }

  /** Settles when all processes are ready. @throws ConfigError when one cannot serve */
  static async start(config: ProxyConfig, place: ServicePlace): Promise<ProcessGroup> {
    const group = new ProcessGroup(config, place);
    const first = Array.from({ length: config.workers }, () => group.#spawn());
    try {
      await Promise.all(
        first.map(async (process) => {
          if (!(await process.started)) throw new ConfigError(await faultOf(process));
        }),
      );
    } catch (error) {
      await group.close(AbortSignal.abort());
      throw error;
    }
    group.#keeping = first.map((process) => group.#keep(process));
    return group;
  }

  accept(socket: Socket, isUnixSocket: boolean): void {
    const ready = [...this.#processes].filter(({ isReady }) => isReady);
    const process = ready[this.#next++ % ready.length];
    if (process !== undefined) void this.#handOver(process, socket, isUnixSocket);
    else if (this.#waiting.length < this.#maxWaiting && !this.#closing.signal.aborted)
      this.#waiting.push({ socket, isUnixSocket });
    else socket.destroy();
  }

  async #handOver(process: ServingProcess, socket: Socket, isUnixSocket: boolean): Promise<void> {
    const isTaken = await process.serve(socket, isUnixSocket);
    if (!isTaken && !process.isReady && !socket.destroyed) this.accept(socket, isUnixSocket);
    else socket.destroy(); // the process has its own hold of the connection
  }

  async runningWorkers(): Promise<number> {
    const counts = await Promise.all(
      [...this.#processes].map(({ channel }) =>
        channel.ask('runningWorkers', null, ANSWER_TIMEOUT_MS),
      ),
    );
    return counts.reduce<number>((sum, count) => sum + (count ?? 0), 0);
  }

  async close(urgent: AbortSignal): Promise<void> {
    this.#closing.abort();
    for (const { socket } of this.#waiting.splice(0)) socket.destroy();
    const timeoutMs = defaultEngineSettings.shutdownTimeoutMs + STOP_TIMEOUT_MS;
    const processes = [...this.#processes];
    const closed = processes.map((process) => process.close(timeoutMs));
    const hurry = () => processes.forEach((process) => process.hurry());
    if (urgent.aborted) hurry();
    urgent.addEventListener('abort', hurry);
    await Promise.all(closed);
    urgent.removeEventListener('abort', hurry);
    await Promise.all(this.#keeping);
  }

  /** Replaces a process when it dies, and its successors. */
  async #keep(first: ServingProcess): Promise<void> {
    for (let process = first; ; process = this.#spawn()) {
      const hasStarted = await process.started;
      if (hasStarted) this.#begin();
      const end = await process.ended;
      if (this.#closing.signal.aborted) return;
      if (hasStarted) {
        this.#logger.error(
          { process: process.pid, end },
          'a serving process has died, its clients are lost: another takes its place',
        );
      } else if (!(await this.#mayTryAgain(process))) return;
    }
  }

  /** A process is ready: those who wait are its clients. */
  #begin(): void {
    this.#failures = 0;
    for (const { socket, isUnixSocket } of this.#waiting.splice(0))
      this.accept(socket, isUnixSocket);
  }

  /** After a process that has not started. @returns false when the group ends */
  async #mayTryAgain(process: ServingProcess): Promise<boolean> {
    const fault = await faultOf(process);
    this.#logger.error({ process: process.pid }, `a serving process does not start: ${fault}`);
    if (++this.#failures >= MAX_FAILURES) {
      this.#lose(new ConfigError(`serving processes do not start any more: ${fault}`));
      return false;
    }
    await delay(RETRY_MS, undefined, { signal: this.#closing.signal }).catch(() => {});
    return !this.#closing.signal.aborted;
  }

  #spawn(): ServingProcess {
    const tickets = new Tickets(this.#admission);
    const process: ServingProcess = new ServingProcess(
      this.#handlers(() => process, tickets),
      this.#logger,
    );
    this.#processes.add(process);
    void process.ended.then(() => {
      this.#processes.delete(process);
      tickets.releaseAll();
      this.#bytes.forget(process);
    });
    return process;
  }

  /** What a process may ask. */
  #handlers(
    self: () => ServingProcess,
    tickets: Tickets,
  ): Omit<Handlers<PrimaryCalls>, 'ready' | 'failed'> {
    const others = () => [...this.#processes].filter((process) => process !== self());
    return {
      order: () => this.#order,
      enter: (ticket) => tickets.enter(ticket),
      beginLogin: (ticket) => tickets.beginLogin(ticket),
      release: (ticket) => tickets.release(ticket),
      takeBytes: ({ needed, wanted }) => this.#bytes.take(self(), needed, wanted),
      giveBackBytes: (bytes) => this.#bytes.giveBack(self(), bytes),
      makeWay: () => others().forEach(({ channel }) => channel.tell('makeWay', null)),
      doubt: () => others().forEach(({ channel }) => channel.tell('doubt', null)),
      accepted: (accepted) => others().forEach(({ channel }) => channel.tell('accepted', accepted)),
      filesChanged: () => others().forEach(({ channel }) => channel.tell('filesChanged', null)),
      waits: async () => {
        const asked = others().map(({ channel }) => channel.ask('waits', null, ANSWER_TIMEOUT_MS));
        return (await Promise.all(asked)).flatMap((waits) => waits ?? []);
      },
      cancel: async (key) => {
        const asked = others().map(({ channel }) => channel.ask('cancel', key, ANSWER_TIMEOUT_MS));
        return (await Promise.all(asked)).includes(true);
      },
    };
  }
}

/** Why a process does not start. */
async function faultOf(process: ServingProcess): Promise<string> {
  return (
    process.fault ?? `a serving process has ended before it was ready (${await process.ended})`
  );
}
