import { expect } from 'chai';
import { ProtocolError } from '../../src/errors.ts';
import { FrameReader } from '../../src/frames.ts';
import { byteByByte, chunksOf, everyCut } from '../support/cuts.ts';
import { bytes, int32, message } from '../support/messages.ts';
import { SeededRandom } from '../support/random.ts';

const stream = Buffer.concat([
  message('Z', bytes('I')),
  message('1'),
  message('D', bytes('a body with \xff and \0 in it')),
  message('C', bytes('SELECT 1\0')),
]);
const frames = [
  'Z \0\0\0\x05I',
  '1 \0\0\0\x04',
  'D \0\0\0\x1da body with \xff and \0 in it',
  'C \0\0\0\x0dSELECT 1\0',
];

/** The frames that these chunks give, each as its type, a space and the rest. */
function framesOf(chunks: readonly Buffer[]): string[] {
  const found: string[] = [];
  const reader = new FrameReader((type, frame) =>
    found.push(`${String.fromCharCode(type)} ${frame.toString('latin1', 1)}`),
  );
  for (const chunk of chunks) reader.push(chunk);
  return found;
}

describe('FrameReader', () => {
  it('hands out each message of a chunk with its type and header', () => {
    expect(framesOf([stream])).to.deep.equal(frames);
  });

  it('gives the same frames wherever the stream is cut', () => {
    for (const cut of everyCut(stream)) expect(framesOf(cut)).to.deep.equal(frames);
  });

  it('gives the same frames byte by byte', () => {
    expect(framesOf(byteByByte(stream))).to.deep.equal(frames);
  });

  it('gives the same frames in chunks of any size', () => {
    const random = new SeededRandom(1);
    for (let round = 0; round < 200; round++) {
      const chunks = chunksOf(stream, () => 1 + random.below(9));
      expect(framesOf(chunks)).to.deep.equal(frames);
    }
  });

  it('keeps an unfinished message back', () => {
    expect(framesOf([stream.subarray(0, -1)])).to.deep.equal(frames.slice(0, -1));
  });

  it('hands out views into a chunk that holds the whole message', () => {
    let frame: Buffer | undefined;
    const chunk = Buffer.from(message('Z', bytes('I')));
    new FrameReader((_type, found) => (frame = found)).push(chunk);

    chunk.write('T', 5, 'latin1');
    expect(frame?.toString('latin1', 5)).to.equal('T');
  });

  it('keeps a copy of the beginning of an unfinished message', () => {
    const found: string[] = [];
    const reader = new FrameReader((_type, frame) => found.push(frame.toString('latin1', 5)));
    const whole = message('d', bytes('abcdef'));
    const beginning = Buffer.from(whole.subarray(0, 8));

    reader.push(beginning);
    beginning.fill('!');
    reader.push(whole.subarray(8));
    expect(found).to.deep.equal(['abcdef']);
  });

  it('rejects a length below 4', () => {
    expect(() => framesOf([Buffer.concat([bytes('Z'), int32(3)])])).to.throw(
      ProtocolError,
      'message length 3 is below 4',
    );
  });

  it('rejects a negative length', () => {
    expect(() => framesOf([Buffer.concat([bytes('Z'), int32(-1)])])).to.throw(ProtocolError);
  });

  it('rejects a length below 4 in a header that came in pieces', () => {
    expect(() => framesOf(byteByByte(Buffer.concat([bytes('Z'), int32(0)])))).to.throw(
      ProtocolError,
    );
  });

  it('hands out the messages that stand before a bad one', () => {
    const found: number[] = [];
    const reader = new FrameReader((type) => found.push(type));
    const bad = Buffer.concat([stream, bytes('Z'), int32(2)]);

    expect(() => reader.push(bad)).to.throw(ProtocolError);
    expect(found).to.have.length(frames.length);
  });
});
