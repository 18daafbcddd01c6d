import { once } from 'node:events';
import { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { DirectWriter } from '../../proxy/direct-write.ts';
import { countingBytes, openSocketPair, type SocketPair } from '../support/socket-pair.ts';
import { eventually } from '../support/eventually.ts';

/** Private parts of Node.js are used: a version that has others must fail here, and be slower elsewhere. */
describe('DirectWriter', () => {
  let pair: SocketPair;
  let near: Socket;
  let far: Socket;

  beforeEach(async () => {
    pair = await openSocketPair();
    ({ near, far } = pair);
  });
  afterEach(() => pair.close());

  function open(socket: Socket): DirectWriter {
    const writer = DirectWriter.of(socket);
    expect(writer, 'a writer').to.not.equal(undefined);
    return writer as DirectWriter;
  }

  /** Writes until the system takes no more. @returns all that was written */
  function fill(writer: DirectWriter): Buffer {
    const written: Buffer[] = [];
    let length = 0;
    while (!writer.isBehind) {
      const bytes = countingBytes(64 * 1024, length);
      writer.write(bytes);
      written.push(bytes);
      length += bytes.length;
    }
    return Buffer.concat(written);
  }

  async function allOf(socket: Socket, length: number): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let received = 0;
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      received += chunk.length;
    });
    socket.resume();
    await eventually(() => {
      expect(received).to.equal(length);
      return Promise.resolve();
    });
    return Buffer.concat(chunks);
  }

  it('writes without the stream what the system takes at once', async () => {
    const writer = open(near);
    near._write = () => expect.fail('the stream was used');
    for (const word of ['one', ' two', ' three']) writer.write(Buffer.from(word));
    expect(writer.isBehind).to.equal(false);
    expect((await allOf(far, 13)).toString()).to.equal('one two three');
  });

  it('takes an accepted socket, and one that has connected', () => {
    open(near);
    open(far);
  });

  it('keeps the order of what it writes and what others write to the socket', async () => {
    const writer = open(near);
    near.write('1');
    writer.write(Buffer.from('2'));
    near.write('3');
    near.write('4');
    writer.write(Buffer.from('5'));
    expect((await allOf(far, 5)).toString()).to.equal('12345');
  });

  it('is behind while the other side does not read, and loses nothing', async () => {
    const writer = open(near);
    const written = fill(writer);
    writer.write(Buffer.from('by the writer'));
    near.write(', by others');
    expect(near.writableLength).to.equal(24);
    const expected = Buffer.concat([written, Buffer.from('by the writer, by others')]);
    expect((await allOf(far, expected.length)).equals(expected)).to.equal(true);
    expect(writer.isBehind).to.equal(false);
  });

  it('falls behind again and again', async () => {
    const writer = open(near);
    for (let round = 0; round < 3; round++) {
      const written = fill(writer);
      expect((await allOf(far, written.length)).equals(written)).to.equal(true);
      far.removeAllListeners('data').pause();
      await eventually(() => {
        expect(writer.isBehind).to.equal(false);
        return Promise.resolve();
      });
    }
  });

  it('tells when what it is behind with is written, by a write to the socket', async () => {
    const writer = open(near);
    fill(writer);
    const written = new Promise((resolve) => near.write('', resolve));
    far.resume();
    await written;
    expect(writer.isBehind).to.equal(false);
  });

  it('lets the socket end behind all that was written', async () => {
    const writer = open(near);
    const written = fill(writer);
    near.end();
    const ended = once(far, 'end');
    expect((await allOf(far, written.length)).equals(written)).to.equal(true);
    await ended;
  });

  it('leaves an error to the socket', async () => {
    const writer = open(near);
    const failed = once(near, 'error');
    far.resetAndDestroy();
    // Nobody reads: only by a write is it noticed.
    await eventually(() => {
      writer.write(Buffer.from('x'));
      expect(near.errored).to.not.equal(null);
      return Promise.resolve();
    });
    expect(await failed).to.have.nested.property('[0].syscall', 'write');
  });

  it('leaves an error to the socket that comes while the rest waits', async () => {
    const writer = open(near);
    fill(writer);
    const told = new Promise<Error | null | undefined>((resolve) => near.write('', resolve));
    const failed = once(near, 'error');
    far.resetAndDestroy();
    expect(await failed).to.have.nested.property('[0].syscall', 'write');
    expect(await told).to.be.an('error');
  });

  it('writes nothing to a socket that is destroyed, before and after it has closed', async () => {
    const writer = open(near);
    near.destroy();
    writer.write(Buffer.from('x'));
    await once(near, 'close');
    writer.write(Buffer.from('x'));
    expect(near.errored).to.equal(null);
  });

  it('is content with the end of a socket while the rest waits', async () => {
    const writer = open(near);
    fill(writer);
    near.destroy();
    await once(near, 'close');
    expect(near.errored).to.equal(null);
  });

  it('leaves a socket of TLS as it is', () => {
    const secured = new TLSSocket(near);
    expect(DirectWriter.of(secured)).to.equal(undefined);
    secured.destroy();
  });

  it('leaves a socket as it is that has other fields inside', () => {
    const unknown = new Duplex({ read: () => {} }) as unknown as Socket;
    expect(DirectWriter.of(unknown)).to.equal(undefined);
  });
});
