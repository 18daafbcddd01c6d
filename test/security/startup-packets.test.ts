import { expect } from 'chai';
import {
  bytes,
  firstPacket,
  message,
  startupParameters,
  zeroTerminated,
} from '../support/messages.ts';
import { TestProxy } from '../support/proxy.ts';
import { fieldsOf, RawClient, type RawMessage } from '../support/wire.ts';

// A client writes its startup packet itself: nothing in it makes it somebody else to the server than
// it is to the proxy, takes the proxy's own parameters away, or hurts the next client.

const PROTOCOL_3_0 = 196608;
const ROLE = 'startup_packets_mallory';
const LONG = 'startup_packets_'.padEnd(70, 'x');

describe('a startup packet', () => {
  let proxy: TestProxy;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const admin = await proxy.database.direct();
    await admin.query(`CREATE ROLE ${ROLE} LOGIN`);
    await admin.query(`CREATE ROLE ${LONG} LOGIN`);
    await admin.query(`GRANT pgbackground_executor TO ${ROLE}, ${LONG}`);
  });
  after(async () => {
    const admin = await proxy.database.direct();
    await admin.query(`DROP OWNED BY ${ROLE}, ${LONG}`);
    await admin.query(`DROP ROLE ${ROLE}, ${LONG}`);
    await proxy.stop();
  });
  afterEach(() => proxy.expectNothingLeft());

  async function send(packet: Buffer): Promise<RawClient> {
    const client = await RawClient.connect(proxy.port);
    client.listen();
    client.socket.write(packet);
    return client;
  }

  const packetOf = (...texts: readonly string[]) =>
    firstPacket(PROTOCOL_3_0, startupParameters(...texts));

  const valueOf = (messages: readonly RawMessage[]) =>
    messages.find(({ type }) => type === 'D')?.body.toString('utf8', 6);

  const twoFaced: readonly (readonly [what: string, texts: () => string[], role: string])[] = [
    ['that names two roles', () => ['user', 'postgres', 'user', ROLE], ROLE],
    [
      'that names two roles and two databases',
      () => ['user', 'postgres', 'database', 'template1', 'user', ROLE],
      ROLE,
    ],
    ['with a name that the server cuts off', () => ['user', LONG], LONG.slice(0, 63)],
  ];
  for (const [what, texts, role] of twoFaced) {
    it(`${what} is one role to the proxy and to the server`, async () => {
      const client = await send(packetOf(...texts(), 'database', proxy.database.name));
      await client.untilOneOf('ZE');
      const answer = await client.query(
        `SELECT session_user || ' ' || r.worker FROM pg_background_result(pg_background_launch('SELECT session_user::text')) AS r(worker text)`,
      );
      expect(valueOf(answer), answer.map(({ type }) => type).join('')).to.equal(`${role} ${role}`);
      await client.end();
    });
  }

  const hostile = ['\\', "'; DROP TABLE x; --", '"', '$1', '-c role=postgres', '\u0001', '%n'];
  for (const name of ['user', 'database', 'options', 'application_name', 'pgbg_proxy.session']) {
    it(`with anything as ${name} is refused by the server, or means nothing`, async () => {
      for (const value of [...hostile, 'x'.repeat(9_000)]) {
        const parameters = new Map([
          ['user', ROLE],
          ['database', proxy.database.name],
          [name, value],
        ]);
        const client = await send(packetOf(...[...parameters].flat()));
        const answer = await client.untilOneOf('ZE');
        if (answer.at(-1)?.type === 'Z') {
          const role = await client.query('SELECT session_user');
          expect(valueOf(role), value).to.equal(ROLE);
          await client.end();
        } else {
          await client.closed();
        }
      }
      expect(await (await proxy.connect()).value('SELECT 1')).to.equal(1);
    });

    it(`with a zero byte in ${name} is refused where the layout breaks`, async () => {
      const packet = firstPacket(
        PROTOCOL_3_0,
        Buffer.concat([
          zeroTerminated('user'),
          zeroTerminated(ROLE),
          zeroTerminated(name),
          bytes('a\0b\0\0'),
        ]),
      );
      const client = await send(packet);
      const [refusal] = (await client.until('E')).slice(-1);
      expect(fieldsOf(refusal as RawMessage)).to.include({ S: 'FATAL', C: '08P01' });
      await client.closed();
    });
  }

  it("cannot bring a token of its own in the proxy's place", async () => {
    const client = await send(
      packetOf('user', ROLE, 'database', proxy.database.name, 'pgbg_proxy.session', 'mine'),
    );
    await client.until('Z');
    const token = valueOf(await client.query('SHOW pgbg_proxy.session'));
    expect(token).to.match(/^[0-9a-f-]{36}$/);
    await client.end();
  });

  it('that leaves no room for the token gets a session without the functions', async () => {
    const filler = 'x'.repeat(9_900 - proxy.database.name.length);
    const client = await send(
      packetOf('user', ROLE, 'database', proxy.database.name, 'a.b', filler),
    );
    await client.until('Z');
    client.socket.write(message('Q', zeroTerminated("SELECT pg_background_launch('SELECT 1')")));
    const [refusal] = (await client.until('E')).slice(-1);
    expect(fieldsOf(refusal as RawMessage)).to.include({ C: '55000' });
    await client.until('Z');
    await client.end();
  });
});
