import type { AdvisoryLock, ControlLink } from './control-link.ts';
import type { Conversation } from './conversation.ts';

/** What a long wait needs of its session. */
export interface WaitLinks {
  /** Does something with the control link, and once more with a new one when it is lost meanwhile. */
  withLink<T>(action: (link: ControlLink) => Promise<T>): Promise<T>;
  /** Settles when the function has read all of a message. */
  tell(conversation: Conversation, message: object): Promise<void>;
}

/**
 * A function that sleeps on an advisory lock of the control link until its answer is shown: showing it lets go
 * of the lock. Now and then it wakes by itself and asks whether we live.
 */
export class LongWait {
  readonly #conversation: Conversation;
  readonly #links: WaitLinks;
  #lock: AdvisoryLock | undefined;

  constructor(conversation: Conversation, links: WaitLinks) {
    this.#conversation = conversation;
    this.#links = links;
  }

  /** The lock that the function sleeps on, once it was told to. */
  get lock(): AdvisoryLock | undefined {
    return this.#lock;
  }

  /** Lets the function sleep until there is an answer. @returns the answer, of which it knows nothing yet */
  async until<T>(answer: Promise<T>): Promise<T> {
    let isAnswered = false;
    const hasAnswer = () => isAnswered;
    const goOn = () => this.#conversation.awake();
    void answer.then(() => {
      isAnswered = true;
      goOn();
    });
    while (!hasAnswer()) {
      const lock = await this.#links.withLink(async (link) =>
        this.#lock?.link === link ? this.#lock : link.lock(goOn),
      );
      this.#lock = lock;
      if (hasAnswer()) break;
      await this.#links.tell(this.#conversation, { wait: lock.key });
      await this.#conversation.untilAwake();
    }
    return answer;
  }

  /** Nobody sleeps any more, or is to. */
  end(): void {
    this.#lock?.release();
  }
}
