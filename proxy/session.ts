import type { Socket } from 'node:net';
import {
  BackgroundError,
  type BackgroundEngine,
  type Logger,
  type OpenedSession,
} from '../src/index.ts';
import { Interceptor } from './interceptor.ts';
import { pump } from './relay.ts';
import { fatalResponse } from './replies.ts';
import { connectToServer, type ServerTarget } from './server-connection.ts';
import { logIn, type SessionLogin } from './session-login.ts';
import { readFirstPacket, type FirstPacket } from './startup.ts';

/** How long a client may take to read what the server said before it closed the connection. */
const FAREWELL_TIMEOUT_MS = 60_000;

/** The same when the proxy itself ends. */
const SHUTDOWN_FAREWELL_MS = 5_000;

const SHUTDOWN = new BackgroundError(
  '57P01',
  'terminating connection due to administrator command',
);

/** Where the stream towards the client stands. */
interface Stream {
  isBetweenMessages: () => boolean;
}

/** What a session needs of the proxy. */
export interface SessionServices extends ServerTarget {
  readonly engine: BackgroundEngine;
  readonly logger: Logger;
  readonly clientLoginTimeoutMs: number;
  /**
   * What a CancelRequest is for that the server could do nothing about: by its pid and key in hex.
   * Says whether it was taken care of.
   */
  readonly cancels: Map<string, () => boolean>;
}

/**
 * One client connection and its one server connection, from the first packet to the last byte. Owns
 * both sockets: when it settles, both are closed and the engine has forgotten the session.
 */
export async function serveClient(
  client: Socket,
  services: SessionServices,
  shutdown: AbortSignal,
): Promise<void> {
  const { logger } = services;
  client.on('error', (error) => logger.debug({ err: error }, 'client connection failed'));
  client.setNoDelay(true);
  client.setKeepAlive(true);
  const stream: Stream = { isBetweenMessages: () => true };
  let farewell: NodeJS.Timeout | undefined;
  const stop = () => {
    // As the server's own words: between two messages, or not at all.
    if (stream.isBetweenMessages()) client.write(fatalResponse(SHUTDOWN));
    client.destroySoon();
    farewell = setTimeout(() => client.destroy(), SHUTDOWN_FAREWELL_MS);
  };
  client.on('close', () => clearTimeout(farewell));
  shutdown.addEventListener('abort', stop);
  const timer = setTimeout(() => {
    client.end(
      fatalResponse(
        new BackgroundError('08P01', 'client_login_timeout: no startup packet came in time'),
      ),
    );
    client.destroySoon();
  }, services.clientLoginTimeoutMs);
  try {
    const first = await readFirstPacket(client);
    clearTimeout(timer);
    if (first?.kind === 'cancel') await forwardCancel(client, first.packet, services);
    else if (first !== undefined) await relay(client, first, services, stream);
  } catch (error) {
    report(error, logger);
    if (!client.destroyed) client.end(fatalResponse(error));
  } finally {
    clearTimeout(timer);
    shutdown.removeEventListener('abort', stop);
    client.destroySoon();
  }
}

/** The client's socket stays open until the server has closed its own: then the signal was sent. */
async function forwardCancel(
  client: Socket,
  packet: Buffer,
  services: SessionServices,
): Promise<void> {
  if (services.cancels.get(packet.toString('hex', 8))?.()) return;
  const server = await connectToServer(services);
  try {
    await new Promise<void>((resolve) => {
      server.on('close', () => resolve());
      server.on('end', () => server.end());
      server.on('data', () => {});
      server.on('error', () => {});
      client.on('close', () => server.destroySoon());
      server.write(packet);
    });
  } finally {
    server.destroy();
  }
}

async function relay(
  client: Socket,
  first: FirstPacket & { kind: 'startup' },
  services: SessionServices,
  stream: Stream,
): Promise<void> {
  const { parameters } = first;
  const isReplication = /^(true|on|yes|1|database)$/i.test(parameters.get('replication') ?? '');
  // Names that are no UTF-8 are all the same to us: such sessions are relayed, and no more.
  const names = [parameters.get('user') ?? '', parameters.get('database') ?? ''];
  const isKnown = names[0] !== '' && !names.join('').includes('\ufffd');
  let login: SessionLogin | undefined;
  let cancelKey: string | undefined;
  const streams = new Interceptor({
    onBackendKey: (pid, key) => {
      if (opened !== undefined) opened.session.pid = pid;
      cancelKey = key.toString('hex');
      services.cancels.set(cancelKey, () => streams.repeater.cancel());
    },
    onAltered: () => services.engine.doubtDefaults(),
    toServer: (bytes) => void login?.server.write(bytes),
    toClient: (bytes) => void client.write(bytes),
    replayClient: (chunks) => {
      for (const chunk of chunks)
        streams.fromClient.push(chunk, (bytes) => void login?.server.write(bytes));
      client.resume();
    },
  });
  const opened: OpenedSession | undefined =
    isReplication || !isKnown ? undefined : services.engine.openSession(parameters, streams);
  try {
    if (opened === undefined) {
      login = await passStartup(first, services);
    } else {
      streams.session = opened.session;
      login = await logIn(client, first, opened, services);
    }
    if (login === undefined || client.destroyed) return;
    const { server, fromServer: greeting, fromClient: impatience } = login;
    stream.isBetweenMessages = () => !isReplication && streams.fromServer.isBetweenMessages;
    await new Promise<void>((resolve) => {
      const fail = (error: unknown) => {
        report(error, services.logger);
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
        for (const chunk of impatience) server.write(chunk);
        pump(server, client, (chunk, forward) => forward(chunk), fail);
        pump(client, server, (chunk, forward) => forward(chunk), fail);
      } else {
        fromServer.push(greeting, (bytes) => client.write(bytes));
        for (const chunk of impatience) fromClient.push(chunk, (bytes) => server.write(bytes));
        pump(
          server,
          client,
          (chunk, forward) => {
            fromServer.push(chunk, forward);
            streams.serverChunkDone();
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

/** A session that is only forwarded. */
async function passStartup(
  { packet, rest }: FirstPacket & { kind: 'startup' },
  services: SessionServices,
): Promise<SessionLogin> {
  const server = await connectToServer(services);
  server.write(packet);
  return { server, fromServer: Buffer.alloc(0), fromClient: rest.length > 0 ? [rest] : [] };
}

/** What the peers did wrong is theirs to know; what we did wrong is ours. */
function report(error: unknown, logger: Logger): void {
  if (error instanceof BackgroundError)
    logger.info({ code: error.code }, `session ended: ${error.message}`);
  else logger.error({ err: error }, 'session failed');
}
