import { BackgroundError } from '../../src/index.ts';
import {
  Admission,
  once,
  tooManyClients,
  type Admittance,
  type ClientLimits,
} from '../admission.ts';
import { ANSWER_TIMEOUT_MS, type PrimaryCalls, type ServingCalls, type Ticket } from './calls.ts';
import type { Channel } from './channel.ts';

/** The admission of a serving process: the primary counts, for all of them. */
export class SharedAdmission implements Admittance {
  readonly #primary: Channel<PrimaryCalls, ServingCalls>;
  readonly #maxClientConn: number;
  readonly #strangers: Admission;
  #count = 0;

  /** @param processes how many share the limits; of connections that are silent each may have its part */
  constructor(
    primary: Channel<PrimaryCalls, ServingCalls>,
    { maxClientConn, maxLogins }: Pick<ClientLimits, 'maxClientConn' | 'maxLogins'>,
    processes: number,
  ) {
    this.#primary = primary;
    this.#maxClientConn = maxClientConn;
    this.#strangers = new Admission({
      maxClientConn: Math.floor(maxClientConn / processes),
      maxLogins: Math.ceil(maxLogins / processes),
    });
  }

  knock(sendAway: () => void): () => void {
    return this.#strangers.knock(sendAway);
  }

  async enter(): Promise<() => void> {
    const ticket = ++this.#count;
    const hasPlace = await this.#primary.ask('enter', ticket, ANSWER_TIMEOUT_MS);
    const leave = this.#releaseOf(ticket);
    if (hasPlace === true) return leave;
    leave(); // it may have been given a place too late
    if (hasPlace === false) throw tooManyClients(this.#maxClientConn);
    throw new BackgroundError(
      '57P03',
      'the proxy does not answer in time whether there is a place',
    );
  }

  async beginLogin(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const ticket = ++this.#count;
    const end = this.#releaseOf(ticket);
    // Then it is answered: nobody waits any more.
    signal.addEventListener('abort', end);
    try {
      await this.#primary.ask('beginLogin', ticket);
      signal.throwIfAborted();
      return end;
    } finally {
      signal.removeEventListener('abort', end);
    }
  }

  #releaseOf(ticket: Ticket): () => void {
    return once(() => this.#primary.tell('release', ticket));
  }
}
