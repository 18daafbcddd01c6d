import type { Socket } from 'node:net';
import { drained, type BackgroundEngine, type Logger, type OpenedSession } from '../src/index.ts';
import { Interceptor } from './interceptor.ts';
import { pump } from './relay.ts';
import { fatalResponse, logEnd } from './replies.ts';
import { asksForReplication } from './startup.ts';
import { logIn, type ClientStart, type ServerTarget, type SessionLogin } from './session-login.ts';

/** How long a client may take to read what the server said before it closed the connection. */
const FAREWELL_TIMEOUT_MS = 60_000;

/** So much waits for a client that reads slowly while the server has to be heard: rows of a worker, and little else. */
const MAX_UNREAD_BYTES = 4 * 1024 * 1024;

/** Where the stream towards the client stands. */
export interface Stream {
  isBetweenMessages: () => boolean;
}

/** What a relayed session needs of the proxy. */
export interface RelayServices extends ServerTarget {
  readonly engine: BackgroundEngine;
  readonly logger: Logger;
  /** See SessionServices. */
  readonly cancels: Map<string, () => boolean>;
}

/**
 * Logs a client's session in at the server and moves bytes both ways until both are gone. Owns the
 * server's socket.
 * @param onLoggedIn called when the server has decided
 */
export async function relaySession(
  start: ClientStart,
  parameters: ReadonlyMap<string, string>,
  services: RelayServices,
  stream: Stream,
  onLoggedIn: () => void,
): Promise<void> {
  const client = start.socket;
  const isReplication = asksForReplication(parameters);
  // Names that are no UTF-8 are all the same to us: such sessions are relayed, and no more.
  const names = [parameters.get('user') ?? '', parameters.get('database') ?? ''];
  const isKnown = names[0] !== '' && !names.join('').includes('\ufffd');
  let login: SessionLogin | undefined;
  const toServer = (bytes: Buffer) => void login?.server.write(bytes);
  let cancelKey: string | undefined;
  const streams = new Interceptor({
    onBackendKey: (pid, key) => {
      if (opened !== undefined) opened.session.pid = pid;
      cancelKey = key.toString('hex');
      services.cancels.set(cancelKey, () => streams.repeater.cancel());
    },
    onAltered: () => services.engine.doubt(),
    onDatabaseStatement: () => services.engine.makeWay(),
    toServer,
    toClient: (bytes) => client.write(bytes),
    clientDrained: () => drained(client),
    replayClient: (chunks) => {
      for (const chunk of chunks) streams.fromClient.push(chunk, toServer);
      if (client.readableEnded) endServer();
      else client.resume();
    },
  });
  /** The client has closed its half, and all that it has said was sent. */
  const endServer = () => {
    streams.fromClient.finish(toServer);
    login?.server.end();
  };
  const opened: OpenedSession | undefined =
    isReplication || !isKnown ? undefined : services.engine.openSession(parameters, streams);
  try {
    if (opened !== undefined) streams.session = opened.session;
    login = await logIn(start, opened, services);
    onLoggedIn();
    if (login === undefined || client.destroyed) return;
    const { address, user } = start;
    if (login.refusal === undefined) {
      opened?.accepted(start.proof.credential);
      services.logger.info({ user, address }, 'session began');
    } else {
      // Whoever guesses passwords is seen by the server with our address only.
      const { code, message } = login.refusal;
      services.logger.warn({ code, user, address }, `login refused by the server: ${message}`);
    }
    const { server, fromServer: greeting, fromClient: impatience } = login;
    stream.isBetweenMessages = () => !isReplication && streams.fromServer.isBetweenMessages;
    await new Promise<void>((resolve) => {
      const fail = (error: unknown) => {
        logEnd(error, services.logger);
        client.end(fatalResponse(error));
        server.destroy();
      };
      let left = 2;
      let frozen: NodeJS.Timeout | undefined;
      const onClosed = () => {
        if (--left === 0) resolve();
      };
      whenClosed(client, () => {
        clearTimeout(frozen);
        server.destroySoon();
        onClosed();
      });
      whenClosed(server, () => {
        // What the server said last is delivered first; what the client still says is for nobody.
        client.end();
        client.resume();
        client.destroySoon();
        if (!client.closed) frozen = setTimeout(() => client.destroy(), FAREWELL_TIMEOUT_MS);
        onClosed();
      });
      server.on('end', () => server.end());
      server.on('error', (error) =>
        services.logger.debug({ err: error }, 'server connection failed'),
      );
      const { fromClient, fromServer, repeater } = streams;
      if (isReplication) {
        client.write(greeting);
        for (const chunk of impatience) server.write(chunk);
        pump(server, client, (chunk, forward) => forward(chunk), fail);
        pump(client, server, (chunk, forward) => forward(chunk), fail);
      } else {
        fromServer.push(greeting, (bytes) => client.write(bytes));
        for (const chunk of impatience) fromClient.push(chunk, toServer);
        pump(
          server,
          client,
          (chunk, forward) => {
            if (!streams.isConcerned) {
              fromServer.push(chunk, forward);
              streams.serverChunkDone();
              return false;
            }
            // In pieces, perhaps with something else between, but in one write.
            client.cork();
            try {
              fromServer.push(chunk, (bytes) => client.write(Buffer.from(bytes)));
              streams.serverChunkDone();
            } finally {
              client.uncork();
            }
            return streams.mustHearServer && client.writableLength < MAX_UNREAD_BYTES;
          },
          fail,
        );
        pump(
          client,
          server,
          (chunk, forward) => {
            if (!repeater.isHolding) fromClient.push(chunk, forward);
            else if (!repeater.hold(chunk)) client.pause();
          },
          fail,
          () => {
            // What is held comes first.
            if (!repeater.isHolding) endServer();
          },
        );
      }
      client.resume();
      server.resume();
    });
  } finally {
    login?.server.destroy();
    streams.repeater.close();
    if (cancelKey !== undefined) services.cancels.delete(cancelKey);
    await opened?.close();
  }
}

/** Calls back when a socket has closed, also when that was earlier. */
function whenClosed(socket: Socket, callback: () => void): void {
  if (socket.closed) setImmediate(callback);
  else socket.once('close', callback);
}
