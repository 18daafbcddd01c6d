// How long somebody may take to log in, and how many may do so.
import { expect } from 'chai';
import { serialize } from 'pg-protocol';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer, loginErrorOf } from '../support/auth-server.ts';
import { certificates, hasOpenssl } from '../support/certificates.ts';
import { drivers, WHO_LAUNCHES } from '../support/drivers.ts';
import { eventually } from '../support/eventually.ts';
import { MuteServer } from '../support/forwarder.ts';
import { bytes, int32, message, zeroTerminated } from '../support/messages.ts';
import { askForTls, dial, dialTls, restOf } from '../support/tls-client.ts';
import { fieldsOf, RawClient, type RawMessage } from '../support/wire.ts';

describe('a login', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let hasty: RunningProxy;
  let tlsFiles: string[];

  before(async function () {
    if (!hasOpenssl) this.skip();
    server = await AuthServer.start(['host all all 127.0.0.1/32 scram-sha-256']);
    await server.createRole({ name: 'app', password: 'secret' });
    proxies = await AuthProxies.create(server);
    await proxies.install('app');
    const { certFile, keyFile } = certificates().server;
    tlsFiles = ['--client-tls-cert-file', certFile, '--client-tls-key-file', keyFile];
    hasty = await proxies.start({ options: [...tlsFiles, '--client-login-timeout', '1'] });
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  const startup = () => serialize.startup({ user: 'app', database: server.database });
  const trusting = () => ({ ca: certificates().authority.cert });

  /** The error that a client is told before its connection ends. */
  async function lastWord(client: RawClient): Promise<Record<string, string>> {
    const error = (await client.untilOneOf('E'))[0] as RawMessage;
    const all = client.messages.at(-1) as RawMessage;
    await client.closed();
    return fieldsOf(error.type === 'E' ? error : all);
  }

  async function arrive({ port }: RunningProxy): Promise<RawClient> {
    const client = await RawClient.connect(port);
    client.listen();
    return client;
  }

  /** A client that the proxy has asked who it is. */
  async function untilAsked(proxy: RunningProxy): Promise<RawClient> {
    const client = await arrive(proxy);
    client.socket.write(startup());
    await client.until('R');
    return client;
  }

  async function enter(proxy: RunningProxy): Promise<RawClient> {
    const client = await untilAsked(proxy);
    client.socket.write(message('p', zeroTerminated('secret')));
    await client.until('Z');
    return client;
  }

  describe('ends after client_login_timeout', () => {
    /** A client that goes so far, and no further. */
    const stops: readonly (readonly [string, () => Promise<RawClient>])[] = [
      ['for a client that says nothing', () => arrive(hasty)],
      [
        'in the middle of a startup packet',
        async () => {
          const client = await arrive(hasty);
          client.socket.write(startup().subarray(0, 20));
          return client;
        },
      ],
      [
        'inside TLS, where the client is told so',
        async () => {
          const client = RawClient.over(await dialTls(hasty.port, trusting()));
          client.listen();
          return client;
        },
      ],
      ['for a client that does not answer the question', () => untilAsked(hasty)],
      [
        'in the middle of the answer',
        async () => {
          const client = await untilAsked(hasty);
          client.socket.write(message('p', zeroTerminated('secret')).subarray(0, 8));
          return client;
        },
      ],
      [
        'in the middle of SCRAM',
        async () => {
          const client = await untilAsked(hastyScram);
          const first = bytes('n,,n=,r=abcdefghijklmnopqrstuvwx');
          client.socket.write(
            message('p', zeroTerminated('SCRAM-SHA-256'), int32(first.length), first),
          );
          await client.until('R');
          return client;
        },
      ],
      [
        'when the server does not answer',
        async () => {
          const client = await untilAsked(beforeMute);
          client.socket.write(message('p', zeroTerminated('secret')));
          return client;
        },
      ],
    ];
    let hastyScram: RunningProxy;
    let beforeMute: RunningProxy;
    let mute: MuteServer;
    let words: Promise<Record<string, string>>[];

    before(async () => {
      const authFile = await proxies.file('users.txt', '"app" "secret"');
      const soon = ['--client-login-timeout', '1'];
      hastyScram = await proxies.start({ options: ['--auth-file', authFile, ...soon] });
      mute = await MuteServer.start();
      beforeMute = await proxies.start({ upstreamPort: mute.port, options: soon });
      // All at once: each takes its second.
      words = stops.map(async ([, stop]) => lastWord(await stop()));
      await Promise.allSettled(words);
    });
    after(async () => {
      await hastyScram?.process.stop();
      await beforeMute?.process.stop();
      await mute?.stop();
    });

    for (const [index, [where]] of stops.entries()) {
      it(where, async () => {
        const { S, C, M } = (await words[index]) ?? {};
        expect([S, C]).to.deep.equal(['FATAL', '08P01']);
        expect(M).to.include('client_login_timeout');
      });
    }

    it('for a client that asks for TLS and does not begin or end it', async () => {
      const asked = await dial(hasty.port);
      expect(await askForTls(asked)).to.equal('S');
      const begun = await dial(hasty.port);
      begun.write(Buffer.from('1603010200010001fc0303', 'hex')); // a ClientHello without its end
      await Promise.all([restOf(asked), restOf(begun)]);
    });
  });

  it('that was in time is not ended later', async () => {
    const client = await enter(hasty);
    const [, row] = await client.query(`SELECT 'still here' FROM pg_sleep(1.5)`);
    expect(row?.body.toString()).to.include('still here');
    await client.end();
  });

  it('is not kept out, nor what is open, by connections that say nothing', async () => {
    const proxy = await proxies.start({ options: ['--max-client-conn', '3', '--max-logins', '2'] });
    const living = await enter(proxy);
    const silent = await Promise.all(Array.from({ length: 300 }, () => dial(proxy.port)));
    for (const socket of silent) socket.resume();
    const last = await enter(proxy);
    await eventually(() => {
      const open = silent.filter((socket) => !socket.closed).length;
      expect(open, 'connections for which there are no places').to.be.at.most(5);
      return Promise.resolve();
    });
    await last.end();
    await living.end();
    for (const socket of silent) socket.destroy();
    await proxy.process.stop();
  });

  it('leaves its place to others when its client has gone while it waited for its turn', async () => {
    const proxy = await proxies.start({ options: ['--max-client-conn', '3', '--max-logins', '1'] });
    const slow = await untilAsked(proxy);
    for (let i = 0; i < 2; i++) {
      const waiting = await dial(proxy.port);
      waiting.write(startup());
      await new Promise((resolve) => setTimeout(resolve, 100)); // nothing tells that it waits
      waiting.resetAndDestroy();
    }
    await eventually(async () => {
      const next = await arrive(proxy);
      next.socket.write(startup());
      const refused = next.until('E').then(() => 'refused');
      const waits = new Promise((resolve) => setTimeout(resolve, 300, 'waits'));
      expect(await Promise.race([refused, waits])).to.equal('waits');
      next.socket.destroy();
      await refused.catch(() => {});
    });
    slow.socket.destroy();
    await proxy.process.stop();
  });

  it('is refused beyond max_client_conn, in TLS where that was asked for, and cancels pass', async () => {
    const proxy = await proxies.start({ options: [...tlsFiles, '--max-client-conn', '2'] });
    const [first, second] = [await enter(proxy), await enter(proxy)];
    for (const client of [
      await RawClient.connect(proxy.port),
      RawClient.over(await dialTls(proxy.port, trusting())),
    ]) {
      client.listen();
      client.socket.write(startup());
      const { S, C } = await lastWord(client);
      expect([S, C]).to.deep.equal(['FATAL', '53300']);
      expect(client.messages).to.have.length(1);
    }
    first.socket.write(serialize.query('SELECT pg_sleep(600)'));
    await eventually(async () => {
      const { rows } = await server.admin.query(
        `SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'`,
        [first.pid],
      );
      expect(rows).to.have.length(1);
    });
    const key = first.messages.find(({ type }) => type === 'K')?.body as Buffer;
    const canceller = await dial(proxy.port);
    canceller.write(serialize.cancel(key.readInt32BE(0), key.readInt32BE(4)));
    expect(await restOf(canceller)).to.have.length(0);
    const answer = await first.until('Z');
    expect(answer.find(({ type }) => type === 'E')?.body.toString()).to.include('C57014');
    await second.end();
    await eventually(async () => {
      await (await enter(proxy)).end();
    });
    await first.end();
    await proxy.process.stop();
  });

  it('waits for its turn beyond max_logins, and gets it', async () => {
    const proxy = await proxies.start({ options: ['--max-logins', '1'] });
    const slow = await untilAsked(proxy);
    const waiting = [1, 2, 3].map(() =>
      drivers[1]?.value(proxy.login('app', 'secret'), WHO_LAUNCHES),
    );
    slow.socket.write(message('p', zeroTerminated('secret')));
    await slow.until('Z');
    expect(await Promise.all(waiting)).to.deep.equal(Array(3).fill('app as app'));
    // One that goes away in the middle of its login makes room, too.
    const gone = await untilAsked(proxy);
    const next = drivers[1]?.value(proxy.login('app', 'secret'), 'SELECT session_user');
    gone.socket.destroy();
    expect(await next).to.equal('app');
    await slow.end();
    await proxy.process.stop();
  });

  it('that waits in vain for its turn is told so', async () => {
    const proxy = await proxies.start({
      options: ['--max-logins', '1', '--client-login-timeout', '1'],
    });
    const clients = await Promise.all(
      Array.from({ length: 6 }, async () => {
        const client = await RawClient.connect(proxy.port);
        client.listen();
        client.socket.write(startup());
        return client;
      }),
    );
    for (const client of clients) {
      const { S, C } = await lastWord(client);
      expect(S).to.equal('FATAL');
      // Whose turn has come at the last moment has used up its time like the first one.
      expect(client.messages[0]?.type === 'R' ? ['08P01'] : ['53300', '08P01']).to.include(C);
    }
    await proxy.process.stop();
  });

  it('that fails, or is given up, gives its place back', async () => {
    const proxy = await proxies.start({ options: ['--max-client-conn', '2', '--max-logins', '2'] });
    for (let time = 0; time < 6; time++) {
      expect((await loginErrorOf(proxy.login('app', 'wrong'))).code).to.equal('28P01');
      (await untilAsked(proxy)).socket.destroy();
      (await enter(proxy)).socket.destroy();
      await eventually(async () => {
        await (await enter(proxy)).end();
      });
    }
    const both = [await enter(proxy), await enter(proxy)];
    for (const client of both) await client.end();
    await proxy.process.stop();
  });

  it('works for the next client after all of that', async () => {
    expect(await drivers[1]?.value(hasty.login('app', 'secret'), WHO_LAUNCHES)).to.equal(
      'app as app',
    );
    expect((await loginErrorOf(hasty.login('app', 'wrong'))).code).to.equal('28P01');
  });
});
