import type { Socket } from 'node:net';
import type { Logger } from '../../src/index.ts';

/** One thing that one process asks of another, or tells it. */
export interface Call<Argument, Answer> {
  readonly argument: Argument;
  readonly answer: Answer;
}

/** What a process answers, by its name. Arguments and answers are JSON. */
export type Calls = Readonly<Record<string, Call<unknown, unknown>>>;

/** How it answers. A connection may come along, which the handler owns then. */
export type Handlers<Own extends Calls> = {
  readonly [Name in keyof Own]: (
    argument: Own[Name]['argument'],
    socket: Socket | undefined,
  ) => Own[Name]['answer'] | Promise<Own[Name]['answer']>;
};

/** A process at the other end of a pipe: a child, or, for a child, its own `process`. */
export interface Endpoint {
  readonly connected?: boolean;
  send?(message: object, socket: Socket | undefined, options: object, sent: () => void): boolean;
  on(event: 'message', listener: (message: unknown, socket: unknown) => void): unknown;
  on(event: 'disconnect', listener: () => void): unknown;
}

type Message =
  | { readonly ask: number; readonly name: string; readonly argument: unknown }
  | { readonly answer: number; readonly value: unknown }
  | { readonly tell: string; readonly argument: unknown };

/** Questions and news between two processes, in both directions, in the order in which they were sent. */
export class Channel<Others extends Calls, Own extends Calls> {
  readonly #endpoint: Endpoint;
  readonly #handlers: Handlers<Own>;
  readonly #logger: Logger;
  readonly #asked = new Map<number, (answer: unknown) => void>();
  #count = 0;
  #isClosed = false;

  constructor(endpoint: Endpoint, handlers: Handlers<Own>, logger: Logger) {
    this.#endpoint = endpoint;
    this.#handlers = handlers;
    this.#logger = logger;
    endpoint.on('message', (message, socket) => {
      void this.#receive(message as Message, socket as Socket | undefined);
    });
    endpoint.on('disconnect', () => this.close());
  }

  /**
   * The other process is gone: nothing will be answered. To be called when it has ended, too, for Node
   * does not say 'disconnect' while a connection is on its way.
   */
  close(): void {
    this.#isClosed = true;
    for (const settle of this.#asked.values()) settle(undefined);
  }

  /**
   * Asks. @param timeoutMs undefined: as long as the other process lives
   * @param socket goes along, and stays open here: the caller closes it
   * @returns undefined when it did not answer: it is gone, or has failed, or the time is over
   */
  async ask<Name extends keyof Others & string>(
    name: Name,
    argument: Others[Name]['argument'],
    timeoutMs?: number,
    socket?: Socket,
  ): Promise<Others[Name]['answer'] | undefined> {
    const ask = ++this.#count;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise((resolve) => {
        this.#asked.set(ask, resolve);
        if (timeoutMs !== undefined) timer = setTimeout(() => resolve(undefined), timeoutMs);
        this.#send({ ask, name, argument }, () => resolve(undefined), socket);
      });
    } finally {
      clearTimeout(timer);
      this.#asked.delete(ask);
    }
  }

  tell<Name extends keyof Others & string>(name: Name, argument: Others[Name]['argument']): void {
    // The other process may be gone: whoever has started it hears that from the system.
    this.#send({ tell: name, argument }, () => {});
  }

  async #receive(message: Message, socket: Socket | undefined): Promise<void> {
    if ('answer' in message) return this.#asked.get(message.answer)?.(message.value);
    const name = 'ask' in message ? message.name : message.tell;
    let value: unknown;
    try {
      value = await this.#handlers[name]?.(message.argument, socket);
    } catch (error) {
      this.#logger.error({ err: error, name }, 'a message of another process could not be handled');
    }
    if ('ask' in message) this.#send({ answer: message.ask, value }, () => {});
  }

  #send(message: Message, failed: () => void, socket?: Socket): void {
    if (this.#isClosed || this.#endpoint.connected !== true) return failed();
    // Where it fails all the same, the other process is ending.
    this.#endpoint.send?.(message, socket, { keepOpen: true }, () => {});
  }
}
