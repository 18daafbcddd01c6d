import { stat } from 'node:fs/promises';
import type { Logger } from '../src/index.ts';

/**
 * What is made of some files, made anew when one of them has changed: looked at whenever it is used.
 * What cannot be made leaves the last good one in place, and is said once in the log.
 */
export class WatchedFiles<T> {
  readonly #paths: readonly string[];
  readonly #load: () => Promise<T>;
  readonly #logger: Logger;
  readonly #onChanged: () => void;
  #stamp: string;
  /** With which stamp the files were last said to be of no use. */
  #lamented: string | undefined;
  #value: T;
  #looking: Promise<T> | undefined;

  private constructor(
    paths: readonly string[],
    load: () => Promise<T>,
    logger: Logger,
    onChanged: () => void,
    stamp: string,
    value: T,
  ) {
    this.#paths = paths;
    this.#load = load;
    this.#logger = logger;
    this.#onChanged = onChanged;
    this.#stamp = stamp;
    this.#value = value;
  }

  /**
   * @param onChanged called when they have been made anew
   * @throws what `load` throws: at the start there is no last good one
   */
  static async open<T>(
    paths: readonly string[],
    load: () => Promise<T>,
    logger: Logger,
    onChanged: () => void = () => {},
  ): Promise<WatchedFiles<T>> {
    // Stamped first: what changes while it is read is read again.
    const stamp = await stampOf(paths);
    return new WatchedFiles(paths, load, logger, onChanged, stamp, await load());
  }

  /** What the files hold now. Those who ask at the same time share the answer. */
  current(): Promise<T> {
    this.#looking ??= this.#look().finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  async #look(): Promise<T> {
    const stamp = await stampOf(this.#paths);
    if (stamp === this.#stamp) return this.#value;
    try {
      this.#value = await this.#load();
      this.#stamp = stamp;
      this.#logger.info({ files: this.#paths }, 'files were read again');
      this.#onChanged();
    } catch (error) {
      const { errno, message: reason } = error as NodeJS.ErrnoException;
      // What the system could not do just now, it may do the next time; what is wrong stays wrong.
      if (errno === undefined) this.#stamp = stamp;
      if (stamp !== this.#lamented) {
        this.#logger.warn(
          { files: this.#paths, reason },
          'files have changed and cannot be used: what they held before stays in force',
        );
      }
      this.#lamented = stamp;
    }
    return this.#value;
  }
}

async function stampOf(paths: readonly string[]): Promise<string> {
  const stamps = paths.map(async (path) => {
    try {
      const { mtimeNs, ctimeNs, size, ino } = await stat(path, { bigint: true });
      return `${mtimeNs}.${ctimeNs}.${size}.${ino}`;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code;
    }
  });
  return (await Promise.all(stamps)).join(' ');
}
