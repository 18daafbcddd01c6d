import { expect } from 'chai';
import fc from 'fast-check';
import { serialize } from 'pg-protocol';
import { passthrough, scram } from '../../proxy/authentication.ts';
import { Users } from '../../proxy/users.ts';
import { BackendConnection, Password } from '../../src/index.ts';
import { HostileServer } from '../support/hostile-server.ts';
import { bytes, firstPacket, int32, message, startupParameters } from '../support/messages.ts';
import { TestProxy } from '../support/proxy.ts';
import { RawClient } from '../support/wire.ts';

// Bytes that nobody would send, for each parser that reads a stranger: the process lives, the
// connection ends, and the next client is served. The seed is fixed; the time is what CI can spare.

const SEED = 20_261_125;
const BUDGET_MS = 5_000;
/** Fewer than that in the time would show nothing. */
const ENOUGH = 50;

const budget = {
  seed: SEED,
  numRuns: 100_000,
  interruptAfterTimeLimit: BUDGET_MS,
  markInterruptAsFailure: false,
};

const anyBytes = (maxLength: number) =>
  fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));

const text = fc.string({ maxLength: 40, unit: 'binary' });

/** Mostly what the type says, now and then something else. */
const length = (right: number) =>
  fc.oneof(
    { weight: 8, arbitrary: fc.constant(right) },
    { weight: 1, arbitrary: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 20 }) },
  );

const typed = (types: fc.Arbitrary<string>, body: fc.Arbitrary<Buffer>) =>
  fc
    .tuple(types, body)
    .chain(([type, content]) =>
      length(4 + content.length).map((told) => Buffer.concat([bytes(type), int32(told), content])),
    );

const packet = fc.oneof(
  fc.constantFrom(firstPacket(80877103), firstPacket(80877104)),
  fc.array(text, { maxLength: 8 }).map((texts) => firstPacket(196608, startupParameters(...texts))),
  fc.tuple(fc.integer(), anyBytes(40)).map(([code, body]) => firstPacket(code, body)),
  anyBytes(40).map((body) => firstPacket(80877102, body)),
  anyBytes(64),
);

const scramText = fc.oneof(
  fc.constantFrom('n,,n=,r=abc', 'y,,n=,r=abc', 'p=x,,n=,r=abc', 'c=biws,r=abc,p=AAAA'),
  fc
    .array(fc.constantFrom('n', 'y', ',', '=', 'r', 'c', 'p', 'biws', 'AAAA', '\0'), {
      maxLength: 20,
    })
    .map((parts) => parts.join('')),
);

const passwordBody = fc.oneof(
  anyBytes(80),
  scramText.map((content) => bytes(content)),
  fc
    .tuple(scramText, fc.integer({ min: -10, max: 100 }))
    .map(([content, told]) =>
      Buffer.concat([bytes('SCRAM-SHA-256\0'), int32(told), bytes(content)]),
    ),
  scramText.map((content) =>
    Buffer.concat([bytes('SCRAM-SHA-256\0'), int32(content.length), bytes(content)]),
  ),
);

const serverBody = fc.oneof(
  anyBytes(60),
  fc
    .tuple(fc.constantFrom(0, 3, 5, 10, 11, 12, -1), anyBytes(40))
    .map(([kind, body]) => Buffer.concat([int32(kind), body])),
  fc
    .array(text, { maxLength: 5 })
    .map((fields) => bytes(`${fields.map((field) => `M${field}\0`).join('')}\0`)),
  fc.constant(bytes('I')),
);

const fromServer = fc.array(typed(fc.constantFrom(...'RESKZNTDCAv1GHWt', '\0'), serverBody), {
  maxLength: 8,
});

