// What nobody would think of: sessions made up of all that a client can say, in any order.
import { expect } from 'chai';
import fc from 'fast-check';
import { testedVersion } from '../support/server.ts';
import { randomCuts } from './chunking.ts';
import { expectSame } from './comparison.ts';
import { generatedSessions, type GeneratedSession } from './generated-script.ts';
import { play } from './play.ts';
import { until, type Script } from './script.ts';
import { END_OF_ALL, hasDied, upToDeath } from './session-death.ts';
import { Stages } from './stages.ts';

const SEED = Number(process.env['PGBG_TEST_SEED'] ?? 20_261_126);

/** The other versions differ in what they answer, hardly in how: a sample will do. */
const RUNS = Number(process.env['PGBG_TEST_GENERATED'] ?? (testedVersion === 18 ? 2000 : 300));

const halfClose = { halfClose: true } as const;

/** All that answers are made of: as many sessions as that would lead nowhere without one of them. */
const ANSWERS = '123ACDEGHINSTVZcdnst';
const ENOUGH = 300;

describe('generated sessions', () => {
  let stages: Stages;

  before(async () => {
    stages = await Stages.open(true);
  });
  after(() => stages.close());

  it(`are answered through the proxy as directly, ${RUNS} of them`, async function () {
    this.timeout(RUNS * 500 + 120_000);
    const answers = new Set<string>();
    let deaths = 0;
    await fc.assert(
      fc.asyncProperty(generatedSessions, async (session) => {
        const messages = session.messages.map(({ bytes }) => bytes);
        let script: Script = { name: 'generated', steps: [...messages, ...END_OF_ALL] };
        let direct = await play(script, stages.direct);
        for (const { type } of direct) answers.add(type);
        if (hasDied(direct)) {
          expectSame(direct, await play(script, stages.proxied), 'in one go:');
          const steps = [...(await upToDeath(messages, stages.direct)), until('E'), halfClose];
          script = { name: 'generated', steps };
          direct = await play(script, stages.direct);
          deaths++;
        }
        stages.fromServer = randomCuts(session.serverCuts);
        try {
          expectSame(direct, await play(script, stages.proxied, randomCuts(session.clientCuts)));
        } finally {
          stages.reset();
        }
      }),
      { seed: SEED, numRuns: RUNS, reporter },
    );
    if (RUNS < ENOUGH) return;
    expect(
      [...ANSWERS].filter((type) => !answers.has(type)),
      'never answered',
    ).to.deep.equal([]);
    expect(deaths, 'sessions that the server has ended').to.be.above(0);
  });
});

/** Says which session failed, in words, and how to see it again. */
function reporter(details: fc.RunDetails<[GeneratedSession]>): void {
  if (!details.failed) return;
  const [session] = details.counterexample ?? [];
  const cause = details.errorInstance instanceof Error ? details.errorInstance.message : '';
  throw new Error(
    [
      `PGBG_TEST_SEED=${details.seed}, path ${details.counterexamplePath}, shrunk ${details.numShrinks} times`,
      ...(session?.messages ?? []).map(({ shown }) => `  ${shown}`),
      `  cuts: ${session?.clientCuts} and ${session?.serverCuts}`,
      cause,
    ].join('\n'),
  );
}
