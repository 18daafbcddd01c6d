import { expect } from 'chai';
import { createHash } from 'node:crypto';
import { mock } from 'node:test';
import { NARROW_BYTES } from '../../src/callback.ts';
import { Conversation } from '../../src/conversation.ts';
import { BackgroundError } from '../../src/errors.ts';
import { int32 } from '../support/messages.ts';
import { rejectionOf } from '../support/rejection.ts';

const nonce = 'AAAABBBBCCCCDDDD';
const seed = Buffer.alloc(32, 7);
const SEAL = 'the half that no request has';

function converse(wide = false): Conversation {
  return new Conversation({ nonce, seed, isWide: wide, wakeKey: '1' }, SEAL);
}

/** What a function reads in a packet of one hash at most: whether more follow, and the piece. */
function opened({ text, number }: { text: string; number: number }) {
  const sealed = Buffer.from(text.slice(`pgbg:${nonce}:`.length), 'base64').subarray(8);
  const whole = createHash('sha256').update(seed).update(SEAL).digest();
  const mask = createHash('sha256').update(whole).update(int32(number)).update(int32(0)).digest();
  const [more, ...piece] = sealed.map((byte, at) => byte ^ (mask[at] as number));
  return { more: more === 1, piece: Buffer.from(piece).toString() };
}

/** Whether the promise has settled by the time that all that can run has run. */
async function hasSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const settle = () => (settled = true);
  promise.then(settle, settle);
  await new Promise(setImmediate);
  return settled;
}

/** Lets time pass only where the test says so. */
async function withStoppedClock(test: () => Promise<void>): Promise<void> {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    await test();
  } finally {
    mock.timers.reset();
  }
}

function runningTimers(): number {
  return process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
}

