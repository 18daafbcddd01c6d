import { fork, type ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { Logger } from '../../src/index.ts';
import type { PrimaryCalls, ServingCalls } from './calls.ts';
import { Channel, type Handlers } from './channel.ts';

/** How long a process may take to load its files and be ready. */
const START_TIMEOUT_MS = 60_000;

/** How long a process may be too busy to take a client. */
const HANDOVER_TIMEOUT_MS = 60_000;

const program = fileURLToPath(new URL('./main.js', import.meta.url));

/**
 * One process that serves clients, as the primary sees it, from its start to its end. It gets the
 * primary's own options and environment, and no secrets in them that the user has not put there.
 */
export class ServingProcess {
  readonly channel: Channel<ServingCalls, PrimaryCalls>;
  /** Settles when clients may come: true; or when that will never be: false. */
  readonly started: Promise<boolean>;
  /** Settles when the process is gone, with its exit code or the signal that has ended it. */
  readonly ended: Promise<number | string>;
  /** What is wrong with its options, if it has said so. */
  fault: string | undefined;
  isReady = false;
  readonly #child: ChildProcess;
  #settleStarted: (isReady: boolean) => void = () => {};

  /** @param handlers what it may ask, but for what is said of it here */
  constructor(handlers: Omit<Handlers<PrimaryCalls>, 'ready' | 'failed'>, logger: Logger) {
    this.#child = fork(program, process.argv.slice(2), {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.ended = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'));
      this.#child.on('error', (error) => {
        logger.error({ err: error }, 'trouble with a serving process');
        if (this.#child.pid === undefined) resolve(error.message); // it was never started
      });
    });
    this.started = new Promise((resolve) => (this.#settleStarted = resolve));
    const timer = setTimeout(() => this.kill(), START_TIMEOUT_MS);
    void this.started.then(() => clearTimeout(timer));
    this.channel = new Channel<ServingCalls, PrimaryCalls>(
      this.#child,
      {
        ...handlers,
        ready: () => {
          this.isReady = true;
          this.#settleStarted(true);
        },
        // It ends then.
        failed: (fault) => void (this.fault = fault),
      },
      logger,
    );
    void this.ended.then(() => {
      this.isReady = false;
      this.#settleStarted(false);
      this.channel.close();
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /**
   * Hands a client over, whose connection stays open here as well. @returns whether it was taken; if
   * not, and this process is no longer ready, it has not been read from, and another may serve it
   */
  async serve(socket: Socket, isUnixSocket: boolean): Promise<boolean> {
    const taken = await this.channel.ask('client', isUnixSocket, HANDOVER_TIMEOUT_MS, socket);
    return taken === true;
  }

  /** Ends it in order, or at once when it has not begun; settles when it is gone, by force after the time. */
  async close(timeoutMs: number): Promise<void> {
    if (!this.isReady) this.kill();
    this.channel.tell('stop', false);
    const timer = setTimeout(() => this.kill(), timeoutMs);
    await this.ended;
    clearTimeout(timer);
  }

  /** It shall not wait for its workers any more. */
  hurry(): void {
    this.channel.tell('stop', true);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
