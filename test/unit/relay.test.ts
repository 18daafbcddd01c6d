import { once } from 'node:events';
import type { Socket } from 'node:net';
import { connect, TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { pump } from '../../proxy/relay.ts';
import { certificates, hasOpenssl } from '../support/certificates.ts';
import { eventually } from '../support/eventually.ts';
import { countingBytes, openSocketPair, type SocketPair } from '../support/socket-pair.ts';

/** More than all buffers between two sockets hold. */
const MUCH = 32 * 1024 * 1024;

/** A client and a server, and what stands between them: near ends are ours. */
interface Ends {
  readonly client: Socket;
  readonly source: Socket;
  readonly sink: Socket;
  readonly server: Socket;
}

const pumpUnchanged = (source: Socket, sink: Socket) =>
  pump(
    source,
    sink,
    (chunk, forward) => forward(chunk),
    () => {},
  );

describe('pump', () => {
  const pairs: SocketPair[] = [];
  afterEach(() => {
    for (const pair of pairs.splice(0)) pair.close();
  });

  async function openPlain(): Promise<{ near: Socket; far: Socket }> {
    const pair = await openSocketPair();
    pairs.push(pair);
    return pair;
  }

  /** The same with TLS above it. */
  async function openSecured(): Promise<{ near: Socket; far: Socket }> {
    const { near, far } = await openPlain();
    const { cert, key } = certificates().server;
    const secured = new TLSSocket(near, { isServer: true, cert, key });
    const other = connect({ socket: far, rejectUnauthorized: false });
    await Promise.all([once(secured, 'secure'), once(other, 'secureConnect')]);
    for (const socket of [secured, other]) socket.on('error', () => {});
    return { near: secured, far: other };
  }

  const kinds = [
    ['plain sockets', openPlain, openPlain],
    ['a client with TLS', openSecured, openPlain],
    ['a server with TLS', openPlain, openSecured],
    ['TLS on both sides', openSecured, openSecured],
  ] as const;

  for (const [name, openClient, openServer] of kinds) {
    describe(`between ${name}`, () => {
      let ends: Ends;

      beforeEach(async function () {
        if (name !== 'plain sockets' && !hasOpenssl) this.skip();
        const [client, server] = [await openClient(), await openServer()];
        ends = { client: client.far, source: client.near, sink: server.near, server: server.far };
      });

      /** As a relay does that lets all pass. */
      function relay(
        transform = (chunk: Buffer, forward: (bytes: Buffer) => void) => forward(chunk),
      ) {
        const errors: unknown[] = [];
        pump(ends.source, ends.sink, transform, (error) => errors.push(error));
        ends.source.resume();
        return errors;
      }

      function collect(socket: Socket) {
        const chunks: Buffer[] = [];
        socket.on('data', (chunk: Buffer) => chunks.push(chunk));
        return () => Buffer.concat(chunks);
      }

      it('moves every byte as it came, and the end behind it', async () => {
        relay();
        const received = collect(ends.server);
        const bytes = countingBytes(3_000_000);
        ends.client.end(bytes);
        await once(ends.server, 'end');
        expect(received().equals(bytes)).to.equal(true);
      });

      it('lets the source wait for a slow sink, and then loses nothing', async () => {
        relay();
        ends.server.pause();
        const bytes = countingBytes(MUCH);
        for (let at = 0; at < MUCH; at += 1024 * 1024)
          ends.client.write(bytes.subarray(at, at + 1024 * 1024));
        await eventually(() => {
          expect(ends.source.isPaused()).to.equal(true);
          return Promise.resolve();
        });
        expect(ends.sink.writableLength).to.be.below(256 * 1024);
        expect(ends.client.writableLength).to.be.above(0);
        const received = collect(ends.server);
        ends.server.resume();
        ends.client.end();
        await once(ends.server, 'end');
        expect(received().equals(bytes)).to.equal(true);
      });

      it('keeps the order of pieces, of what takes their place, and of what others write', async () => {
        ends.server.pause();
        const expected: Buffer[] = [];
        const put = (bytes: Buffer, write: (bytes: Buffer) => void) => {
          // The view lives on in the sink; here a copy is compared.
          expected.push(Buffer.from(bytes));
          write(bytes);
        };
        relay((chunk, forward) => {
          const middle = chunk.length >> 1;
          put(chunk.subarray(0, middle), forward);
          put(Buffer.from('<in place>'), forward);
          put(Buffer.from('<others>'), (bytes) => ends.sink.write(bytes));
          put(chunk.subarray(middle), forward);
        });
        const received = collect(ends.server);
        ends.server.pause();
        ends.client.write(countingBytes(MUCH));
        await eventually(() => {
          expect(ends.source.isPaused()).to.equal(true);
          return Promise.resolve();
        });
        ends.server.resume();
        ends.client.end();
        await once(ends.server, 'end');
        expect(received().equals(Buffer.concat(expected))).to.equal(true);
      });

      it('hands an error of the transformation over, and goes no further', async () => {
        const errors = relay(() => {
          throw new Error('none of ours');
        });
        ends.client.write('x');
        await eventually(() => {
          expect(errors.map(String)).to.deep.equal(['Error: none of ours']);
          return Promise.resolve();
        });
      });

      it('leaves it to the sink that its other side is gone', async () => {
        relay();
        ends.server.pause();
        ends.client.write(countingBytes(MUCH));
        await eventually(() => {
          expect(ends.source.isPaused()).to.equal(true);
          return Promise.resolve();
        });
        const closed = new Promise((resolve) => ends.sink.once('close', resolve));
        ends.server.destroy();
        await closed;
        expect(ends.sink.destroyed).to.equal(true);
      });
    });
  }

  it('answers a client that has ended', async () => {
    const [client, server] = [await openPlain(), await openPlain()];
    pumpUnchanged(client.near, server.near);
    pumpUnchanged(server.near, client.near);
    client.near.resume();
    server.near.resume();
    client.far.end('question');
    const [question] = (await once(server.far, 'data')) as [Buffer];
    expect(question.toString()).to.equal('question');
    server.far.end('answer');
    const [answer] = (await once(client.far, 'data')) as [Buffer];
    expect(answer.toString()).to.equal('answer');
  });

  it('gives the error of a source that breaks off to its socket', async () => {
    const [client, server] = [await openPlain(), await openPlain()];
    pumpUnchanged(client.near, server.near);
    client.near.resume();
    const failed = once(client.near, 'error');
    client.far.resetAndDestroy();
    expect(await failed).to.have.nested.property('[0].syscall', 'read');
  });
});
