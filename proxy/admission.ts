import { BackgroundError } from '../src/index.ts';

/** How many clients there may be, by PgBouncer's names where it has them. */
export interface ClientLimits {
  /** Sessions, those that log in included. */
  readonly maxClientConn: number;
  /** Logins at the same time; others wait. */
  readonly maxLogins: number;
  /** From the first byte to the end of the login: TLS, startup packet, password, the server's answer. */
  readonly clientLoginTimeoutMs: number;
}

export const defaultClientLimits: ClientLimits = {
  maxClientConn: 1_000,
  maxLogins: 100,
  clientLoginTimeoutMs: 60_000,
};

/** Who counts clients. CancelRequests are none: they must get through when nothing else does. */
export interface Admittance {
  /**
   * Takes note of a connection until what this gives is called: when it has said what it wants, or is
   * gone. Of too many the oldest is sent away, for whoever means it well speaks at once.
   */
  knock(sendAway: () => void): () => void;
  /**
   * Lets a client in, who calls what this gives when it leaves.
   * @throws BackgroundError 53300 when there are too many
   */
  enter(): (() => void) | Promise<() => void>;
  /**
   * Waits until a login may begin, first come, first served; whoever waits calls what this gives when
   * the login has ended. @throws the signal's reason when it aborts first
   */
  beginLogin(signal: AbortSignal): Promise<() => void>;
}

/** Counts the sessions and logins of this process, or those that it is told of. */
export class Admission implements Admittance {
  readonly #limits: Pick<ClientLimits, 'maxClientConn' | 'maxLogins'>;
  #sessions = 0;
  #logins = 0;
  readonly #waiting = new Set<() => void>();
  /** How those are sent away who have not said yet what they want, oldest first. */
  readonly #strangers = new Set<() => void>();

  constructor(limits: Pick<ClientLimits, 'maxClientConn' | 'maxLogins'>) {
    this.#limits = limits;
  }

  knock(sendAway: () => void): () => void {
    this.#strangers.add(sendAway);
    const [oldest] = this.#strangers;
    if (this.#strangers.size > this.#limits.maxClientConn + this.#limits.maxLogins) {
      this.#strangers.delete(oldest as () => void);
      oldest?.();
    }
    return () => this.#strangers.delete(sendAway);
  }

  enter(): () => void {
    if (this.#sessions >= this.#limits.maxClientConn)
      throw tooManyClients(this.#limits.maxClientConn);
    this.#sessions++;
    return once(() => this.#sessions--);
  }

  async beginLogin(signal: AbortSignal): Promise<() => void> {
    if (this.#logins < this.#limits.maxLogins) {
      this.#logins++;
    } else {
      await new Promise<void>((resolve, reject) => {
        const proceed = () => {
          signal.removeEventListener('abort', giveUp);
          resolve();
        };
        const giveUp = () => {
          this.#waiting.delete(proceed);
          reject(signal.reason as Error);
        };
        signal.throwIfAborted();
        this.#waiting.add(proceed);
        signal.addEventListener('abort', giveUp, { once: true });
      });
    }
    return once(() => {
      // The place is handed over: nobody who comes just now gets it first.
      const [next] = this.#waiting;
      if (next === undefined) {
        this.#logins--;
        return;
      }
      this.#waiting.delete(next);
      next();
    });
  }
}

/** What one client too many is told. */
export function tooManyClients(maxClientConn: number): BackgroundError {
  return new BackgroundError('53300', 'no more connections allowed (max_client_conn)', {
    hint: `The proxy serves ${maxClientConn} clients at a time: see --max-client-conn.`,
  });
}

/** An action that is done at the first call only. */
export function once(action: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    action();
  };
}
