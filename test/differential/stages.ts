import { TestProxy } from '../support/proxy.ts';
import { CuttingForwarder } from './cutting-forwarder.ts';
import { createFixtures } from './fixtures.ts';
import type { Stage } from './play.ts';
import { ProxySockets } from '../support/proxy-sockets.ts';
import { startup } from './script.ts';
import { whole, type Chunking } from './chunking.ts';

/** The two places in which each script is played: the server, and a proxy in front of the same database. */
export class Stages {
  readonly direct: Stage;
  readonly proxied: Stage;
  readonly database: string;
  readonly #home: TestProxy;
  readonly #proxy: TestProxy;
  readonly #forwarder: CuttingForwarder;
  readonly #sockets: ProxySockets;

  private constructor(
    home: TestProxy,
    proxy: TestProxy,
    forwarder: CuttingForwarder,
    sockets: ProxySockets,
    direct: Omit<Stage, 'host' | 'port'>,
  ) {
    const { host, port, name } = home.database;
    this.database = name;
    this.#home = home;
    this.#proxy = proxy;
    this.#forwarder = forwarder;
    this.#sockets = sockets;
    this.direct = { ...direct, host, port };
    this.proxied = { ...direct, host: '127.0.0.1', port: proxy.port, sockets };
  }

  /** @param isInstalled whether the database has the extension */
  static async open(isInstalled: boolean): Promise<Stages> {
    const home = await (isInstalled ? TestProxy.startInstalled() : TestProxy.start());
    await createFixtures(await home.connect());
    const sockets = new ProxySockets();
    const forwarder = await CuttingForwarder.start(home.database, sockets);
    const { name } = home.database;
    const proxy = await TestProxy.inFrontOf({ ...forwarder.address, name });
    return new Stages(home, proxy, forwarder, sockets, {
      startup: startup([
        ['user', 'postgres'],
        ['database', name],
        ['client_encoding', 'UTF8'],
      ]),
      elsewhere: await home.database.direct(),
    });
  }

  /** How the server's bytes are cut on their way to the proxy. */
  set fromServer(chunking: Chunking) {
    this.#forwarder.chunking = chunking;
  }

  /** Nothing is cut any more. */
  reset(): void {
    this.#forwarder.chunking = whole;
  }

  /** Removes the dead rows that scripts leave in tables, which would slow down all that follow. */
  async sweep(): Promise<void> {
    await this.direct.elsewhere.query('TRUNCATE target, child');
  }

  async close(): Promise<void> {
    await this.#proxy.stop();
    await this.#forwarder.stop();
    await this.#home.stop();
    this.#sockets.close();
  }
}
