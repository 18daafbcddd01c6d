/** Microseconds since 1970, as signatures have them. */
export const SERVER_CLOCK =
  'pg_catalog.floor(EXTRACT(epoch FROM pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000000)';

/** The clock of a server, told from time to time. In between ours is followed, which never jumps. */
export class ServerClock {
  /** How far it is ahead of ours, in milliseconds. */
  #lead = 0;

  /** @param microseconds what SERVER_CLOCK gives right now */
  set(microseconds: string | null | undefined): void {
    if (typeof microseconds === 'string')
      this.#lead = Number(microseconds) / 1_000 - performance.now();
  }

  /** How long ago that was, in milliseconds. */
  ageOf(microseconds: number): number {
    return performance.now() + this.#lead - microseconds / 1_000;
  }
}
