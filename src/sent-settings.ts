import type { SignedContext } from './callback.ts';
import type { StatementPlace } from './session-events.ts';

/** Settings as a function has sent them. */
export type SentSettings = Readonly<Record<string, unknown>>;

/** So many are remembered; a session that changes its settings back and forth has few. */
const MAX_REMEMBERED = 4;

/**
 * What a session's functions have sent of its settings, by their digest, so that they need not send them
 * with each launch. Each role is believed for itself only: another's digest could stand for anything.
 */
export class RememberedSettings {
  readonly #sent = new Map<string, SentSettings>();

  /** @param signer who has signed the request: the kind of its context, and its role */
  remember(signer: string, digest: string, settings: SentSettings): void {
    const key = keyOf(signer, digest);
    this.#sent.delete(key);
    this.#sent.set(key, settings);
    const [oldest] = this.#sent.keys();
    if (this.#sent.size > MAX_REMEMBERED && oldest !== undefined) this.#sent.delete(oldest);
  }

  find(signer: string, digest: string): SentSettings | undefined {
    return this.#sent.get(keyOf(signer, digest));
  }
}

function keyOf(signer: string, digest: string): string {
  return `${signer} ${digest}`;
}

/** Who has signed a request, as far as it matters for what his settings are. */
export function signerOf({ kind, roleOid }: SignedContext): string {
  return `${kind} ${roleOid}`;
}

/** What a launch says of the statement in which it stands. */
export interface LaunchPlace {
  readonly context: SignedContext;
  /** See SessionEvents: undefined where the statement is not plain. */
  plainPlace(): StatementPlace | undefined;
}

/**
 * Settings that nothing can have changed: a session has sent nothing, since they were told, but statements that
 * are each a launch and its result. Then nobody need look.
 */
export class UnchangedSettings {
  /** Of the last launch in a plain statement. */
  #last:
    | {
        place: StatementPlace;
        readonly signer: string;
        readonly settings: SentSettings;
        readonly toldAt: number;
        /** Whether the functions of that statement are ours, not others of the same names. */
        isConfirmed: boolean;
      }
    | undefined;

  readonly #maxAgeMs: number;
  readonly #now: () => number;

  /**
   * @param maxAgeMs after so long, settings may be others although nobody has said so
   * @param now a clock, in milliseconds
   */
  constructor(maxAgeMs: number, now = () => performance.now()) {
    this.#maxAgeMs = maxAgeMs;
    this.#now = now;
  }

  /** The settings of a launch that says nothing of them; undefined where they may have changed. */
  find(launch: LaunchPlace): SentSettings | undefined {
    const last = this.#lastBefore(launch);
    if (last === undefined || this.#now() - last.toldAt > this.#maxAgeMs) return undefined;
    return last.settings;
  }

  /**
   * Notes the settings of a launch.
   * @param wereTold whether the launch has told them, or left them out
   * @returns whether the next one may try to leave them out: this one could have
   */
  note(launch: LaunchPlace, settings: SentSettings, wereTold: boolean): boolean {
    const place = launch.plainPlace();
    const signer = signerOf(launch.context);
    const before = this.#lastBefore(launch);
    const toldAt = wereTold || before === undefined ? this.#now() : before.toldAt;
    this.#last =
      place === undefined ? undefined : { place, signer, settings, toldAt, isConfirmed: false };
    return before?.settings === settings;
  }

  /** The launch right before, if only our functions were called between. */
  #lastBefore(launch: LaunchPlace) {
    const last = this.#last;
    if (!last?.isConfirmed || last.place.last + 1 !== launch.plainPlace()?.first) return undefined;
    return last.signer === signerOf(launch.context) ? last : undefined;
  }

  /** The functions in a plain statement are ours. */
  confirm(launch: LaunchPlace): void {
    const place = launch.plainPlace();
    if (this.#last === undefined || place?.first !== this.#last.place.first) return;
    // What ends the statement may have come meanwhile.
    this.#last.place = place;
    this.#last.isConfirmed = true;
  }
}
