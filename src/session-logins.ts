import type { DatabaseText } from './errors.ts';
import type { PoolOwner } from './connection-pool.ts';
import type { Login } from './login.ts';

/** A login that is somebody's for a while. */
export interface HeldLogin {
  readonly login: Login;
  /** Gives it up; settles when what it does not need for others is closed. */
  release(): Promise<void>;
}

/** As whom one session may log workers in: as itself, and as those whose credentials the operator has stored. */
export class SessionLogins {
  /** The session's own. */
  readonly own: Login;
  readonly #hold: (role: DatabaseText) => HeldLogin | undefined;
  readonly #held = new Map<DatabaseText, HeldLogin>();

  constructor(own: Login, hold: (role: DatabaseText) => HeldLogin | undefined) {
    this.own = own;
    this.#hold = hold;
  }

  /** The login of another role of the same database; undefined without a stored credential. */
  runAs(role: DatabaseText): Login | undefined {
    const held = this.#held.get(role) ?? this.#hold(role);
    if (held !== undefined) this.#held.set(role, held);
    return held?.login;
  }

  /** Closes the connections that the session's SQL has run on. */
  async forget(owner: PoolOwner): Promise<void> {
    const logins = [this.own, ...[...this.#held.values()].map(({ login }) => login)];
    await Promise.all(logins.map((login) => login.forget(owner)));
  }

  /** Gives up what was held for the session; its own login is not among that. */
  async release(): Promise<void> {
    const held = [...this.#held.values()];
    this.#held.clear();
    await Promise.all(held.map((each) => each.release()));
  }
}
