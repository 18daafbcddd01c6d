import type { AdvisoryLock } from './control-link.ts';
import type { Packet } from './conversation.ts';

/** What stands before the packets in a query text: it makes them a comment. */
const COMMENT = '--';

/** What a control link shows at one time. */
export interface Shown {
  /** Of the packets for those who may read query texts. */
  readonly query: string | undefined;
  /** For those who may not: an application_name holds one. */
  readonly applicationName: string | undefined;
  /** What the readers sleep on whose packets were not shown before. */
  readonly wakes: readonly AdvisoryLock[];
}

/**
 * The packets that are to be read, first come, first shown: as many at a time as there is room for. Where
 * there are more, whoever reads slowly gives way from time to time.
 */
export class PacketDisplay {
  readonly #queryBytes: number;
  #wide: Packet[] = [];
  #narrow: Packet[] = [];
  readonly #sleepers = new Map<Packet, AdvisoryLock>();

  /** @param queryBytes how much of a query text the server shows */
  constructor(queryBytes: number) {
    this.#queryBytes = queryBytes;
  }

  /** @param sleepsOn what its reader sleeps on until it is shown */
  add(packet: Packet, sleepsOn?: AdvisoryLock): void {
    if (sleepsOn !== undefined) this.#sleepers.set(packet, sleepsOn);
    (packet.isWide ? this.#wide : this.#narrow).push(packet);
  }

  /** It was read, or will never be. */
  remove(packet: Packet): void {
    this.#sleepers.delete(packet);
    this.#wide = this.#wide.filter((other) => other !== packet);
    this.#narrow = this.#narrow.filter((other) => other !== packet);
  }

  /** What is to be shown now; the caller shows it, and wakes who sleeps. */
  show(): Shown {
    const wide = this.#fitting;
    const narrow = this.#narrow.slice(0, 1);
    const wakes: AdvisoryLock[] = [];
    for (const packet of [...wide, ...narrow]) {
      const sleepsOn = this.#sleepers.get(packet);
      if (sleepsOn !== undefined) wakes.push(sleepsOn);
      this.#sleepers.delete(packet);
    }
    return {
      query: wide.length === 0 ? undefined : COMMENT + wide.map(({ text }) => text).join(' '),
      applicationName: narrow[0]?.text,
      wakes,
    };
  }

  /** Whether somebody waits for room. */
  get isFull(): boolean {
    return this.#narrow.length > 1 || this.#wide.length > this.#fitting.length;
  }

  /** Those who wait come first now. */
  rotate(): void {
    const shown = this.#fitting.length;
    this.#wide = [...this.#wide.slice(shown), ...this.#wide.slice(0, shown)];
    this.#narrow = [...this.#narrow.slice(1), ...this.#narrow.slice(0, 1)];
  }

  get #fitting(): readonly Packet[] {
    let bytes = COMMENT.length - 1;
    const end = this.#wide.findIndex(({ text }) => (bytes += text.length + 1) >= this.#queryBytes);
    return end < 0 ? this.#wide : this.#wide.slice(0, end);
  }
}