describe('fuzzing', function () {
  this.timeout(60_000);

  let honest: TestProxy;
  let listed: TestProxy;

  before(async () => {
    honest = await TestProxy.start();
    const logger = { debug() {}, info() {}, warn() {}, error() {} };
    const users = new Users(undefined, undefined, Buffer.from('a secret'), logger);
    listed = await TestProxy.inFrontOf(honest.database, {}, { authenticate: scram(users) });
  });
  after(async () => {
    await listed.stop();
    await honest.stop();
  });

  /** A fresh client is served. */
  async function expectService(): Promise<void> {
    const database = honest.database.name;
    const client = await RawClient.login(honest.port, { user: 'postgres', database });
    const answer = await client.query('SELECT 1');
    expect(answer.map(({ type }) => type).join('')).to.equal('TDCZ');
    await client.end();
  }

  /** Sends, ends, and waits until the proxy has ended it too. */
  async function talk(port: number, chunks: readonly Buffer[]): Promise<void> {
    const client = await RawClient.connect(port);
    client.socket.resume();
    for (const chunk of chunks) client.socket.write(chunk);
    client.socket.end();
    await client.closed();
  }

  it('of first packets hurts nobody', async () => {
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(packet, { maxLength: 4 }), async (chunks) => {
        await talk(honest.port, chunks);
        runs++;
        await expectService();
      }),
      budget,
    );
    expect(runs).to.be.above(ENOUGH);
  });

  it('of SCRAM messages lets nobody in, and hurts nobody', async () => {
    let runs = 0;
    const startup = serialize.startup({ user: 'postgres', database: 'postgres' });
    await fc.assert(
      fc.asyncProperty(
        fc.array(typed(fc.constantFrom('p', 'p', 'p', 'Q', 'X', '\0'), passwordBody), {
          maxLength: 4,
        }),
        async (chunks) => {
          const client = await RawClient.connect(listed.port);
          let seen: Buffer = Buffer.alloc(0);
          client.socket.on('data', (chunk) => (seen = Buffer.concat([seen, chunk])));
          for (const chunk of [startup, ...chunks]) client.socket.write(chunk);
          client.socket.end();
          await client.closed();
          expect(seen.includes(message('R', int32(0))), 'AuthenticationOk').to.equal(false);
          runs++;
          await expectService();
        },
      ),
      budget,
    );
    expect(runs).to.be.above(ENOUGH);
  });

  describe('of a server', () => {
    let server: HostileServer;
    let proxy: TestProxy;

    before(async () => {
      server = await HostileServer.start();
      const place = { host: '127.0.0.1', port: server.port, name: 'sales' };
      proxy = await TestProxy.inFrontOf(place, {}, { authenticate: passthrough(false) });
    });
    after(async () => {
      await proxy.stop();
      await server.stop();
    });

    it('ends its own sessions, and hurts no others', async () => {
      let runs = 0;
      await fc.assert(
        fc.asyncProperty(fromServer, async (chunks) => {
          server.script = (socket) => {
            for (const chunk of chunks) socket.write(chunk);
            socket.end();
          };
          await talk(proxy.port, [
            serialize.startup({ user: 'ann' }),
            serialize.password('hush'),
            serialize.query('SELECT 1'),
          ]);
          runs++;
          await expectService();
        }),
        budget,
      );
      expect(runs).to.be.above(ENOUGH);
    });

    it('gives background connections an error or an answer, and never a crash', async () => {
      let runs = 0;
      const target = {
        server: { host: '127.0.0.1', port: server.port },
        role: 'ann',
        database: 'sales',
      };
      await fc.assert(
        fc.asyncProperty(fromServer, fc.boolean(), async (chunks, isAccepting) => {
          server.script = (socket) => {
            if (isAccepting)
              socket.write(Buffer.concat([message('R', int32(0)), message('Z', bytes('I'))]));
            for (const chunk of chunks) socket.write(chunk);
            socket.end();
          };
          const credential = new Password(Buffer.from('hush'));
          await BackendConnection.open(target, credential, {}, 2_000).then(async (connection) => {
            await connection.query('SELECT 1').catch(expectError);
            await connection.close();
          }, expectError);
          runs++;
          await expectService();
        }),
        budget,
      );
      expect(runs).to.be.above(ENOUGH);
    });
  });
});

function expectError(error: unknown): void {
  expect(error).to.be.instanceOf(Error);
}
