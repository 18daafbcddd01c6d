import type { BackendConnection } from './backend-connection.ts';
import { EndableWaits } from './endable-waits.ts';
import type { ReportFields } from './errors.ts';
import { FrameRun } from './frame-run.ts';
import type { RowSink } from './row-sink.ts';

/**
 * Rows on their way from a worker's connection to a sink, without a copy: those that lie behind each other
 * in memory go as one. The connection waits while the sink is full.
 */
export class RowStream {
  rowCount = 0;
  readonly #sink: RowSink;
  #connection: BackendConnection | undefined;
  #isPaused = false;
  readonly #pid: number;
  /** The rows that were not handed on yet. */
  readonly #run = new FrameRun();
  #room: Promise<void> | undefined;
  #isStopped = false;
  readonly #waits = new EndableWaits();

  /** @param connection undefined where it is not ours any more */
  constructor(sink: RowSink, connection: BackendConnection | undefined, pid: number) {
    this.#sink = sink;
    this.#connection = connection;
    this.#pid = pid;
  }

  /** Rows, whose memory nobody uses again. They go on before anything else comes from the server. */
  add(frame: Buffer, rowCount = 1): void {
    if (this.#isStopped) return;
    this.rowCount += rowCount;
    if (!this.#run.isEmpty) {
      if (this.#run.add(frame, rowCount)) return;
      this.flush();
    }
    this.#run.add(frame, rowCount);
    queueMicrotask(() => this.flush());
  }

  flush(): void {
    const block = this.#run.take();
    if (block === undefined || this.#isStopped) return;
    const drained = this.#sink.rows(block.bytes);
    if (drained === undefined) return;
    const room = this.#waits.until(drained);
    this.#room = room;
    if (!this.#isPaused) this.#connection?.pause();
    this.#isPaused = true;
    void room.then(() => {
      if (this.#room === room) this.#goOn();
    });
  }

  #goOn(): void {
    if (this.#isPaused) this.#connection?.resume();
    this.#isPaused = false;
  }

  /** The worker has ended: its connection is others' to use. */
  letGo(): void {
    this.#goOn();
    this.#connection = undefined;
  }

  /** Settles when the sink takes more, or gets no more. */
  async hasRoom(): Promise<void> {
    this.flush();
    await this.#room;
  }

  notice(fields: ReportFields): void {
    this.flush();
    if (!this.#isStopped) this.#sink.notice(fields, this.#pid);
  }

  /** Nobody wants more of it: what comes is dropped, and does not wait for whoever reads slowly. */
  stop(): void {
    this.#isStopped = true;
    this.#run.take();
    this.#waits.end();
    this.#goOn();
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }
}
