// Nothing has been installed in most databases behind a proxy: all the same.
import { topics } from './cases/index.ts';
import { randomCuts, whole } from './chunking.ts';
import { expectSame, lengthOf } from './comparison.ts';
import { play } from './play.ts';
import { sizeOf } from './script.ts';
import { Stages } from './stages.ts';

/** What is cut where the extension is installed need not be cut here, too. */
const MAX_CUT_BYTES = 10_000;

describe('through the proxy as directly, without the extension', () => {
  let stages: Stages;

  before(async () => {
    stages = await Stages.open(false);
  });
  afterEach(() => stages.reset());
  after(() => stages.close());

  for (const [topic, scripts] of topics) {
    describe(topic, () => {
      for (const script of scripts) {
        it(script.name, async () => {
          const direct = await play(script, stages.direct);
          const isCut = sizeOf(script) + lengthOf(direct) <= MAX_CUT_BYTES;
          if (isCut) stages.fromServer = randomCuts(direct.length);
          const cuts = isCut ? randomCuts(direct.length + 1) : whole;
          expectSame(direct, await play(script, stages.proxied, cuts));
        });
      }
    });
  }
});
