// The harness can fail: a relay that spoils one byte, or one message, is found out.
import { expect } from 'chai';
import type { RawMessage } from '../support/wire.ts';
import { difference, expectSame } from './comparison.ts';
import { byteReplaced, corrupted, messagesReplaced, type Way } from './corruption.ts';
import { bind, describePortal, execute, functionCall, parse, query, sync } from './frontend.ts';
import { play } from './play.ts';
import { ready, type Script } from './script.ts';
import { Stages } from './stages.ts';

const HEADER_BYTES = 5;

/** OID of pg_catalog.int4mul. */
const INT4MUL = 141;

/** How long the tests wait for what does not come. */
const IMPATIENT_MS = 1_000;

/** Spoilt in these ways, a byte is another, gone, or there twice. */
const SPOILT: ReadonlyMap<string, (byte: number) => readonly number[]> = new Map([
  ['another', (byte: number) => [byte ^ 1]],
  ['lost', () => []],
  ['doubled', (byte: number) => [byte, byte]],
]);

describe('the comparison notices', () => {
  let stages: Stages;
  let script: Script;
  let direct: RawMessage[];

  /**
   * Said in one go, so that nobody waits for what a spoilt stream never brings; and so that each byte
   * matters to the answer: a limit that is met, a value that is given back.
   */
  const said = [
    query("SELECT 'a' AS b, NULL; TABLE nothing"),
    parse('s', 'SELECT $1::int', 23),
    bind({ portal: 'p', statement: 's', values: ['7'], results: [0] }),
    describePortal('p'),
    execute(1, 'p'),
    sync,
    functionCall(INT4MUL, ['2', '3'], 0),
    query("DO $$ BEGIN RAISE NOTICE 'n'; END $$"),
  ];

  before(async () => {
    stages = await Stages.open(true);
    script = { name: 'a short session', startup: stages.direct.startup, steps: said };
    direct = await play(script, stages.direct);
  });
  after(() => stages.close());

  it('nothing where nothing is spoilt', async () => {
    expectSame(direct, await play(script, stages.proxied));
    await corrupted(
      'fromServer',
      () => (bytes) => bytes,
      async () => expectSame(direct, await play(script, stages.proxied)),
    );
  });

  for (const [what, by] of SPOILT) {
    it(`each byte of the answers that is ${what}`, async function () {
      this.timeout(120_000);
      await expectEachNoticed('fromServer', comparedOffsets(direct), by);
    });

    it(`each byte of what the client says that is ${what}`, async function () {
      this.timeout(120_000);
      await expectEachNoticed('fromClient', offsetsOf(Buffer.concat(said)), by);
    });
  }

  async function expectEachNoticed(
    way: Way,
    offsets: readonly number[],
    by: (byte: number) => readonly number[],
  ): Promise<void> {
    const unnoticed: number[] = [];
    for (const at of offsets) {
      const spoilt = await corrupted(
        way,
        () => byteReplaced(at, by),
        () => play(script, stages.proxied),
      );
      if (difference(direct, spoilt) === undefined) unnoticed.push(at);
    }
    expect(unnoticed, 'offsets at which nobody noticed').to.deep.equal([]);
  }

  it('each message of the answers that is lost', async () => {
    for (const lost of direct.keys()) {
      await expectNoticed(
        `message ${lost}`,
        messagesReplaced((message, index) => (index === lost ? [] : [message])),
      );
    }
  });

  it('each message of the answers that comes twice', async () => {
    for (const doubled of direct.keys()) {
      await expectNoticed(
        `message ${doubled}`,
        messagesReplaced((message, index) => (index === doubled ? [message, message] : [message])),
      );
    }
  });

  it('each message of the answers that changes places with the next', async () => {
    for (const first of direct.keys()) {
      if (first === direct.length - 1) continue;
      let held: Buffer[] = [];
      const swapped = messagesReplaced((message, index) => {
        if (index !== first) return [message, ...held.splice(0)];
        held = [message];
        return [];
      });
      await expectNoticed(`message ${first}`, swapped);
    }
  });

  async function expectNoticed(what: string, corruption: Parameters<typeof corrupted>[1]) {
    const spoilt = await corrupted('fromServer', corruption, () => play(script, stages.proxied));
    expect(difference(direct, spoilt), what).to.not.equal(undefined);
  }

  it('a message that comes only with the next, where it is waited for', async () => {
    const inTurn: Script = {
      name: 'a session in turn',
      steps: [query('SELECT 1'), ready, query('SELECT 2'), ready],
    };
    const beginning = (await play({ name: 'no session', steps: [] }, stages.direct)).length;
    const inTime = await play(inTurn, stages.direct);
    expectSame(inTime, await play(inTurn, stages.proxied));
    const last = inTime.length - 1;
    const halfway = beginning + (last - beginning + 1) / 2 - 1;
    for (const late of [halfway, last]) {
      let held: Buffer[] = [];
      const delayed = messagesReplaced((message, index) => {
        if (index !== late) return [...held.splice(0), message];
        held = [message];
        return [];
      });
      const impatient = { ...stages.proxied, patienceMs: IMPATIENT_MS };
      const waiting = corrupted('fromServer', delayed, () => play(inTurn, impatient));
      expect(await waiting.then(String, String), `message ${late}`).to.include('nothing came for');
    }
  });
});

/** Where each byte is that the comparison looks at: all but the process ID and the key of BackendKeyData. */
function comparedOffsets(messages: readonly RawMessage[]): number[] {
  let at = 0;
  return messages.flatMap(({ type, body }) => {
    const begin = at;
    at += HEADER_BYTES + body.length;
    const end = type === 'K' ? begin + HEADER_BYTES : at;
    return Array.from({ length: end - begin }, (_, i) => begin + i);
  });
}

function offsetsOf(bytes: Buffer): number[] {
  return [...bytes.keys()];
}
