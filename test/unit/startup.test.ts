import { expect } from 'chai';
import type { Socket } from 'node:net';
import { duplexPair, type Duplex } from 'node:stream';
import { ClientConnection } from '../../proxy/client-connection.ts';
import { addParameters, asksForReplication, readFirstPacket } from '../../proxy/startup.ts';
import { BackgroundError, ProtocolError } from '../../src/errors.ts';
import { byteByByte, chunksOf, everyCut } from '../support/cuts.ts';
import { bytes, firstPacket, int32, query, startupParameters } from '../support/messages.ts';
import { SeededRandom } from '../support/random.ts';
import { rejectionOf } from '../support/rejection.ts';

const PROTOCOL_3_0 = 196608;
const PROTOCOL_3_2 = 196610;
const sslRequest = firstPacket(80877103);
const gssencRequest = firstPacket(80877104);
const startup = firstPacket(
  PROTOCOL_3_0,
  startupParameters('user', 'alice', 'database', 'd\u00c3\u00a9', 'options', ''),
);
const pipelined = query('SELECT 1');

function cancelRequest(keyBytes: number): Buffer {
  return firstPacket(80877102, Buffer.concat([int32(4711), Buffer.alloc(keyBytes, 7)]));
}

interface Connection {
  readonly client: Duplex;
  /** The first packet, and what had arrived behind it then. */
  readonly reading: ReturnType<typeof readWithRest>;
  readonly proxySide: Duplex;
}

/** A client that is read from; the pair needs no port. */
function connect(): Connection {
  const [client, proxySide] = duplexPair();
  return { client, proxySide, reading: readWithRest(proxySide as Socket) };
}

async function readWithRest(socket: Socket) {
  const connection = new ClientConnection(socket, false);
  const first = await readFirstPacket(connection);
  return first?.kind === 'startup' ? { ...first, rest: connection.reader.buffered } : first;
}

/** What is read from a client that sends these chunks, one after the other. */
async function firstOf(...chunks: readonly Buffer[]) {
  const { client, reading } = connect();
  for (const chunk of chunks) client.write(chunk);
  return reading;
}

/** The answers that a client is given before the first packet is read. */
async function answersTo(...chunks: readonly Buffer[]): Promise<string> {
  const { client, proxySide, reading } = connect();
  for (const chunk of chunks) client.write(chunk);
  await reading;
  proxySide.end();
  let answers = '';
  for await (const answer of client) answers += (answer as Buffer).toString('latin1');
  return answers;
}