describe('Conversation', () => {
  describe('packets', () => {
    it('puts a short message into one packet', () => {
      const packets = [...converse().packets(Buffer.from('short'), 0)].map(opened);
      expect(packets).to.deep.equal([{ more: false, piece: 'short' }]);
    });

    it('puts an empty message into one packet', () => {
      const packets = [...converse().packets(Buffer.alloc(0), 0)].map(opened);
      expect(packets).to.deep.equal([{ more: false, piece: '' }]);
    });

    it('cuts a longer message and says so in each packet but the last', () => {
      const message = Buffer.from('x'.repeat(NARROW_BYTES) + 'y'.repeat(NARROW_BYTES) + 'z');
      expect([...converse().packets(message, 0)].map(opened)).to.deep.equal([
        { more: true, piece: 'x'.repeat(NARROW_BYTES) },
        { more: true, piece: 'y'.repeat(NARROW_BYTES) },
        { more: false, piece: 'z' },
      ]);
    });

    it('needs no further packet for a message that just fits', () => {
      const packets = [...converse().packets(Buffer.from('x'.repeat(NARROW_BYTES)), 0)].map(opened);
      expect(packets).to.deep.equal([{ more: false, piece: 'x'.repeat(NARROW_BYTES) }]);
    });

    it('counts on through all messages, so that no packet can be played again', () => {
      const conversation = converse();
      const first = [...conversation.packets(Buffer.alloc(NARROW_BYTES + 1), 0)];
      const second = [...conversation.packets(Buffer.alloc(1), 0)];
      expect([...first, ...second].map(({ number }) => number)).to.deep.equal([1, 2, 3]);
    });

    it('uses wide packets where the role may read them', () => {
      const packets = [...converse(true).packets(Buffer.alloc(100), 500)];
      expect(packets.map(({ isWide }) => isWide)).to.deep.equal([true]);
    });

    it('uses narrow packets where the role may not read wide ones', () => {
      const packets = [...converse(false).packets(Buffer.alloc(NARROW_BYTES + 1), 500)];
      expect(packets.map(({ isWide }) => isWide)).to.deep.equal([false, false]);
    });

    it('uses narrow packets where wide ones would not be wider', () => {
      const packets = [...converse(true).packets(Buffer.alloc(NARROW_BYTES + 1), NARROW_BYTES)];
      expect(packets.map(({ isWide }) => isWide)).to.deep.equal([false, false]);
    });
  });

  describe('read', () => {
    it('settles when the packet is acknowledged', async () => {
      const conversation = converse();
      const reading = conversation.read(3);
      conversation.acknowledge(3);
      await reading;
    });

    it('goes on waiting when another packet is acknowledged', async () => {
      const conversation = converse();
      const reading = conversation.read(3);
      conversation.acknowledge(2);

      expect(await hasSettled(reading)).to.equal(false);
      conversation.acknowledge(3);
      await reading;
    });

    it('rejects with 57014 when the conversation is abandoned', async () => {
      const conversation = converse();
      const reading = conversation.read(1);
      conversation.abandon();

      const error = await rejectionOf(reading);
      expect(error).to.be.instanceOf(BackgroundError).with.property('code', '57014');
    });

    it('rejects at once in a conversation that was abandoned before', async () => {
      const conversation = converse();
      conversation.abandon();

      const error = await rejectionOf(conversation.read(1));
      expect(error).to.have.property('code', '57014');
    });

    it('gives up after six seconds without an acknowledgement', async () => {
      await withStoppedClock(async () => {
        const reading = converse().read(1);
        mock.timers.tick(5_999);
        expect(await hasSettled(reading)).to.equal(false);
        mock.timers.tick(1);
        expect(await rejectionOf(reading)).to.have.property('code', '57014');
      });
    });

    it('leaves no timer when it has settled', async () => {
      await new Promise(setImmediate); // mocha starts its own timer when a test begins to wait
      const before = runningTimers();
      const [read, abandoned] = [converse(), converse()];
      const readings = [read.read(1), rejectionOf(abandoned.read(1))];
      read.acknowledge(1);
      abandoned.abandon();
      await Promise.all(readings);

      expect(runningTimers()).to.be.at.most(before);
    });

    it('leaves no listener on the signal when it has settled', async () => {
      const conversation = converse();
      const listening = countListeners(conversation.abandoned);
      const reading = conversation.read(1);
      conversation.acknowledge(1);
      await reading;

      expect(listening()).to.equal(0);
    });
  });

  describe('untilAwake', () => {
    it('settles when the function wakes up', async () => {
      const conversation = converse();
      const waking = conversation.untilAwake();
      conversation.awake();
      await waking;
    });

    it('settles when the function woke up before', async () => {
      const conversation = converse();
      conversation.awake();
      await conversation.untilAwake();
    });

    it('waits however long it takes', async () => {
      await withStoppedClock(async () => {
        const conversation = converse();
        const waking = conversation.untilAwake();
        mock.timers.tick(3_600_000);
        expect(await hasSettled(waking)).to.equal(false);
        conversation.awake();
        await waking;
      });
    });

    it('waits again after the function has woken up', async () => {
      const conversation = converse();
      conversation.awake();
      await conversation.untilAwake();
      const waking = conversation.untilAwake();

      expect(await hasSettled(waking)).to.equal(false);
      conversation.awake();
      await waking;
    });

    it('rejects with 57014 when the conversation is abandoned', async () => {
      const conversation = converse();
      const waking = conversation.untilAwake();
      conversation.abandon();

      expect(await rejectionOf(waking)).to.have.property('code', '57014');
    });
  });

  describe('abandoned', () => {
    it('aborts when the conversation is abandoned', () => {
      const conversation = converse();
      conversation.abandon();
      expect(conversation.abandoned.aborted).to.equal(true);
    });

    it('is not aborted before', () => {
      expect(converse().abandoned.aborted).to.equal(false);
    });
  });
});

/** Counts the listeners that are added from now on and not removed. */
function countListeners(signal: AbortSignal): () => number {
  let count = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...given: Parameters<typeof addEventListener>) => {
    count++;
    addEventListener.apply(signal, given);
  };
  signal.removeEventListener = (...given: Parameters<typeof removeEventListener>) => {
    count--;
    removeEventListener.apply(signal, given);
  };
  return () => count;
}
