import { connect, type Socket } from 'node:net';
import {
  BackgroundError,
  type BackgroundEngine,
  type Logger,
  type OpenedSession,
} from '../src/index.ts';
import { Interceptor } from './interceptor.ts';
import { pump } from './relay.ts';
import { fatalResponse } from './replies.ts';
import { addParameters, readFirstPacket, type FirstPacket } from './startup.ts';

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
export interface SessionServices {
  readonly engine: BackgroundEngine;
  readonly logger: Logger;
  readonly upstream: { readonly host: string; readonly port: number };
  readonly clientLoginTimeoutMs: number;
  readonly serverConnectTimeoutMs: number;
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
  const { parameters, packet, rest } = first;
  const role = parameters.get('user') ?? '';
  const isReplication = /^(true|on|yes|1|database)$/i.test(parameters.get('replication') ?? '');
  const server = await connectToServer(services);
  let opened: OpenedSession | undefined;
  let cancelKey: string | undefined;
  let interceptor: Interceptor | undefined;
  try {
    if (client.destroyed) return;
    const streams = new Interceptor({
      onBackendKey: (pid, key) => {
        if (opened !== undefined) opened.session.pid = pid;
        cancelKey = key.toString('hex');
        services.cancels.set(cancelKey, () => streams.repeater.cancel());
      },
      toServer: (bytes) => void server.write(bytes),
      toClient: (bytes) => void client.write(bytes),
      replayClient: (chunks) => {
        for (const chunk of chunks)
          streams.fromClient.push(chunk, (bytes) => void server.write(bytes));
        client.resume();
      },
    });
    interceptor = streams;
    // Names that are no UTF-8 are all the same to us: such sessions are relayed, and no more.
    const isKnown = role !== '' && !`${role}${parameters.get('database')}`.includes('\ufffd');
    if (!isReplication && isKnown) {
      opened = services.engine.openSession(role, parameters.get('database') || role, streams);
      streams.session = opened.session;
    }
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
      client.on('close', () => {
        clearTimeout(frozen);
        server.destroySoon();
        onClosed();
      });
      server.on('close', () => {
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
      if (client.destroyed) onClosed();
      server.write(opened === undefined ? packet : addParameters(packet, [opened.parameter]));
      const { fromClient, fromServer, repeater } = streams;
      if (isReplication) {
        pump(server, client, (chunk, forward) => forward(chunk), fail);
        pump(client, server, (chunk, forward) => forward(chunk), fail);
        if (rest.length > 0) server.write(rest);
      } else {
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
        if (rest.length > 0) fromClient.push(rest, (bytes) => server.write(bytes));
      }
      client.resume();
    });
  } finally {
    server.destroy();
    interceptor?.repeater.close();
    if (cancelKey !== undefined) services.cancels.delete(cancelKey);
    await opened?.close();
  }
}

function connectToServer({ upstream, serverConnectTimeoutMs }: SessionServices): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const server = connect({ ...upstream, noDelay: true, keepAlive: true, allowHalfOpen: true });
    const timer = setTimeout(() => server.destroy(new Error('timed out')), serverConnectTimeoutMs);
    server.once('error', (cause) => {
      clearTimeout(timer);
      reject(
        new BackgroundError('08006', 'the proxy could not connect to the server', {
          detail: cause.message,
          hint: 'Is the server that --upstream names running?',
          cause,
        }),
      );
    });
    server.once('connect', () => {
      clearTimeout(timer);
      resolve(server);
    });
  });
}

/** What the peers did wrong is theirs to know; what we did wrong is ours. */
function report(error: unknown, logger: Logger): void {
  if (error instanceof BackgroundError)
    logger.info({ code: error.code }, `session ended: ${error.message}`);
  else logger.error({ err: error }, 'session failed');
}
