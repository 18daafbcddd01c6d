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
  send?(
    message: object,
    socket: Socket | undefined,
    options: object,
    sent: (error: Error | null) => void,
  ): boolean;
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

  constructor(endpoint: Endpoint, handlers: Handlers<Own>, logger: Logger) {
    this.#endpoint = endpoint;
    this.#handlers = handlers;
    this.#logger = logger;
    endpoint.on('message', (message, socket) => {
      void this.#receive(message as Message, socket as Socket | undefined);
    });
    endpoint.on('disconnect', () => {
      for (const settle of this.#asked.values()) settle(undefined);
    });
  }

  /**
   * Asks. @param timeoutMs undefined: as long as the other process lives
   * @returns undefined when it did not answer: it is gone, or has failed, or the time is over
   */
  async ask<Name extends keyof Others & string>(
    name: Name,
    argument: Others[Name]['argument'],
    timeoutMs?: number,
  ): Promise<Others[Name]['answer'] | undefined> {
    const ask = ++this.#count;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise((resolve) => {
        this.#asked.set(ask, resolve);
        if (timeoutMs !== undefined) timer = setTimeout(() => resolve(undefined), timeoutMs);
        this.#send({ ask, name, argument }, undefined, () => resolve(undefined));
      });
    } finally {
      clearTimeout(timer);
      this.#asked.delete(ask);
    }
  }

  /** Says something; a connection that goes along is no longer the caller's, and closed when it cannot be sent. */
  tell<Name extends keyof Others & string>(
    name: Name,
    argument: Others[Name]['argument'],
    socket?: Socket,
  ): void {
    this.#send({ tell: name, argument }, socket, () => socket?.destroy());
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
    if ('ask' in message) this.#send({ answer: message.ask, value }, undefined, () => {});
  }

  #send(message: Message, socket: Socket | undefined, failed: () => void): void {
    // The other process may be gone: whoever has started it hears that from the system.
    if (this.#endpoint.connected !== true) return failed();
    this.#endpoint.send?.(message, socket, {}, (error) => {
      if (error !== null) failed();
    });
  }
}
