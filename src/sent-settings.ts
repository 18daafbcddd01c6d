import type { SignedContext } from './callback.ts';

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
  plainPlace(): number | undefined;
}

/** After so long, settings may be others although nobody has said so: the server may have read its configuration again. */
const MAX_AGE_MS = 1_000;

/**
 * Settings that nothing can have changed: a session has sent nothing, since they were told, but statements that
 * are each a launch and its result. Then nobody need look.
 */
export class UnchangedSettings {
  /** Of the last launch in a plain statement. */
  #last:
    | {
        readonly place: number;
        readonly signer: string;
        readonly settings: SentSettings;
        readonly at: number;
        /** Whether the functions of that statement are ours, not others of the same names. */
        isConfirmed: boolean;
      }
    | undefined;

  /** The settings of a launch that says nothing of them; undefined where they may have changed. */
  find(launch: LaunchPlace): SentSettings | undefined {
    const last = this.#last;
    if (!last?.isConfirmed || last.place + 1 !== launch.plainPlace()) return undefined;
    if (last.signer !== signerOf(launch.context) || performance.now() - last.at > MAX_AGE_MS)
      return undefined;
    return last.settings;
  }

  /**
   * Notes the settings of a launch.
   * @returns whether it could have gone without telling them, so that the next one may try
   */
  note(launch: LaunchPlace, settings: SentSettings): boolean {
    const place = launch.plainPlace();
    const signer = signerOf(launch.context);
    const wasKnown = this.find(launch) === settings;
    this.#last =
      place === undefined
        ? undefined
        : { place, signer, settings, at: performance.now(), isConfirmed: false };
    return wasKnown;
  }

  /** The functions in a plain statement are ours. */
  confirm(launch: LaunchPlace): void {
    if (this.#last !== undefined && this.#last.place === launch.plainPlace())
      this.#last.isConfirmed = true;
  }
}
