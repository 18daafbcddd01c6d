import { expect } from 'chai';
import { MessageFilter, type FilterRules, type Verdict } from '../../proxy/message-filter.ts';
import { byteByByte, chunksOf, everyCut } from '../support/cuts.ts';
import { bytes, int32, message } from '../support/messages.ts';
import { SeededRandom } from '../support/random.ts';

const MAX_TAKEN = 1000;

/**
 * Rules for a stream of letters. p: passes. r: is taken and replaced; x: is taken and removed.
 * k: is peeked at, and its fate is the letter behind its first '='; without one it passes.
 */
class LetterRules implements FilterRules {
  readonly headers: string[] = [];
  readonly taken: string[] = [];
  readonly tooLargeLengths: number[] = [];

  header(type: number, length: number): Verdict {
    const letter = String.fromCharCode(type);
    this.headers.push(`${letter}${length}`);
    if (letter === 'k') return 'peek';
    return letter === 'r' || letter === 'x' ? 'take' : 'pass';
  }

  peek(beginning: Buffer): Verdict {
    const at = beginning.indexOf('=', 5);
    const fate = at < 0 ? undefined : beginning[at + 1];
    if (fate === undefined) return 'peek';
    return fate === 'p'.charCodeAt(0) ? 'pass' : 'take';
  }

  take(frame: Buffer): Buffer | undefined {
    this.taken.push(frame.toString('latin1'));
    const isRemoved = frame[0] === 'x'.charCodeAt(0) || frame.includes('=x', 5);
    return isRemoved ? undefined : replacementOf(frame);
  }

  tooLarge(length: number): void {
    this.tooLargeLengths.push(length);
  }
}

/** Rules that let all pass and note where the headers stand, which must be those of `pass`. */
function placesOfHeaders() {
  const places: number[] = [];
  const rules: FilterRules = {
    ...{ peek: () => 'pass', take: () => undefined, tooLarge: () => {} },
    header: (_type, _length, chunk, at) => {
      expect(chunk.subarray(at, at + 5)).to.deep.equal(pass.subarray(0, 5));
      places.push(at);
      return 'pass';
    },
  };
  return { rules, places };
}

function replacementOf(frame: Buffer): Buffer {
  return Buffer.concat([bytes('<'), frame.subarray(5), bytes('>')]);
}

/** All that comes of a stream in these chunks. */
function outcomeOf(chunks: readonly Buffer[], maxTaken = MAX_TAKEN) {
  const rules = new LetterRules();
  const filter = new MessageFilter(rules, maxTaken);
  const forwarded: Buffer[] = [];
  // Copied: a view lives until the call returns.
  for (const chunk of chunks) filter.push(chunk, (part) => forwarded.push(Buffer.from(part)));
  const { headers, taken, tooLargeLengths } = rules;
  return {
    output: Buffer.concat(forwarded).toString('latin1'),
    hasEmptyPart: forwarded.some((part) => part.length === 0),
    headers,
    taken,
    tooLargeLengths,
  };
}

function text(...messages: readonly Buffer[]): string {
  return Buffer.concat(messages).toString('latin1');
}

const pass = message('p', bytes('passes \xff\0'));
const replaced = message('r', bytes('abc'));
const removed = message('x', bytes('def'));

