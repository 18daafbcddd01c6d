// How many bytes somebody who has not logged in may send, to the byte.
import { expect } from 'chai';
import { serialize } from 'pg-protocol';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer } from '../support/auth-server.ts';
import { drivers, WHO_LAUNCHES } from '../support/drivers.ts';
import {
  bytes,
  firstPacket,
  int32,
  message,
  startupParameters,
  zeroTerminated,
} from '../support/messages.ts';
import { fieldsOf, RawClient, type RawMessage } from '../support/wire.ts';

const VERSION_3 = 196608;
const CANCEL_REQUEST = 80877102;

describe('the bytes of a login', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let proxy: RunningProxy;

  before(async () => {
    server = await AuthServer.start(['host all all 127.0.0.1/32 scram-sha-256']);
    await server.createRole({ name: 'app', password: 'secret' });
    await server.createRole({ name: 'long', password: 'l'.repeat(65_530) });
    proxies = await AuthProxies.create(server);
    await proxies.install('app');
    proxy = await proxies.start();
  });
  afterEach(async () => {
    // Whatever was sent, the next client is served.
    expect(await drivers[1]?.value(proxy.login('app', 'secret'), WHO_LAUNCHES)).to.equal(
      'app as app',
    );
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  /** A startup packet of exactly so many bytes. */
  function startupOf(length: number): Buffer {
    const parameters = (value: string) =>
      startupParameters('user', 'app', 'database', 'app', 'x.fill', value);
    const empty = firstPacket(VERSION_3, parameters('')).length;
    return firstPacket(VERSION_3, parameters('y'.repeat(length - empty)));
  }

  /** What a client is told first when it sends these bytes: `R`, or the code of an error, or nothing. */
  async function answerTo(port: number, packet: Buffer): Promise<string> {
    const client = await RawClient.connect(port);
    client.listen();
    client.socket.write(packet);
    try {
      const [first] = await client.untilOneOf('RE');
      return first?.type === 'E' ? (fieldsOf(first)['C'] ?? '') : 'R';
    } catch {
      return '';
    } finally {
      client.socket.destroy();
    }
  }

  it('are 10,000 at most in the startup packet', async () => {
    expect(await answerTo(proxy.port, startupOf(10_000))).to.equal('R');
    expect(await answerTo(proxy.port, startupOf(10_005))).to.equal('08P01');
  });

  it('are as many in the startup packet as the server takes', async () => {
    for (const length of [9_999, 10_000, 10_001, 10_004, 10_005]) {
      const own = await answerTo(server.port, startupOf(length));
      const ours = await answerTo(proxy.port, startupOf(length));
      expect([length, ours === 'R']).to.deep.equal([length, own === 'R']);
    }
  });

  it('become a session from a startup packet of 10,000', async () => {
    const client = await RawClient.connect(proxy.port);
    client.listen();
    client.socket.write(startupOf(10_000));
    await client.until('R');
    client.socket.write(message('p', zeroTerminated('secret')));
    await client.until('Z');
    const [, row] = await client.query(`SELECT length(current_setting('x.fill'))::text`);
    expect(Number(row?.body.toString('latin1', 6))).to.be.greaterThan(9_900);
    await client.end();
  });

  for (const length of [0, 4, 7, -1, 0x7fffffff, 100_000_000]) {
    it(`are not waited for when the startup packet claims to have ${length}`, async () => {
      expect(await answerTo(proxy.port, Buffer.concat([int32(length), int32(VERSION_3)]))).to.equal(
        '08P01',
      );
    });
  }

  /** What is said to a password message whose length word and password have these sizes. */
  async function answerToPassword(
    lengthWord: number,
    user = 'app',
    password = '',
  ): Promise<string> {
    const client = await RawClient.connect(proxy.port);
    client.listen();
    client.socket.write(serialize.startup({ user, database: server.database }));
    await client.until('R');
    client.socket.write(Buffer.concat([bytes('p'), int32(lengthWord), zeroTerminated(password)]));
    const last = (await client.untilOneOf('ZE')).at(-1) as RawMessage;
    client.socket.destroy();
    return last.type === 'E' ? (fieldsOf(last)['C'] ?? '') : last.type;
  }

  it('are 65,535 at most in the password message', async () => {
    const password = 'l'.repeat(65_530);
    expect(await answerToPassword(65_535, 'long', password)).to.equal('Z');
    expect(await answerToPassword(65_536, 'long', `${password}l`)).to.equal('08P01');
  });

  for (const length of [0, 3, -1, 0x7fffffff]) {
    it(`are not waited for when the password message claims to have ${length}`, async () => {
      expect(await answerToPassword(length)).to.equal('08P01');
    });
  }

  it('are those of a password and of no other message', async () => {
    const client = await RawClient.connect(proxy.port);
    client.listen();
    client.socket.write(serialize.startup({ user: 'app', database: server.database }));
    await client.until('R');
    client.socket.write(serialize.query('SELECT 1'));
    const { S, C } = fieldsOf((await client.until('E')).at(-1) as RawMessage);
    await client.closed();
    expect([S, C]).to.deep.equal(['FATAL', '08P01']);
  });

  it('are 16 to 268 in a CancelRequest', async () => {
    const cancelOf = (length: number) => firstPacket(CANCEL_REQUEST, Buffer.alloc(length - 8, 1));
    for (const length of [16, 17, 268])
      expect(await answerTo(proxy.port, cancelOf(length)), `${length} bytes`).to.equal('');
    for (const length of [8, 15, 269, 9_000])
      expect(await answerTo(proxy.port, cancelOf(length)), `${length} bytes`).to.equal('08P01');
  });
});
