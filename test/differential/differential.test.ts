// The same bytes, sent to the server and through the proxy: the answers are the same, message by message.
import { SeededRandom } from '../support/random.ts';
import type { RawMessage } from '../support/wire.ts';
import { topics } from './cases/index.ts';
import { cutAt, oneByteAtATime, randomCuts, whole, type Chunking } from './chunking.ts';
import { expectSame, lengthOf } from './comparison.ts';
import { play, RepeatedSession } from './play.ts';
import { sizeOf, type Script } from './script.ts';
import { Stages } from './stages.ts';

/** Longer ways are not cut at each byte, but at some of them: the more, the shorter they are. */
const MAX_CUTS = 400;
const MANY_BYTES = 300_000;

/** So often is cut what needs a session of its own for each cut. */
const MAX_NEW_SESSIONS = 20;

/** Byte by byte would take too long above. */
const MAX_SINGLE_BYTES = 5_000;

describe('through the proxy as directly', () => {
  let stages: Stages;
  const direct = new Map<Script, RawMessage[]>();
  let repeated: { direct: RepeatedSession; proxied: RepeatedSession } | undefined;

  before(async () => {
    stages = await Stages.open(true);
  });
  afterEach(function () {
    stages.reset();
    // Nobody knows where its sessions are now.
    if (this.currentTest?.state === 'failed') repeated = undefined;
  });
  after(async () => {
    await repeated?.direct.end();
    await repeated?.proxied.end();
    await stages.close();
  });

  async function playedDirectly(script: Script): Promise<RawMessage[]> {
    const played = direct.get(script) ?? (await play(script, stages.direct));
    direct.set(script, played);
    return played;
  }

  async function compare(script: Script, fromClient: Chunking, fromServer: Chunking) {
    const expected = await playedDirectly(script);
    stages.fromServer = fromServer;
    const actual = await play(script, stages.proxied, fromClient);
    expectSame(expected, actual);
  }

  for (const [topic, scripts] of topics) {
    describe(topic, () => {
      for (const script of scripts) {
        it(script.name, async () => {
          await compare(script, whole, whole);
        });

        it(`${script.name}: cut anywhere`, async () => {
          const bytes = sizeOf(script) + lengthOf(await playedDirectly(script));
          if (bytes <= MAX_SINGLE_BYTES) await compare(script, oneByteAtATime, oneByteAtATime);
          await compare(script, randomCuts(bytes), randomCuts(bytes + 1));
          if (script.endsSession || script.startup) await cutInNewSessions(script);
          else await cutInOneSession(script);
        });
      }
    });
  }

  /** One cut at each offset of what the client says, and of what it is told. */
  async function cutInOneSession(script: Script): Promise<void> {
    repeated ??= {
      direct: await RepeatedSession.start(stages.direct),
      proxied: await RepeatedSession.start(stages.proxied),
    };
    const { proxied } = repeated;
    const expected = await repeated.direct.play(script, whole);
    stages.reset();
    const most = cutsFor(sizeOf(script) + lengthOf(expected));
    for (const offset of offsetsIn(sizeOf(script), most)) {
      const actual = await proxied.play(script, cutAt(offset));
      expectSame(expected, actual, `cut at ${offset}`);
    }
    for (const offset of offsetsIn(lengthOf(expected), most)) {
      stages.fromServer = cutAt(offset);
      const actual = await proxied.play(script, whole);
      expectSame(expected, actual, `answer cut at ${offset}`);
    }
    await stages.sweep();
  }

  /** The same for what can happen only once in a session. */
  async function cutInNewSessions(script: Script): Promise<void> {
    const size = sizeOf(script) + (script.startup?.length ?? 0);
    for (const offset of offsetsIn(size, MAX_NEW_SESSIONS))
      await compare(script, cutAt(offset), whole);
    for (const offset of offsetsIn(lengthOf(await playedDirectly(script)), MAX_NEW_SESSIONS))
      await compare(script, whole, cutAt(offset));
  }
});

/** How often a script is cut: the more it makes both sides say, the less often. */
function cutsFor(bytes: number): number {
  return Math.min(MAX_CUTS, Math.ceil(MANY_BYTES / bytes));
}

/** Every offset within so many bytes, or a sample of them. */
function offsetsIn(bytes: number, most: number): number[] {
  if (bytes - 1 <= most) return Array.from({ length: Math.max(bytes - 1, 0) }, (_, i) => i + 1);
  const random = new SeededRandom(bytes);
  return Array.from({ length: most }, () => 1 + random.below(bytes - 1));
}