describe('MessageFilter', () => {
  it('forwards a message that passes', () => {
    expect(outcomeOf([pass]).output).to.equal(text(pass));
  });

  it('replaces a message that is taken', () => {
    expect(outcomeOf([Buffer.concat([pass, replaced, pass])]).output).to.equal(
      text(pass, bytes('<abc>'), pass),
    );
  });

  it('removes a message that is taken and not replaced', () => {
    expect(outcomeOf([Buffer.concat([pass, removed, pass])]).output).to.equal(text(pass, pass));
  });

  it('hands out a taken message with its header', () => {
    expect(outcomeOf([replaced]).taken).to.deep.equal([text(replaced)]);
  });

  it('takes a message without a body', () => {
    expect(outcomeOf([Buffer.concat([message('r'), pass])]).output).to.equal(
      text(bytes('<>'), pass),
    );
  });

  it('forwards a message that passes after a look at it', () => {
    const peeked = message('k', bytes('looks harmless =p and is'));
    expect(outcomeOf([Buffer.concat([peeked, pass])])).to.deep.include({
      output: text(peeked, pass),
      taken: [],
    });
  });

  it('takes a message after a look at it', () => {
    const peeked = message('k', bytes('=x'));
    expect(outcomeOf([Buffer.concat([peeked, pass])])).to.deep.include({
      output: text(pass),
      taken: [text(peeked)],
    });
  });

  it('forwards a message that is undecided to its end', () => {
    const peeked = message('k', bytes('x'.repeat(500)));
    expect(outcomeOf([Buffer.concat([peeked, pass])]).output).to.equal(text(peeked, pass));
  });

  it('looks further into a message until it is decided', () => {
    const peeked = message('k', bytes(`${'.'.repeat(700)}=x`));
    expect(outcomeOf(byteByByte(Buffer.concat([peeked, pass]))).taken).to.deep.equal([
      text(peeked),
    ]);
  });

  it('forwards nothing that is empty', () => {
    const stream = Buffer.concat([removed, pass, replaced, message('k', bytes('=p')), removed]);
    for (const cut of everyCut(stream)) expect(outcomeOf(cut).hasEmptyPart).to.equal(false);
  });

  it('asks once about each header, however the stream is cut', () => {
    const stream = Buffer.concat([pass, replaced, message('k', bytes('=p')), removed]);
    for (const cut of everyCut(stream))
      expect(outcomeOf(cut).headers).to.deep.equal(['p14', 'r8', 'k7', 'x8']);
  });

  it('tells the rules where a message stands in its chunk', () => {
    const { rules, places } = placesOfHeaders();
    new MessageFilter(rules, MAX_TAKEN).push(Buffer.concat([pass, pass]), () => {});
    expect(places).to.deep.equal([0, pass.length]);
  });

  it('shows the rules a header that came in pieces at the beginning of a chunk', () => {
    const { rules, places } = placesOfHeaders();
    const filter = new MessageFilter(rules, MAX_TAKEN);
    for (const byte of byteByByte(Buffer.concat([pass, pass]))) filter.push(byte, () => {});
    expect(places).to.deep.equal([0, 0]);
  });

  describe('however the stream is cut', () => {
    const stream = Buffer.concat([
      pass,
      replaced,
      message('p'),
      message('k', bytes(`${'.'.repeat(130)}=p${'.'.repeat(20)}`)),
      removed,
      message('k'),
      message('k', bytes(`${'.'.repeat(130)}=r`)),
      message('r'),
      message('x', bytes('#'.repeat(MAX_TAKEN))),
      message('k', bytes('undecided')),
      message('k', bytes(`=x${'#'.repeat(MAX_TAKEN)}`)),
      pass,
    ]);
    const whole = outcomeOf([stream]);

    it('gives the same whole, with all of it in one chunk', () => {
      expect(whole).to.deep.include({
        output: text(
          pass,
          bytes('<abc>'),
          message('p'),
          message('k', bytes(`${'.'.repeat(130)}=p${'.'.repeat(20)}`)),
          message('k'),
          bytes(`<${'.'.repeat(130)}=r>`),
          bytes('<>'),
          message('k', bytes('undecided')),
          pass,
        ),
        tooLargeLengths: [MAX_TAKEN + 5, MAX_TAKEN + 7],
      });
    });

    it('gives the same at every offset', () => {
      for (const cut of everyCut(stream)) expect(outcomeOf(cut)).to.deep.equal(whole);
    });

    it('gives the same byte by byte', () => {
      expect(outcomeOf(byteByByte(stream))).to.deep.equal(whole);
    });

    it('gives the same in chunks of any size', () => {
      const random = new SeededRandom(2);
      for (let round = 0; round < 200; round++) {
        const limit = random.oneOf([3, 20, 200, 2000]);
        const chunks = chunksOf(stream, () => 1 + random.below(limit));
        expect(outcomeOf(chunks)).to.deep.equal(whole);
      }
    });
  });

  describe('holding back', () => {
    function forwardedBy(filter: MessageFilter, chunk: Buffer): Buffer {
      const parts: Buffer[] = [];
      filter.push(chunk, (part) => parts.push(Buffer.from(part)));
      return Buffer.concat(parts);
    }

    it('forwards a chunk itself when nothing in it is taken', () => {
      const chunk = Buffer.concat([pass, pass]);
      const parts: Buffer[] = [];
      new MessageFilter(new LetterRules(), MAX_TAKEN).push(chunk, (part) => parts.push(part));

      expect(parts).to.have.length(1);
      expect(parts[0]).to.equal(chunk);
    });

    it('forwards what it has of a message that passes', () => {
      const filter = new MessageFilter(new LetterRules(), MAX_TAKEN);
      expect(forwardedBy(filter, pass.subarray(0, 7))).to.deep.equal(pass.subarray(0, 7));
    });

    it('forwards what it has of a peeked message as soon as that is known to pass', () => {
      const foreign = message('k', bytes(`=p${'.'.repeat(100_000)}`));
      const filter = new MessageFilter(new LetterRules(), MAX_TAKEN);
      expect(forwardedBy(filter, foreign.subarray(0, 200))).to.have.length(200);
    });

    it('forwards the rest of such a message in the chunks in which it comes', () => {
      const foreign = message('k', bytes(`=p${'.'.repeat(100_000)}`));
      const filter = new MessageFilter(new LetterRules(), MAX_TAKEN);
      filter.push(foreign.subarray(0, 200), () => {});
      const rest = foreign.subarray(200, 5000);
      const parts: Buffer[] = [];
      filter.push(rest, (part) => parts.push(part));

      expect(parts).to.have.length(1);
      expect(parts[0]).to.equal(rest);
    });

    it('forwards nothing of a message that is taken before all of it is there', () => {
      const filter = new MessageFilter(new LetterRules(), MAX_TAKEN);
      expect(forwardedBy(filter, replaced.subarray(0, -1))).to.have.length(0);
    });

    it('keeps a copy of what it holds back', () => {
      const filter = new MessageFilter(new LetterRules(), MAX_TAKEN);
      const beginning = Buffer.from(replaced.subarray(0, 6));
      filter.push(beginning, () => {});
      beginning.fill('!');

      expect(forwardedBy(filter, replaced.subarray(6))).to.deep.equal(bytes('<abc>'));
    });

    it('keeps the order of what it forwards and what it replaces', () => {
      const filter = new MessageFilter(new LetterRules(), MAX_TAKEN);
      const stream = Buffer.concat([pass, replaced, pass, replaced]);
      expect(forwardedBy(filter, stream)).to.deep.equal(
        Buffer.concat([pass, bytes('<abc>'), pass, bytes('<abc>')]),
      );
    });
  });

  describe('an end', () => {
    for (const frame of [pass, replaced, message('k', bytes('0'.repeat(500)))]) {
      const type = String.fromCharCode(frame[0] as number);
      it(`loses nothing of a message ${type} that it cuts short, wherever it comes`, () => {
        for (let length = 1; length < frame.length; length++) {
          const stream = Buffer.concat([pass, frame.subarray(0, length)]);
          for (const chunks of [[stream], byteByByte(stream)]) {
            const parts: Buffer[] = [];
            const forward = (part: Buffer) => void parts.push(Buffer.from(part));
            const filter = new MessageFilter(new LetterRules(), MAX_TAKEN);
            for (const chunk of chunks) filter.push(chunk, forward);
            filter.finish(forward);
            expect(Buffer.concat(parts)).to.deep.equal(stream);
          }
        }
      });
    }

    it('forwards nothing between two messages', () => {
      const filter = new MessageFilter(new LetterRules(), MAX_TAKEN);
      filter.push(replaced, () => {});
      filter.finish(() => expect.fail('there is nothing to forward'));
    });
  });

  describe('too large', () => {
    const large = message('x', bytes('#'.repeat(MAX_TAKEN - 4)));

    it('takes a message of exactly the limit', () => {
      const exact = message('x', bytes('#'.repeat(MAX_TAKEN - 5)));
      for (const cut of everyCut(exact))
        expect(outcomeOf(cut)).to.deep.include({ tooLargeLengths: [], taken: [text(exact)] });
    });

    it('drops a longer message that was to be taken, and says its length', () => {
      expect(outcomeOf([large])).to.deep.include({
        output: '',
        taken: [],
        tooLargeLengths: [MAX_TAKEN + 1],
      });
    });

    it('says so when the header is there, before the rest has come', () => {
      expect(outcomeOf([large.subarray(0, 5)]).tooLargeLengths).to.deep.equal([MAX_TAKEN + 1]);
    });

    it('leaves what stands around it intact', () => {
      for (const cut of everyCut(Buffer.concat([pass, large, pass])))
        expect(outcomeOf(cut).output).to.equal(text(pass, pass));
    });

    it('drops a message that a look at it would have taken', () => {
      const peeked = message('k', bytes(`=r${'#'.repeat(MAX_TAKEN)}`));
      expect(outcomeOf([Buffer.concat([pass, peeked, pass])])).to.deep.include({
        output: text(pass, pass),
        tooLargeLengths: [MAX_TAKEN + 7],
      });
    });

    it('lets a message of any size pass', () => {
      const long = message('p', bytes('#'.repeat(10 * MAX_TAKEN)));
      expect(outcomeOf([long]).output).to.equal(text(long));
    });

    it('lets a peeked message of any size pass', () => {
      const long = message('k', bytes(`=p${'#'.repeat(10 * MAX_TAKEN)}`));
      expect(outcomeOf([long]).output).to.equal(text(long));
    });
  });

  describe('malformed', () => {
    for (const length of [3, 0, -1, -2147483648]) {
      it(`passes on what has the length ${length}, and all behind it`, () => {
        const broken = Buffer.concat([bytes('r'), int32(length), replaced]);
        const { output } = outcomeOf([Buffer.concat([replaced, broken])]);
        expect(output).to.equal(text(Buffer.concat([replacementOf(replaced), broken])));
      });
    }

    it('passes on a length below 4 in a header that came in pieces, and all behind it', () => {
      const broken = Buffer.concat([bytes('r'), int32(3), replaced]);
      expect(outcomeOf(byteByByte(broken)).output).to.equal(text(broken));
    });

    it('is never between two messages again behind a length below 4', () => {
      const filter = new MessageFilter(new LetterRules(), MAX_TAKEN);
      filter.push(Buffer.concat([bytes('p'), int32(3), pass]), () => {});
      expect(filter.isBetweenMessages).to.equal(false);
    });
  });

  describe('on random streams', () => {
    function randomMessage(random: SeededRandom): Buffer {
      const type = random.oneOf(['p', 'p', 'p', 'r', 'x', 'k', 'Z']);
      const size = random.oneOf([0, 1, 10, 140, 400, 1200]);
      const fate = random.oneOf(['', '=p', '=r', '=x']);
      const filling = random
        .bytes(random.below(size + 1))
        .map((byte) => (byte === 0x3d ? 0 : byte));
      return message(type, Buffer.from(filling), bytes(fate), bytes('.'.repeat(random.below(300))));
    }

    /** What the rules mean for one message. */
    function expectedOf(frame: Buffer): Buffer {
      const type = String.fromCharCode(frame[0] as number);
      const fate = /=(.)/s.exec(frame.toString('latin1', 5))?.[1];
      const isTaken =
        type === 'r' || type === 'x' || (type === 'k' && fate !== undefined && fate !== 'p');
      if (!isTaken) return frame;
      const isRemoved = type === 'x' || fate === 'x' || frame.length > MAX_TAKEN;
      return isRemoved ? Buffer.alloc(0) : replacementOf(frame);
    }

    it('preserves all that passes, in its order', () => {
      const random = new SeededRandom(3);
      for (let round = 0; round < 300; round++) {
        const messages = Array.from({ length: 12 }, () => randomMessage(random));
        const limit = random.oneOf([2, 7, 150, 5000]);
        const chunks = chunksOf(Buffer.concat(messages), () => 1 + random.below(limit));
        expect(outcomeOf(chunks).output).to.equal(text(...messages.map(expectedOf)));
      }
    });

    it('never throws, and forwards nothing that was not there', () => {
      const random = new SeededRandom(4);
      let broken = 0;
      for (let round = 0; round < 1000; round++) {
        const rules = new LetterRules();
        rules.take = (frame) => frame;
        const filter = new MessageFilter(rules, 2 ** 31);
        const parts: Buffer[] = [];
        const stream = Buffer.concat([
          randomMessage(random),
          // A header with a length that may be anything, and then no messages at all.
          bytes(random.oneOf(['p', 'r', 'x', 'k'])),
          int32(random.oneOf([random.below(8), random.below(60), random.below(2 ** 32)])),
          random.bytes(random.below(120)),
        ]);
        for (const chunk of chunksOf(stream, () => 1 + random.below(40)))
          filter.push(chunk, (part) => parts.push(Buffer.from(part)));
        const output = Buffer.concat(parts);
        expect(output.equals(stream.subarray(0, output.length))).to.equal(true);
        if (output.length === stream.length) broken++;
      }
      expect(broken, 'streams that passed as a whole').to.be.above(100);
    });
  });
});
