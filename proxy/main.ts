#!/usr/bin/env node
import { connect } from 'node:net';
import { pino } from 'pino';
import {
  BackgroundEngine,
  createStatement,
  defaultEngineSettings,
  dropStatement,
  newGrantToken,
} from '../src/index.ts';
import {
  commandLine,
  ConfigError,
  type Address,
  type ProxyConfig,
  type SqlConfig,
  type Upstream,
} from './config.ts';
import { defaultDataDirectory, startEmbeddedServer, type EmbeddedServer } from './embedded.ts';
import {
  checkSecret,
  defaultSecretFile,
  readEarlierSecret,
  readOrCreateSecret,
  readSecret,
} from './secret.ts';
import { ProxyServer } from './server.ts';
import { aborted, listenToStopSignals } from './stop-signals.ts';

const CLIENT_LOGIN_TIMEOUT_MS = 60_000;

// Whoever reads our output may have seen enough of it.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

try {
  await commandLine({ run, printSql }).parseAsync();
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = 1;
}

async function run(config: ProxyConfig): Promise<void> {
  const { asked, urgent } = listenToStopSignals();
  const logger = pino({ level: config.logLevel, base: null }, pino.destination(2));
  let embedded: EmbeddedServer | undefined;
  let proxy: ProxyServer | undefined;
  try {
    embedded = config.upstream === undefined ? await startEmbedded(config, asked) : undefined;
    const upstream: Upstream = config.upstream ?? {
      ...(embedded as EmbeddedServer),
      user: 'postgres',
      database: 'postgres',
    };
    if (config.upstream !== undefined) await checkReachable(config.upstream);
    const address = { host: upstream.host, port: upstream.port };
    const secret = await findSecret(config, embedded?.dataDirectory);
    const { customSettings } = config;
    const engine = new BackgroundEngine({
      ...defaultEngineSettings,
      ...address,
      secret,
      customSettings,
      logger,
    });
    proxy = new ProxyServer({
      engine,
      logger,
      upstream: address,
      clientLoginTimeoutMs: CLIENT_LOGIN_TIMEOUT_MS,
      serverConnectTimeoutMs: defaultEngineSettings.serverConnectTimeoutMs,
    });
    const { port } = await proxy
      .listen(config.listen.host, config.listen.port)
      .catch((error: NodeJS.ErrnoException) => {
        proxy = undefined;
        const reason = error.code === 'EADDRINUSE' ? 'the port is taken' : error.message;
        throw new ConfigError(`--listen ${written(config.listen)}: ${reason}`);
      });
    if (!asked.aborted) {
      process.stdout.write(welcome({ host: config.listen.host, port }, upstream));
    }
    await Promise.race([aborted(asked), ...(embedded ? [embedded.exited] : [])]);
    if (!asked.aborted)
      throw new ConfigError('the embedded server has ended; see server.log in its data folder');
    if (engine.runningWorkers > 0) {
      process.stderr.write(
        `waiting for ${engine.runningWorkers} background workers; ask again to end at once\n`,
      );
    }
  } catch (error) {
    if (!asked.aborted) throw error;
  } finally {
    await proxy?.close(urgent);
    await embedded?.stop();
  }
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

function checkReachable(upstream: Upstream): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: upstream.host, port: upstream.port, timeout: 10_000 });
    const fail = (reason: string) => {
      socket.destroy();
      reject(
        new ConfigError(`--upstream postgres://${written(upstream)}: cannot connect: ${reason}`),
      );
    };
    socket.on('connect', () => {
      socket.destroy();
      resolve();
    });
    socket.on('timeout', () => fail('no answer within 10 s'));
    socket.on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message));
  });
}

function findSecret(
  config: Pick<ProxyConfig, 'secret' | 'secretFile'>,
  dataDirectory: string | undefined,
  read: (path: string) => Promise<Buffer> = readOrCreateSecret,
): Promise<Buffer> {
  if (config.secretFile !== undefined) return readSecret(config.secretFile, '--secret-file');
  if (config.secret !== undefined)
    return Promise.resolve(checkSecret(config.secret, 'PGBG_SECRET'));
  return read(defaultSecretFile(dataDirectory));
}

async function printSql(config: SqlConfig): Promise<void> {
  // Read, never made: before its first start the embedded server's folder must stay empty.
  const dataDirectory = config.isEmbedded
    ? (config.dataDirectory ?? defaultDataDirectory())
    : undefined;
  const grantToken = newGrantToken(await findSecret(config, dataDirectory, readEarlierSecret));
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

function welcome(listen: Address, { user, database }: Upstream): string {
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
