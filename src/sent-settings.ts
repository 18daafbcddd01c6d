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