describe('readFirstPacket', () => {
  it('reads a StartupMessage', async () => {
    expect(await firstOf(startup)).to.deep.equal({
      kind: 'startup',
      packet: startup,
      parameters: new Map([
        ['user', 'alice'],
        ['database', 'dé'],
        ['options', ''],
      ]),
      rest: Buffer.alloc(0),
    });
  });

  it('reads a StartupMessage without parameters', async () => {
    const first = await firstOf(firstPacket(PROTOCOL_3_0, startupParameters()));
    expect(first).to.have.deep.property('parameters', new Map());
  });

  it('reads a StartupMessage of a later minor version', async () => {
    const packet = firstPacket(PROTOCOL_3_2, startupParameters('user', 'alice'));
    expect(await firstOf(packet)).to.deep.include({ kind: 'startup', packet });
  });

  it('gives what arrived behind the StartupMessage', async () => {
    const first = await firstOf(Buffer.concat([startup, pipelined]));
    expect(first).to.have.deep.property('rest', pipelined);
  });

  it('leaves on the socket what arrives later', async () => {
    const { client, proxySide, reading } = connect();
    client.write(startup);
    await reading;
    client.end(pipelined);

    const later: Buffer[] = [];
    for await (const chunk of proxySide) later.push(chunk as Buffer);
    expect(Buffer.concat(later)).to.deep.equal(pipelined);
  });

  it('reads the same wherever the packets are cut', async () => {
    const stream = Buffer.concat([gssencRequest, sslRequest, startup, pipelined]);
    for (const cut of everyCut(stream)) {
      const first = await firstOf(...cut);
      if (first?.kind !== 'startup') throw new Error('no StartupMessage');
      expect(first.packet).to.deep.equal(startup);
      // The cut may lie within what comes behind: only its beginning has been read then.
      expect(pipelined.subarray(0, first.rest.length)).to.deep.equal(first.rest);
    }
  });

  it('reads the same byte by byte', async () => {
    const first = await firstOf(...byteByByte(Buffer.concat([sslRequest, startup])));
    expect(first).to.deep.include({ kind: 'startup', packet: startup });
  });

  it('answers SSLRequest with N', async () => {
    expect(await answersTo(sslRequest, startup)).to.equal('N');
  });

  it('answers GSSENCRequest with N', async () => {
    expect(await answersTo(gssencRequest, startup)).to.equal('N');
  });

  it('answers each of several encryption requests', async () => {
    expect(await answersTo(gssencRequest, sslRequest, startup)).to.equal('NN');
  });

  it('answers nothing to a StartupMessage', async () => {
    expect(await answersTo(startup)).to.equal('');
  });

  for (const [length, keyBytes] of [
    [16, 4],
    [44, 32],
    [268, 256],
  ] as const) {
    it(`reads a CancelRequest of ${length} bytes`, async () => {
      const packet = cancelRequest(keyBytes);
      expect(packet).to.have.length(length);
      expect(await firstOf(packet)).to.deep.equal({ kind: 'cancel', packet });
    });
  }

  it('reads a CancelRequest behind an SSLRequest', async () => {
    const packet = cancelRequest(4);
    expect(await firstOf(sslRequest, packet)).to.deep.equal({ kind: 'cancel', packet });
  });

  it('reads a CancelRequest wherever it is cut', async () => {
    const packet = cancelRequest(4);
    for (const cut of everyCut(packet))
      expect(await firstOf(...cut)).to.deep.equal({ kind: 'cancel', packet });
  });

  it('reads a StartupMessage of the 10000 bytes behind its length that the server takes', async () => {
    const filling = 'x'.repeat(
      10_004 - firstPacket(PROTOCOL_3_0, startupParameters('a', '')).length,
    );
    const packet = firstPacket(PROTOCOL_3_0, startupParameters('a', filling));
    expect(packet).to.have.length(10_004);
    expect(await firstOf(packet)).to.deep.include({ kind: 'startup', packet });
  });

  describe('when the client goes away', () => {
    it('gives undefined when it has sent nothing', async () => {
      const { client, reading } = connect();
      client.end();
      expect(await reading).to.equal(undefined);
    });

    it('gives undefined when it has sent a part', async () => {
      const { client, reading } = connect();
      client.end(startup.subarray(0, -1));
      expect(await reading).to.equal(undefined);
    });

    it('gives undefined when it has sent an encryption request only', async () => {
      const { client, reading } = connect();
      client.end(sslRequest);
      expect(await reading).to.equal(undefined);
    });

    it('gives undefined when the connection is cut', async () => {
      const { proxySide, reading } = connect();
      proxySide.destroy();
      expect(await reading).to.equal(undefined);
    });

    it('gives undefined for a connection that was cut before', async () => {
      const [, proxySide] = duplexPair();
      proxySide.destroy();
      expect(await readWithRest(proxySide as Socket)).to.equal(undefined);
    });
  });

  it('leaves no listener on the socket', async () => {
    const { client, proxySide, reading } = connect();
    const before = ['end', 'close'].map((event) => proxySide.listenerCount(event));
    for (const chunk of byteByByte(startup)) client.write(chunk);
    await reading;

    expect(proxySide.listenerCount('data')).to.equal(0);
    const after = ['end', 'close'].map((event) => proxySide.listenerCount(event));
    expect(after).to.deep.equal(before.map((count) => count - 1));
  });

  const badLayout = 'invalid startup packet layout: expected terminator as last byte';
  const refused: readonly (readonly [what: string, packet: Buffer, message: string])[] = [
    ['a length below 8', Buffer.concat([int32(7), int32(0)]), 'invalid length of startup packet'],
    ['a negative length', Buffer.concat([int32(-1), int32(0)]), 'invalid length of startup packet'],
    [
      'a length above 10004',
      Buffer.concat([int32(10_005), int32(PROTOCOL_3_0)]),
      'invalid length of startup packet',
    ],
    ['an HTTP request', bytes('GET / HTTP/1.1\r\n\r\n'), 'invalid length of startup packet'],
    ['a CancelRequest of 15 bytes', cancelRequest(3), 'invalid length of cancel request'],
    ['a CancelRequest of 269 bytes', cancelRequest(257), 'invalid length of cancel request'],
    [
      'an SSLRequest of 9 bytes',
      firstPacket(80877103, Buffer.of(0)),
      'invalid length of encryption request',
    ],
    [
      'a GSSENCRequest of 12 bytes',
      firstPacket(80877104, int32(0)),
      'invalid length of encryption request',
    ],
    [
      'a StartupMessage with an empty name in the middle',
      firstPacket(PROTOCOL_3_0, bytes('user\0alice\0\0x\0\0')),
      'invalid startup packet layout: empty parameter name',
    ],
    ['a StartupMessage without terminator', firstPacket(PROTOCOL_3_0), badLayout],
    [
      'a StartupMessage whose last byte is missing',
      firstPacket(PROTOCOL_3_0, startupParameters('user', 'alice').subarray(0, -1)),
      badLayout,
    ],
    [
      'a StartupMessage that ends in a name',
      firstPacket(PROTOCOL_3_0, bytes('user\0alice\0database\0')),
      badLayout,
    ],
    [
      'a StartupMessage that ends in the middle of a value',
      firstPacket(PROTOCOL_3_0, bytes('user\0alice')),
      badLayout,
    ],
    [
      'a StartupMessage with bytes behind its terminator',
      firstPacket(PROTOCOL_3_0, bytes('user\0alice\0\0more')),
      badLayout,
    ],
  ];
  for (const [version, code] of [
    ['2.0', 131072],
    ['4.1', 262145],
    ['32768.1', -2147483647],
  ] as const) {
    it(`rejects protocol ${version} with the code of the server`, async () => {
      const packet = firstPacket(code, startupParameters('user', 'alice'));
      const error = await rejectionOf(firstOf(packet));
      expect(error).to.include({
        code: '0A000',
        message: `unsupported frontend protocol ${version}: this proxy speaks 3.x`,
      });
    });
  }

  for (const [values, isReplication] of [
    [['t', 'TRUE', 'tru', 'y', 'Yes', 'on', 'ON', '1', 'database'], true],
    [['', 'false', 'off', 'of', 'no', '0', 'o', 'tr ue', 'truee', 'DATABASE'], false],
  ] as const) {
    for (const value of values) {
      it(`takes replication=${value} for a ${isReplication ? 'yes' : 'no'}, as the server`, () => {
        expect(asksForReplication(new Map([['replication', value]]))).to.equal(isReplication);
      });
    }
  }

  for (const [what, packet, message] of refused) {
    it(`rejects ${what}`, async () => {
      const error = await rejectionOf(firstOf(packet));
      expect(error).to.be.instanceOf(ProtocolError).with.property('message', message);
    });
  }

  it('rejects a bad packet behind an SSLRequest', async () => {
    const error = await rejectionOf(firstOf(sslRequest, bytes('GET / HTTP/1.1')));
    expect(error).to.be.instanceOf(ProtocolError);
  });

  it('throws nothing but errors of its own for random packets', async () => {
    const random = new SeededRandom(5);
    const outcomes = new Set<string>();
    for (let round = 0; round < 500; round++) {
      const body = random.bytes(random.below(30)).map((byte) => (byte < 90 ? 0 : byte));
      const code = random.oneOf([PROTOCOL_3_0, 80877102, 80877103, random.below(2 ** 32)]);
      const packet = firstPacket(code, Buffer.from(body));
      const { client, reading } = connect();
      for (const chunk of chunksOf(packet, () => 1 + random.below(20))) client.write(chunk);
      client.end();
      const outcome = await reading.then(
        (first) => first?.kind ?? 'gone',
        (error: unknown) => {
          expect(error).to.be.instanceOf(BackgroundError);
          return 'refused';
        },
      );
      outcomes.add(outcome);
    }
    expect([...outcomes]).to.have.members(['startup', 'cancel', 'gone', 'refused']);
  });
});

