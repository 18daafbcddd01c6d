#!/usr/bin/env node
import {
  connectToServer,
  createStatement,
  dropStatement,
  newGrantToken,
  type Logger,
} from '../src/index.ts';
import { isLoopback } from './client-connection.ts';
import {
  commandLine,
  ConfigError,
  naming,
  printableConfig,
  type ProxyConfig,
  type SqlConfig,
} from './config.ts';
import { openEndpoint, type ConnectionString } from './connection-string.ts';
import { defaultDataDirectory, startEmbeddedServer, type EmbeddedServer } from './embedded.ts';
import { Listeners } from './listeners.ts';
import { openLog } from './log.ts';
import type { Address } from './options.ts';
import {
  checkSecret,
  defaultSecretFile,
  readEarlierSecret,
  readOrCreateSecret,
  readSecret,
  warnOfLoss,
  warnOfReaders,
} from './secret.ts';
import { startServing, type Serving } from './serving.ts';
import { readVerifier } from './verifier.ts';
import { aborted, listenToStopSignals } from './stop-signals.ts';

// Whoever reads our output may have seen enough of it.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

try {
  await commandLine({ run, printConfig, printSql, printVerifier }).parseAsync();
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = 1;
}

async function run(config: ProxyConfig): Promise<void> {
  const { asked, urgent } = listenToStopSignals();
  const logger = openLog(config.logLevel);
  let embedded: EmbeddedServer | undefined;
  let serving: Serving | undefined;
  const listeners = new Listeners((socket, isUnixSocket) => serving?.accept(socket, isUnixSocket));
  try {
    // Before a server is made: what is given may be wrong.
    await givenSecret(config);
    embedded = config.upstream === undefined ? await startEmbedded(config, asked) : undefined;
    const { upstream = upstreamOf(embedded as EmbeddedServer) } = config;
    if (config.upstream !== undefined) await checkReachable(config.upstream);
    const secret = await findSecret(config, embedded?.dataDirectory, logger);
    const { authFile, runAsFile, clientTlsKeyFile } = config;
    await warnOfReaders([authFile, runAsFile, clientTlsKeyFile, upstream.sslkey], logger);
    warnOfPlainPasswords(config, logger);
    asked.throwIfAborted();
    serving = await startServing(config, { upstream, secret, logger });
    const port = await listen(listeners, config);
    if (!asked.aborted) {
      process.stdout.write(welcome({ host: config.listen.host, port }, upstream));
    }
    const lost = await Promise.race([
      aborted(asked),
      serving.lost,
      ...(embedded ? [embedded.exited.then(() => new ConfigError(EMBEDDED_ENDED))] : []),
    ]);
    if (!asked.aborted && lost !== undefined) throw lost;
    const workers = await serving.runningWorkers();
    if (workers > 0) {
      process.stderr.write(`waiting for ${workers} background workers; ask again to end at once\n`);
    }
  } catch (error) {
    if (!asked.aborted) throw error;
  } finally {
    listeners.close();
    await serving?.close(urgent);
    await embedded?.stop();
  }
}

const EMBEDDED_ENDED = 'the embedded server has ended; see server.log in its data folder';

async function printVerifier(): Promise<void> {
  if (process.stdin.isTTY) process.stderr.write('Password, then Ctrl-D: ');
  process.stdout.write(`${await readVerifier(process.stdin)}\n`);
}

function printConfig(config: ProxyConfig): void {
  process.stdout.write(`${printableConfig(config)}\n`);
}

/** Whoever cannot give his password safely is refused one by one: better to say so at once. */
function warnOfPlainPasswords({ authType, listen, clientTlsSslmode }: ProxyConfig, logger: Logger) {
  if (authType !== 'passthrough' || clientTlsSslmode !== 'off' || isLoopback(listen.host)) return;
  logger.warn(
    { listen: written(listen) },
    'passwords are asked for in TLS, on Unix sockets and from loopback only, and there is no certificate: see --client-tls-cert-file, or --auth-type scram',
  );
}

function upstreamOf({ host, port }: EmbeddedServer): ConnectionString {
  return {
    host,
    port,
    user: 'postgres',
    database: 'postgres',
    sslmode: 'disable',
    sslrootcert: undefined,
    sslcert: undefined,
    sslkey: undefined,
    connectTimeoutMs: undefined,
  };
}

