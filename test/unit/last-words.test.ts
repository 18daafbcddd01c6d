import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { expect } from 'chai';
import { keepLastWords } from '../../src/last-words.ts';

const WORDS = 'x'.repeat(200_000);

/** A connection: one socket keeps last words, the other says them. */
async function connection(): Promise<{ reader: Socket; speaker: Socket; close: () => void }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const reader = connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true });
  keepLastWords(reader);
  reader.pause();
  reader.on('error', () => {});
  const [speaker] = (await once(server, 'connection')) as [Socket];
  return { reader, speaker, close: () => void server.close() };
}

/** All that a socket is told, to its end. */
async function heardBy(reader: Socket): Promise<string> {
  let heard = '';
  reader.on('data', (chunk: Buffer) => (heard += chunk.toString()));
  reader.on('end', () => reader.end());
  reader.resume();
  await closed(reader);
  return heard;
}

/** Settles when a socket is closed, for whatever reason. */
async function closed(socket: Socket): Promise<void> {
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
}

describe('keepLastWords', () => {
  it('changes nothing where both sides end in order', async () => {
    const { reader, speaker, close } = await connection();
    speaker.resume();
    speaker.end(WORDS);
    reader.write('and so on');
    expect(await heardBy(reader)).to.equal(WORDS);
    close();
  });

  for (const count of [1, 2, 20]) {
    it(`lets a socket be read to its end behind ${count} failed writes`, async () => {
      const { reader, speaker, close } = await connection();
      speaker.write(WORDS.slice(0, 1000));
      await once(reader, 'readable');
      // What is unread makes it a reset.
      reader.write('a question');
      await once(speaker.resume(), 'data');
      speaker.pause();
      speaker.write(WORDS.slice(1000, 2000), () => speaker.resetAndDestroy());
      await closed(speaker);
      for (let i = 0; i < count; i++) reader.write('another');
      expect(await heardBy(reader)).to.have.length(2000);
      close();
    });
  }

  it('ends a socket that is told nothing more', async () => {
    const { reader, speaker, close } = await connection();
    speaker.resetAndDestroy();
    await closed(speaker);
    reader.write('nobody hears this');
    expect(await heardBy(reader)).to.equal('');
    close();
  });

  it('lets whoever owns the socket destroy it at any time', async () => {
    const { reader, speaker, close } = await connection();
    speaker.on('error', () => {});
    speaker.write(WORDS);
    await once(reader, 'readable');
    reader.destroy(new Error('enough'));
    await closed(reader);
    expect(reader.destroyed).to.equal(true);
    speaker.destroy();
    close();
  });
});
