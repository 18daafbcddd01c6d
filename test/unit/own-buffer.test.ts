import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { readIntoOwnBuffer } from '../../proxy/own-buffer.ts';
import { eventually } from '../support/eventually.ts';

/** Private fields of Node.js are used: a version that has others must fail here, and be slower elsewhere. */
describe('readIntoOwnBuffer', () => {
  let server: Server;
  let near: Socket;
  let far: Socket;

  beforeEach(async () => {
    server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    far = connect((server.address() as AddressInfo).port, '127.0.0.1');
    [near] = (await once(server, 'connection')) as [Socket];
  });
  afterEach(() => {
    near.destroy();
    far.destroy();
    server.close();
  });

  /** Collects copies of what comes. */
  function collected(socket: Socket) {
    const chunks: Buffer[] = [];
    const memories = new Set<ArrayBufferLike>();
    const isOwn = readIntoOwnBuffer(socket, (chunk) => {
      memories.add(chunk.buffer);
      chunks.push(Buffer.from(chunk));
    });
    return { isOwn, memories, text: () => Buffer.concat(chunks).toString() };
  }

  const shows = (text: () => string, expected: string) =>
    eventually(() => {
      expect(text()).to.equal(expected);
      return Promise.resolve();
    });

  it('takes an accepted socket, and one that has connected', () => {
    expect(collected(near).isOwn).to.equal(true);
    expect(collected(far).isOwn).to.equal(true);
  });

  it('reads everything into the same memory', async () => {
    const { memories, text } = collected(near);
    near.resume();
    let expected = '';
    for (const word of ['one', ' two', ' three']) {
      far.write(word);
      expected += word;
      await shows(text, expected);
    }
    expect(text()).to.equal('one two three');
    expect(memories.size).to.equal(1);
  });

  it('reads more at a time once there is more to read', async () => {
    const lengths: number[] = [];
    readIntoOwnBuffer(near, (chunk) => lengths.push(chunk.length));
    near.resume();
    const length = 1_000_000;
    far.write(Buffer.alloc(length));
    await eventually(() => {
      expect(lengths.reduce((sum, one) => sum + one, 0)).to.equal(length);
      return Promise.resolve();
    });
    expect(lengths[0]).to.equal(8 * 1024);
    expect(Math.max(...lengths)).to.be.above(8 * 1024);
    expect(Math.max(...lengths)).to.be.at.most(64 * 1024);
  });

  it('gives first what had been read before', async () => {
    far.write('early');
    near.once('readable', () => {});
    await once(near, 'readable');
    const { text } = collected(near);
    expect(text()).to.equal('early');
    near.resume();
    far.write(', late');
    await shows(text, 'early, late');
  });

  it('reads nothing while the socket is paused', async () => {
    const { text } = collected(near);
    near.resume();
    far.write('a');
    await shows(text, 'a');
    near.pause();
    far.write('b');
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    expect(text()).to.equal('a');
    near.resume();
    await shows(text, 'ab');
  });

  it('tells the end', async () => {
    const { text } = collected(near);
    near.resume();
    far.end('bye');
    await once(near, 'end');
    expect(text()).to.equal('bye');
  });

  it('leaves a socket of TLS as it is', () => {
    const secured = new TLSSocket(near);
    expect(readIntoOwnBuffer(secured, () => {})).to.equal(false);
    secured.destroy();
  });

  it('leaves a socket as it is that has other fields inside', () => {
    const unknown = new Duplex({ read: () => {} }) as unknown as Socket;
    expect(readIntoOwnBuffer(unknown, () => {})).to.equal(false);
  });
});
