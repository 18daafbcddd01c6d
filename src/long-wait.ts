import type { AdvisoryLock, ControlLink } from './control-link.ts';
import type { Conversation } from './conversation.ts';

/** What a long wait needs of its session. */
export interface WaitLinks {
  /** Does something with the control link, and once more with a new one when it is lost meanwhile. */
  withLink<T>(action: (link: ControlLink) => Promise<T>): Promise<T>;
  /** Settles when the function has read all of a message. */
  tell(conversation: Conversation, message: object): Promise<void>;
}

/** Tells a function that we live, and nothing more yet. */
const STILL_WAITING = { wait: true };

/**
 * A function that sleeps on an advisory lock, which the control link holds until the answer is shown. Now and
 * then the function wakes by itself and asks whether we live.
 */
export class LongWait {
  readonly #conversation: Conversation;
  readonly #links: WaitLinks;
  #lock: AdvisoryLock | undefined;

  constructor(conversation: Conversation, links: WaitLinks) {
    this.#conversation = conversation;
    this.#links = links;
  }

  /** The lock that the function may sleep on. */
  get lock(): AdvisoryLock | undefined {
    return this.#lock;
  }

  /** Lets the function sleep until there is an answer. @returns the answer, of which it knows nothing yet */
  async until<T>(answer: Promise<T>): Promise<T> {
    let isAnswered = false;
    const hasAnswer = () => isAnswered;
    let isAsked = false;
    const goOn = () => this.#conversation.awake();
    const settle = () => {
      isAnswered = true;
      goOn();
    };
    answer.then(settle, settle);
    while (!hasAnswer()) {
      await this.#links.withLink((link) => {
        isAsked = this.#lock?.link === link;
        if (!isAsked) this.#lock = link.lock(this.#conversation.wakeKey, goOn);
        return Promise.resolve();
      });
      // Not because of a lost link, so by the function.
      if (isAsked) await this.#links.tell(this.#conversation, STILL_WAITING);
      if (!hasAnswer()) await this.#conversation.untilAwake();
    }
    return answer;
  }

  /** Nobody sleeps any more, or is to. */
  end(): void {
    this.#lock?.release();
  }
}
