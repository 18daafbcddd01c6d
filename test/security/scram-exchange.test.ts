// What a client is told in a SCRAM exchange, message by message: it must not tell who exists.
import { expect } from 'chai';
import { serialize } from 'pg-protocol';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer } from '../support/auth-server.ts';
import { bytes, int32, message, zeroTerminated } from '../support/messages.ts';
import { exchangeScram, type ScramChoices, type ScramExchange } from '../support/scram-exchange.ts';
import { fieldsOf, RawClient, type RawMessage } from '../support/wire.ts';

describe('the SCRAM exchange', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let proxy: RunningProxy;

  before(async () => {
    server = await AuthServer.start(['host all all 127.0.0.1/32 scram-sha-256']);
    for (const name of ['known1', 'known2', 'md5only', 'nothing'])
      await server.createRole({ name, password: 'the right one' });
    proxies = await AuthProxies.create(server);
    const authFile = await proxies.file(
      'users.txt',
      `"known1" "${await server.verifierOf('known1')}"`,
      '"known2" "the right one"',
      `"md5only" "md5${'0123456789abcdef'.repeat(2)}"`,
      '"nothing" ""',
    );
    proxy = await proxies.start({ options: ['--auth-file', authFile] });
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  async function exchange(
    user: string,
    password: string,
    more: Partial<ScramChoices> = {},
  ): Promise<ScramExchange> {
    const client = await RawClient.connect(proxy.port);
    const seen = await exchangeScram(client, {
      user,
      password,
      database: server.database,
      ...more,
    });
    client.socket.destroy();
    return seen;
  }
  const typesOf = ({ end }: ScramExchange) => end.map(({ type }) => type).join('');
  const lastOf = ({ end }: ScramExchange) => end.at(-1) as RawMessage;

  it('offers SCRAM-SHA-256 and nothing else', async () => {
    expect((await exchange('known1', 'the right one')).mechanisms).to.deep.equal(['SCRAM-SHA-256']);
  });

  it('proves that the proxy knows the verifier before the session begins', async () => {
    for (const user of ['known1', 'known2']) {
      const seen = await exchange(user, 'the right one');
      // AuthenticationSASLFinal, AuthenticationOk, then the session.
      expect(typesOf(seen)).to.match(/^RRS+KZ$/);
      expect(seen.end[0]?.body.readInt32BE(0)).to.equal(12);
      expect(seen.end[1]?.body.readInt32BE(0)).to.equal(0);
    }
  });

  it('shows the salt and the iterations of the verifier', async () => {
    const [, iterations, salt] =
      /^SCRAM-SHA-256\$(\d+):([^$]+)\$/.exec(await server.verifierOf('known1')) ?? [];
    const seen = await exchange('known1', 'wrong');
    expect(seen.salt).to.equal(salt);
    expect(seen.iterations).to.equal(Number(iterations));
  });

  it('looks the same for a wrong password, a missing secret and a user that is not known', async () => {
    const named = (message: RawMessage, user: string) =>
      message.body.toString('latin1').replaceAll(user, '?');
    const wrong = await exchange('known1', 'wrong');
    expect(typesOf(wrong)).to.equal('E');
    const { S, C, M } = fieldsOf(lastOf(wrong));
    expect([S, C, M]).to.deep.equal([
      'FATAL',
      '28P01',
      'password authentication failed for user "known1"',
    ]);
    for (const user of ['known2', 'unknown', 'md5only', 'nothing', 'postgres']) {
      for (const password of ['wrong', '', 'the right one']) {
        if (user === 'known2' && password === 'the right one') continue;
        const seen = await exchange(user, password);
        expect(typesOf(seen), user).to.equal('E');
        expect(named(lastOf(seen), user), user).to.equal(named(lastOf(wrong), 'known1'));
        expect(seen.mechanisms).to.deep.equal(wrong.mechanisms);
        expect(seen.iterations, user).to.equal(wrong.iterations);
        expect(seen.salt.length, user).to.equal(wrong.salt.length);
      }
    }
  });

  it('shows each user the same salt each time, and each user another', async () => {
    const users = ['known1', 'known2', 'unknown', 'unknow2', 'md5only', 'nothing'];
    const salts: string[] = [];
    for (const user of users) {
      const [first, again] = [await exchange(user, 'wrong'), await exchange(user, 'other')];
      expect(again.salt, user).to.equal(first.salt);
      salts.push(first.salt);
    }
    expect(new Set(salts).size).to.equal(users.length);
  });

  it('shows the salt of an unknown user again after a restart', async () => {
    const before = await exchange('unknown', 'wrong');
    const restarted = await proxies.start({
      options: ['--auth-file', `${proxies.folder}/users.txt`],
    });
    const client = await RawClient.connect(restarted.port);
    const { salt } = await exchangeScram(client, {
      user: 'unknown',
      password: 'wrong',
      database: server.database,
    });
    client.socket.destroy();
    await restarted.process.stop();
    expect(salt).to.equal(before.salt);
  });

  it('takes a client that could bind the channel but was not offered to', async () => {
    expect(typesOf(await exchange('known1', 'the right one', { gs2: 'y,,' }))).to.match(/^RRS+KZ$/);
  });

  it('refuses a channel binding', async () => {
    const seen = await exchange('known1', 'the right one', { gs2: 'p=tls-server-end-point,,' });
    expect(typesOf(seen)).to.equal('E');
    expect(fieldsOf(lastOf(seen))['C']).to.match(/^(08P01|28000|28P01)$/);
  });

  it('refuses an authorization identity', async () => {
    const seen = await exchange('known1', 'the right one', { gs2: 'n,a=postgres,' });
    expect(typesOf(seen)).to.equal('E');
  });

  it('refuses a mechanism that was not offered', async () => {
    for (const mechanism of ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-1', 'PLAIN', '']) {
      const seen = await exchange('known1', 'the right one', { mechanism });
      expect(typesOf(seen), mechanism).to.equal('E');
      expect(fieldsOf(lastOf(seen))['C']).to.match(/^(08P01|28000|28P01)$/);
    }
  });

  it('refuses a proof that is bound to something else than it began with', async () => {
    for (const [gs2, boundTo] of [
      ['n,,', 'y,,'],
      ['y,,', 'n,,'],
      ['n,,', 'p=tls-server-end-point,,'],
    ] as const) {
      const seen = await exchange('known1', 'the right one', { gs2, boundTo });
      expect(typesOf(seen), boundTo).to.equal('E');
      expect(fieldsOf(lastOf(seen))['C']).to.match(/^(08P01|28P01)$/);
    }
  });

  it('refuses a nonce that is not the one of the challenge', async () => {
    for (const alter of [(nonce: string) => nonce.slice(0, -1), (nonce: string) => `${nonce}x`]) {
      const seen = await exchange('known1', 'the right one', { alterNonce: alter });
      expect(typesOf(seen)).to.equal('E');
      expect(fieldsOf(lastOf(seen))['C']).to.match(/^(08P01|28P01)$/);
    }
  });

  it('uses another nonce each time, of printable characters', async () => {
    const nonces = [];
    for (let time = 0; time < 3; time++)
      nonces.push((await exchange('known1', 'wrong')).serverNonce);
    expect(new Set(nonces).size).to.equal(3);
    for (const nonce of nonces) expect(nonce).to.match(/^[!-+\--~]{18,}$/);
  });

  it('refuses messages that make no sense, and lives', async () => {
    const first = (text: string) => [
      zeroTerminated('SCRAM-SHA-256'),
      int32(text.length),
      bytes(text),
    ];
    const hostile: Buffer[] = [
      message('p'),
      message('p', bytes('SCRAM-SHA-256')),
      message('p', zeroTerminated('SCRAM-SHA-256')),
      message('p', zeroTerminated('SCRAM-SHA-256'), int32(0x7fffffff)),
      message('p', zeroTerminated('SCRAM-SHA-256'), int32(-2), bytes('n,,n=,r=x')),
      message('p', ...first('')),
      message('p', ...first('n')),
      message('p', ...first('n,,')),
      message('p', ...first('n,,n=')),
      message('p', ...first('n,,n=,r=')),
      message('p', ...first('x,,n=,r=abc')),
      message('p', ...first('n,,m=ext,n=,r=abc')),
      message('p', ...first('n,,n=,r=a b\u0001')),
      message('p', ...first('n,,n=,r=abc'), bytes('trailing')),
      message('d', ...first('n,,n=,r=abc')),
    ];
    for (const packet of hostile) {
      const client = await RawClient.connect(proxy.port);
      client.listen();
      client.socket.write(serialize.startup({ user: 'known1', database: server.database }));
      await client.until('R');
      client.socket.write(packet);
      const [answer] = await client.untilOneOf('RE');
      expect(answer?.type, packet.toString('latin1')).to.equal('E');
      const { S, C } = fieldsOf(answer as RawMessage);
      expect(S).to.equal('FATAL');
      expect(C).to.match(/^(08P01|28P01|28000)$/);
      await client.closed();
    }
    expect(typesOf(await exchange('known1', 'the right one'))).to.match(/^RRS+KZ$/);
  });

  it('takes a message of 65,535 bytes at most', async () => {
    for (const [length, expected] of [
      [65_535, 'R'],
      [65_536, 'E'],
    ] as const) {
      const client = await RawClient.connect(proxy.port);
      client.listen();
      client.socket.write(serialize.startup({ user: 'known1', database: server.database }));
      await client.until('R');
      const fill = length - 4 - 'SCRAM-SHA-256\0'.length - 4 - 'n,,n=,r='.length;
      const text = bytes(`n,,n=,r=${'a'.repeat(fill)}`);
      const packet = message('p', zeroTerminated('SCRAM-SHA-256'), int32(text.length), text);
      expect(packet.length).to.equal(length + 1);
      client.socket.write(packet);
      const [answer] = await client.untilOneOf('RE');
      if (expected === 'E') {
        expect(answer?.type).to.equal('E');
        expect(fieldsOf(answer as RawMessage)['C']).to.equal('08P01');
      } else if (answer?.type === 'E') {
        // A nonce may be too long for the exchange; the message is not.
        expect(fieldsOf(answer)['M']).not.to.match(/length/);
      }
      client.socket.destroy();
    }
  });
});