/** @returns the port, which the system may have chosen */
async function listen(listeners: Listeners, config: ProxyConfig): Promise<number> {
  const explain = (option: string) => (error: NodeJS.ErrnoException) => {
    const reason = error.code === 'EADDRINUSE' ? 'the port is taken' : error.message;
    throw new ConfigError(`${option}: ${reason}`);
  };
  const { host, port: wanted } = config.listen;
  const { port } = await listeners
    .listen(host, wanted)
    .catch(explain(`--listen ${written(config.listen)}`));
  if (config.unixSocketDir !== undefined)
    await listeners
      .listenOnUnixSocket(config.unixSocketDir, port)
      .catch(explain(`--unix-socket-dir ${config.unixSocketDir}`));
  return port;
}

async function startEmbedded(config: ProxyConfig, signal: AbortSignal): Promise<EmbeddedServer> {
  try {
    return await startEmbeddedServer({
      dataDirectory: config.dataDirectory ?? defaultDataDirectory(),
      onProgress: (line) => process.stderr.write(`${line}\n`),
      signal,
    });
  } catch (cause) {
    throw new ConfigError((cause as Error).message, { cause });
  }
}

/** Connects once, with TLS and all, before clients do. */
async function checkReachable(upstream: ConnectionString): Promise<void> {
  const server = await naming('--upstream', openEndpoint(upstream));
  try {
    (await connectToServer(server, upstream.connectTimeoutMs ?? 10_000)).destroy();
  } catch (cause) {
    const { message, hint } = cause as Error & { hint?: string };
    throw new ConfigError(
      `--upstream postgres://${written(upstream)}: ${message}${hint === undefined ? '' : `. ${hint}`}`,
    );
  }
}

async function findSecret(
  config: Pick<ProxyConfig, 'secret' | 'secretFile'>,
  dataDirectory: string | undefined,
  logger: Logger,
): Promise<Buffer> {
  const given = await givenSecret(config);
  if (given !== undefined) {
    await warnOfReaders([config.secretFile], logger);
    return given;
  }
  const path = defaultSecretFile(dataDirectory);
  const secret = await readOrCreateSecret(path);
  await warnOfLoss(path, logger);
  await warnOfReaders([path], logger);
  return secret;
}

/** The secret of an option; undefined when none names one. */
async function givenSecret({
  secret,
  secretFile,
}: Pick<ProxyConfig, 'secret' | 'secretFile'>): Promise<Buffer | undefined> {
  if (secretFile !== undefined) return readSecret(secretFile, '--secret-file');
  return secret === undefined ? undefined : checkSecret(secret, 'PGBG_SECRET');
}

async function printSql(config: SqlConfig): Promise<void> {
  // Read, never made: before its first start the embedded server's folder must stay empty.
  const dataDirectory = config.isEmbedded
    ? (config.dataDirectory ?? defaultDataDirectory())
    : undefined;
  const secret =
    (await givenSecret(config)) ?? (await readEarlierSecret(defaultSecretFile(dataDirectory)));
  const grantToken = newGrantToken(secret);
  const text = config.drop
    ? dropStatement({
        grantToken,
        original: 'DROP EXTENSION pg_background',
        ifExists: false,
        cascade: false,
        others: [],
      })
    : createStatement({
        grantToken,
        original: 'CREATE EXTENSION pg_background',
        schema: config.schema,
        ifNotExists: false,
      });
  process.stdout.write(`${text};\n`);
}

function written({ host, port }: Address): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function welcome(listen: Address, { user, database }: ConnectionString): string {
  const host = listen.host === '0.0.0.0' || listen.host === '::' ? '127.0.0.1' : listen.host;
  const url = `postgres://${encodeURIComponent(user)}@${written({ host, port: listen.port })}/${encodeURIComponent(database)}`;
  return `ready: ${url}

Try this first:

  psql ${url}

  CREATE EXTENSION pg_background;
  SELECT * FROM pg_background_result(pg_background_launch('VACUUM VERBOSE pg_class')) AS (result text);
  SELECT pid, state, sql_preview FROM pg_background_list_v2() AS
    (pid int, cookie bigint, launched_at timestamptz, user_id oid, queue_size int,
     state text, sql_preview text, last_error text, consumed boolean);
`;
}
