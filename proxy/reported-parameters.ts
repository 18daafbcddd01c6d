import { decodeParameterStatus } from '../src/index.ts';

/** Encodings in which a byte below 128 always is that ASCII character, as the server reports them. */
const READABLE_ENCODINGS = /^(UTF8|SQL_ASCII|LATIN\d+|ISO_8859_\d|WIN\d+|KOI8[RU])$/;

/** What the server has reported of the session's settings, by ParameterStatus. */
export class ReportedParameters {
  readonly #values = new Map<string, string>();
  #areReadable = false;

  get values(): ReadonlyMap<string, string> {
    return this.#values;
  }

  /** Whether the texts that pass can be read without knowing more about their encoding. */
  get areReadable(): boolean {
    return this.#areReadable;
  }

  /** Whether the client is sent bytes as the database has them. */
  get sharesEncoding(): boolean {
    return this.#values.get('client_encoding') === this.#values.get('server_encoding');
  }

  /** ParameterStatus. */
  take(frame: Buffer): void {
    const { name, value } = decodeParameterStatus(frame);
    this.#values.set(name, value);
    this.#areReadable =
      this.#values.get('standard_conforming_strings') === 'on' &&
      READABLE_ENCODINGS.test(this.#values.get('client_encoding') ?? '');
  }
}
