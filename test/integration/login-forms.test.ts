// Logins that are not those of every day: all are asked who they are, and all are sessions after that.
import { expect } from 'chai';
import pg from 'pg';
import { serialize } from 'pg-protocol';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer, loginErrorOf, wordsOf } from '../support/auth-server.ts';
import { certificates, hasOpenssl } from '../support/certificates.ts';
import { drivers, WHO_LAUNCHES } from '../support/drivers.ts';
import {
  bytes,
  firstPacket,
  message,
  startupParameters,
  zeroTerminated,
} from '../support/messages.ts';
import { exchangeScram } from '../support/scram-exchange.ts';
import { fieldsOf, RawClient, type RawMessage } from '../support/wire.ts';

const VERSION_3 = 196608;

describe('an unusual login', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let passthrough: RunningProxy;
  let scram: RunningProxy;

  before(async function () {
    if (!hasOpenssl) this.skip();
    server = await AuthServer.start([
      'host replication,app unasked 127.0.0.1/32 trust',
      'host app rejected 127.0.0.1/32 reject',
      'host replication copier 127.0.0.1/32 scram-sha-256',
      'host all all 127.0.0.1/32 scram-sha-256',
    ]);
    await server.createRole({ name: 'app', password: 'secret' });
    for (const name of ['copier', 'unasked'])
      await server.createRole({ name, password: 'secret', options: 'REPLICATION' });
    for (const name of ['tuned', 'rejected']) await server.createRole({ name, password: 'secret' });
    proxies = await AuthProxies.create(server);
    await proxies.install('app', 'tuned');
    await server.admin.query('ALTER ROLE tuned SET pg_background.max_workers = 3');
    const { certFile, keyFile } = certificates().server;
    const files = ['--client-tls-cert-file', certFile, '--client-tls-key-file', keyFile];
    passthrough = await proxies.start({ options: files });
    const authFile = await proxies.file(
      'users.txt',
      `"app" "${await server.verifierOf('app')}"`,
      `"tuned" "${await server.verifierOf('tuned')}"`,
      `"copier" "secret"`,
      `"rejected" "secret"`,
      `"unasked" "secret"`,
    );
    scram = await proxies.start({ options: [...files, '--auth-file', authFile] });
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  const password = (text = 'secret') => message('p', zeroTerminated(text));

  async function send(port: number, ...packets: readonly Buffer[]): Promise<RawClient> {
    const client = await RawClient.connect(port);
    client.listen();
    client.socket.write(Buffer.concat(packets));
    return client;
  }

  for (const driver of drivers) {
    it(`by SCRAM in TLS is one of ${driver.name}`, async function () {
      // libpq says then that it could bind the channel, if it were offered.
      if (!driver.isPresent) this.skip();
      const { certFile: caFile, cert: ca } = certificates().authority;
      const login = scram.login('app', 'secret', { host: 'localhost', tls: { caFile, ca } });
      expect(await driver.value(login, WHO_LAUNCHES)).to.equal('app as app');
    });
  }

  it('is done once more where a setting of the role must win over a default', async () => {
    for (const proxy of [passthrough, scram]) {
      for (const time of ['first', 'second']) {
        expect(
          await drivers[1]?.value(
            proxy.login('tuned', 'secret'),
            WHO_LAUNCHES,
            'SHOW pg_background.max_workers',
          ),
          `${time} session`,
        ).to.equal('3');
      }
    }
  });

  it('may send password and first query before it is asked', async () => {
    const client = await send(
      passthrough.port,
      serialize.startup({ user: 'app', database: 'app' }),
      password(),
      serialize.query('SELECT session_user::text'),
    );
    await client.until('Z');
    const answer = await client.until('Z');
    expect(answer.map(({ type }) => type).join('')).to.equal('TDCZ');
    expect(answer[1]?.body.toString('latin1', 6)).to.equal('app');
    await client.end();
  });

  it('that is refused takes nothing of what was sent with it', async () => {
    const client = await send(
      passthrough.port,
      serialize.startup({ user: 'app', database: 'app' }),
      password('wrong'),
      serialize.query('CREATE TABLE never (a int)'),
    );
    await client.closed();
    expect(client.messages.map(({ type }) => type).join('')).to.equal('RE');
    const observer = new pg.Client({
      ...{ host: server.host, port: server.port, user: 'postgres', database: 'app' },
    });
    await observer.connect();
    const { rows } = await observer.query(`SELECT to_regclass('never') AS it`);
    await observer.end();
    expect(rows).to.deep.equal([{ it: null }]);
  });

  it('says nothing of a session before the server has accepted it', async () => {
    const client = await send(
      passthrough.port,
      serialize.startup({ user: 'app', database: 'app' }),
      password(),
    );
    const seen = await client.until('Z');
    expect(seen.map(({ type }) => type).join('')).to.match(/^RRS+KZ$/);
    expect(seen.slice(0, 2).map(({ body }) => body.readInt32BE(0))).to.deep.equal([3, 0]);
    await client.end();
    const rejected = await exchangeScram(await RawClient.connect(scram.port), {
      user: 'rejected',
      password: 'secret',
      database: 'app',
    });
    const codes = rejected.end
      .filter(({ type }) => type === 'R')
      .map(({ body }) => body.readInt32BE(0));
    expect(codes).not.to.include(0);
    const error = fieldsOf(rejected.end.at(-1) as RawMessage);
    expect([error['C'], error['R']]).to.deep.equal(['28000', 'ClientAuthentication']);
  });

  it('to a database that does not exist ends as it does at the server', async () => {
    const types = [];
    for (const port of [passthrough.port, scram.port]) {
      const login = { user: 'app', password: 'secret', database: 'nowhere' };
      const own = await server.refusalOf(login);
      const error = await loginErrorOf({ host: '127.0.0.1', port, ...login });
      expect(wordsOf(error)).to.deep.equal(wordsOf(own));
      types.push(error.code);
    }
    expect(types).to.deep.equal(['3D000', '3D000']);
  });

  it('hears which parts of the protocol the server does not know before it is accepted', async () => {
    for (const version of [VERSION_3, VERSION_3 + 2]) {
      const startup = firstPacket(
        version,
        startupParameters('user', 'app', 'database', 'app', '_pq_.of_the_future', '1'),
      );
      const client = await send(passthrough.port, startup, password());
      const types = (await client.until('Z')).map(({ type }) => type).join('');
      expect(types).to.match(/^(vR|Rv)RS+KZ$/);
      const negotiation = client.messages.find(({ type }) => type === 'v');
      expect(negotiation?.body.toString('latin1')).to.include('_pq_.of_the_future');
      await client.end();
    }
  });

  for (const [way, proxyOf] of [
    ['passthrough', () => passthrough],
    ['scram', () => scram],
  ] as const) {
    it(`for replication is asked who it is, like any other: ${way}`, async () => {
      for (const replication of ['true', 'database']) {
        const startup = serialize.startup({ user: 'copier', database: 'app', replication });
        const client = await send(proxyOf().port, startup);
        const [question] = await client.untilOneOf('RE');
        expect([question?.type, question?.body.readInt32BE(0)]).to.deep.equal([
          'R',
          way === 'passthrough' ? 3 : 10,
        ]);
        client.socket.destroy();
      }
    });
  }

  it('for replication becomes a walsender', async () => {
    const client = await send(
      passthrough.port,
      serialize.startup({ user: 'copier', database: 'app', replication: 'true' }),
      password(),
    );
    await client.until('Z');
    const answer = await client.query('IDENTIFY_SYSTEM');
    expect(answer.map(({ type }) => type).join('')).to.equal('TDCZ');
    await client.end();
  });

  it('for replication is refused with a wrong password, and where nobody has checked it', async () => {
    const refused = await send(
      passthrough.port,
      serialize.startup({ user: 'copier', database: 'app', replication: 'true' }),
      password('wrong'),
    );
    expect(fieldsOf((await refused.until('E')).at(-1) as RawMessage)['C']).to.equal('28P01');
    for (const replication of ['true', 'false']) {
      const unchecked = await send(
        passthrough.port,
        serialize.startup({ user: 'unasked', database: 'app', replication }),
        password('anything'),
      );
      expect(fieldsOf((await unchecked.until('E')).at(-1) as RawMessage)['C']).to.equal('28000');
      await unchecked.closed();
      expect(unchecked.messages.map(({ type }) => type).join('')).to.equal('RE');
    }
  });

  it('with a name that is no UTF-8 is asked, too', async () => {
    for (const [proxy, code] of [
      [passthrough, 3],
      [scram, 10],
    ] as const) {
      const startup = firstPacket(
        VERSION_3,
        startupParameters('user', '\xe4\xff', 'database', 'app'),
      );
      const client = await send(proxy.port, startup);
      const [question] = await client.untilOneOf('RE');
      expect([question?.type, question?.body.readInt32BE(0)]).to.deep.equal(['R', code]);
      if (code === 3) {
        client.socket.write(password('whatever'));
        expect(fieldsOf((await client.until('E')).at(-1) as RawMessage)['C']).to.equal('28P01');
      }
      client.socket.destroy();
    }
  });

  it('without a user is refused as the server does it', async () => {
    for (const parameters of [
      startupParameters('database', 'app'),
      startupParameters('user', ''),
    ]) {
      const codes: (string | undefined)[] = [];
      for (const port of [server.port, passthrough.port]) {
        const client = await send(port, firstPacket(VERSION_3, parameters));
        client.socket.write(password('whatever'));
        const error = (await client.until('E')).at(-1) as RawMessage;
        codes.push(fieldsOf(error)['C']);
        await client.closed();
      }
      expect(new Set(codes)).to.deep.equal(new Set(['28000']));
    }
  });

  it('names its database by its user where it names none', async () => {
    const own = await server
      .refusalOf({ user: 'app', password: 'secret', database: 'app' })
      .catch((error: Error) => error.message);
    expect(own).to.include('has logged in');
    const client = await send(
      passthrough.port,
      firstPacket(VERSION_3, startupParameters('user', 'app')),
      password(),
    );
    await client.until('Z');
    const [, row] = await client.query('SELECT current_database()::text');
    expect(row?.body.toString('latin1', 6)).to.equal('app');
    await client.end();
    const launched = await drivers[1]?.value(passthrough.login('app', 'secret'), WHO_LAUNCHES);
    expect(launched).to.equal('app as app');
  });

  it('with a password message without its end, or with more behind it, is refused', async () => {
    for (const body of ['secret', 'secret\0more\0', '']) {
      const client = await send(
        passthrough.port,
        serialize.startup({ user: 'app', database: 'app' }),
        message('p', bytes(body)),
      );
      const error = (await client.until('E')).at(-1) as RawMessage;
      expect(fieldsOf(error)['C']).to.equal('08P01');
      await client.closed();
    }
    expect((await loginErrorOf(passthrough.login('app', 'secret\0'))).code).to.match(
      /^(08P01|28P01)$/,
    );
  });
});
