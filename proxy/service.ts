import {
  BackgroundEngine,
  defaultEngineSettings,
  noPeers,
  type Logger,
  type Peers,
} from '../src/index.ts';
import { openAuthentication, type Authentication } from './authentication-setup.ts';
import { ClientTls } from './client-tls.ts';
import { naming, type ProxyConfig } from './config.ts';
import { openEndpoint, type ConnectionString } from './connection-string.ts';
import { readRunAsFile } from './run-as-file.ts';
import { ProxyServer, type Neighbours } from './server.ts';

/** Where a service stands. */
export interface ServicePlace {
  readonly upstream: ConnectionString;
  readonly secret: Buffer;
  readonly logger: Logger;
  /** The other processes that serve the same clients; undefined when there are none. */
  readonly others?: {
    readonly peers: Peers;
    readonly neighbours: Neighbours;
    /** Files of the options have changed: whoever has not read them yet reads them now. */
    readonly filesChanged: () => void;
  };
}

/** All that serves clients in one process: the engine, the proxy, and what lets clients in. */
export class Service {
  readonly engine: BackgroundEngine;
  readonly proxy: ProxyServer;
  readonly #authentication: Authentication;
  readonly #clientTls: ClientTls | undefined;

  private constructor(
    engine: BackgroundEngine,
    proxy: ProxyServer,
    authentication: Authentication,
    clientTls: ClientTls | undefined,
  ) {
    this.engine = engine;
    this.proxy = proxy;
    this.#authentication = authentication;
    this.#clientTls = clientTls;
  }

  /** @throws ConfigError when what an option names cannot be used */
  static async open(config: ProxyConfig, place: ServicePlace): Promise<Service> {
    const { upstream, secret, logger, others } = place;
    const server = await naming('--upstream', openEndpoint(upstream));
    const serverConnectTimeoutMs =
      upstream.connectTimeoutMs ?? defaultEngineSettings.serverConnectTimeoutMs;
    const onFilesChanged = () => others?.filesChanged();
    const common = { server, serverConnectTimeoutMs, logger };
    const runAs =
      config.runAsFile === undefined
        ? defaultEngineSettings.runAs
        : await naming('--run-as-file', readRunAsFile(config.runAsFile));
    const clientTls = await naming(
      '--client-tls-cert-file',
      openClientTls(config, logger, onFilesChanged),
    );
    const authentication = await naming(
      '--auth-file',
      openAuthentication(config, { ...common, secret, onFilesChanged }),
    );
    const { customSettings, trustedOwners, minPoolSize, maxPoolSize } = config;
    const { serverIdleTimeoutMs, serverLifetimeMs } = config;
    const engine = new BackgroundEngine({
      ...defaultEngineSettings,
      ...common,
      secret,
      customSettings,
      runAs,
      trustedOwners,
      minPoolSize,
      maxPoolSize,
      serverIdleTimeoutMs,
      serverLifetimeMs,
      peers: others?.peers ?? noPeers,
    });
    const proxy = new ProxyServer({
      ...common,
      engine,
      clientTls,
      authenticate: authentication.authenticate,
      clientLoginTimeoutMs: config.clientLoginTimeoutMs,
      maxClientConn: config.maxClientConn,
      maxLogins: config.maxLogins,
      ...others?.neighbours,
    });
    return new Service(engine, proxy, authentication, clientTls);
  }

  /** Reads files of the options again that have changed, before anybody needs them. */
  async lookAtFiles(): Promise<void> {
    await Promise.all([this.#authentication.look(), this.#clientTls?.look()]);
  }

  /** Ends the sessions, then the engine when its workers are done, or the matter is urgent. */
  async close(urgent?: AbortSignal): Promise<void> {
    await this.proxy.close(urgent);
    await this.#authentication.close();
  }
}

async function openClientTls(
  config: ProxyConfig,
  logger: Logger,
  onFilesChanged: () => void,
): Promise<ClientTls | undefined> {
  const { clientTlsSslmode, clientTlsCertFile: certFile, clientTlsKeyFile: keyFile } = config;
  if (clientTlsSslmode === 'off' || certFile === undefined || keyFile === undefined)
    return undefined;
  return ClientTls.open(clientTlsSslmode, { certFile, keyFile }, logger, onFilesChanged);
}