describe('addParameters', () => {
  it("adds parameters behind the client's own", () => {
    const longer = addParameters(startup, [
      ['pgbg_proxy.session', 'token'],
      ['second', ''],
    ]);
    const body = startup.subarray(8, -1);
    const added = startupParameters('pgbg_proxy.session', 'token', 'second', '');
    expect(longer).to.deep.equal(firstPacket(PROTOCOL_3_0, Buffer.concat([body, added])));
  });

  it('adds parameters where the client has none', () => {
    const empty = firstPacket(PROTOCOL_3_2, startupParameters());
    expect(addParameters(empty, [['a', 'b']])).to.deep.equal(
      firstPacket(PROTOCOL_3_2, startupParameters('a', 'b')),
    );
  });

  it('leaves the given packet as it was', () => {
    const packet = Buffer.from(startup);
    addParameters(packet, [['a', 'b']]);
    expect(packet).to.deep.equal(startup);
  });

  it('adds parameters up to the length that the server takes', () => {
    const longer = addParameters(startup, [['a', 'x'.repeat(10_004 - startup.length - 3)]]);
    expect(longer).to.have.length(10_004);
  });

  it('gives the packet as it is where the server would refuse a longer one', () => {
    const tooMuch = 'x'.repeat(10_004 - startup.length - 2);
    expect(addParameters(startup, [['a', tooMuch]])).to.equal(startup);
  });
});
