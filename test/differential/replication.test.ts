// Replication connections. Where WAL stands, and what of it streams, is another in each moment: of rows and
// CopyData only the order is compared, of all else each byte.
import type { RawMessage } from '../support/wire.ts';
import { oneByteAtATime, randomCuts, whole, type Chunking } from './chunking.ts';
import { expectSame } from './comparison.ts';
import { copyData, copyDone, query } from './frontend.ts';
import { play } from './play.ts';
import { ready, startup, until, type Script, type Step } from './script.ts';
import { Stages } from './stages.ts';

/** The position in the WAL from which a script streams is put in its place. */
const HERE = '{here}';

/** StandbyStatusUpdate: nothing is written, flushed or applied, no answer is wanted. */
const status = copyData(Buffer.concat([Buffer.from('r'), Buffer.alloc(33)]));

const cuts: ReadonlyMap<string, readonly [fromClient: Chunking, fromServer: Chunking]> = new Map([
  ['whole', [whole, whole]],
  ['byte by byte', [oneByteAtATime, oneByteAtATime]],
  ['cut at random', [randomCuts(1), randomCuts(2)]],
]);

interface ReplicationCase {
  readonly name: string;
  readonly value: 'true' | 'database';
  readonly steps: readonly (Exclude<Step, Buffer> | Buffer | string)[];
}

/** Texts are commands, each of which is waited for. */
const cases: readonly ReplicationCase[] = [
  { name: 'IDENTIFY_SYSTEM', value: 'true', steps: ['IDENTIFY_SYSTEM'] },
  { name: 'IDENTIFY_SYSTEM in a database', value: 'database', steps: ['IDENTIFY_SYSTEM'] },
  { name: 'SHOW', value: 'true', steps: ['SHOW wal_segment_size', 'SHOW no_such_setting'] },
  { name: 'SQL without a database', value: 'true', steps: ['SELECT 1', 'SHOW port'] },
  {
    name: 'SQL in a database, also ours',
    value: 'database',
    steps: ['SELECT 1 AS a; SELECT 2', 'SELECT 1 / 0', "SELECT 'CREATE EXTENSION pg_background'"],
  },
  {
    name: 'a transaction with rows of many kinds',
    value: 'database',
    steps: ['BEGIN', 'SELECT * FROM people ORDER BY id', 'SELECT noisy(1)', 'ROLLBACK'],
  },
  {
    name: 'a temporary slot',
    value: 'true',
    steps: [
      'CREATE_REPLICATION_SLOT compared TEMPORARY PHYSICAL',
      'CREATE_REPLICATION_SLOT compared TEMPORARY PHYSICAL',
      'DROP_REPLICATION_SLOT compared',
      'DROP_REPLICATION_SLOT compared',
    ],
  },
  {
    name: 'a logical slot where WAL is not logical',
    value: 'database',
    steps: ['CREATE_REPLICATION_SLOT compared TEMPORARY LOGICAL pgoutput'],
  },
  {
    name: 'streaming, until the client has enough',
    value: 'true',
    steps: [query(`START_REPLICATION PHYSICAL ${HERE}`), until('W'), status, copyDone, ready],
  },
  {
    name: 'streaming, and then another command',
    value: 'true',
    steps: [
      query(`START_REPLICATION PHYSICAL ${HERE}`),
      until('W'),
      copyDone,
      ready,
      'SHOW wal_segment_size',
    ],
  },
  {
    name: 'streaming, until the client is gone',
    value: 'true',
    steps: [query(`START_REPLICATION PHYSICAL ${HERE}`), until('W'), status, { halfClose: true }],
  },
  {
    name: 'streaming from a slot that is not there',
    value: 'true',
    steps: [`START_REPLICATION SLOT nowhere PHYSICAL ${HERE}`],
  },
  {
    name: 'a base backup that goes nowhere',
    value: 'true',
    steps: ["BASE_BACKUP (TARGET 'blackhole', MANIFEST 'no', CHECKPOINT 'fast', WAL false)"],
  },
  { name: 'a command that is none', value: 'true', steps: ['NO_SUCH_COMMAND', 'IDENTIFY_SYSTEM'] },
];

describe('replication through the proxy as directly', () => {
  let stages: Stages;

  before(async () => {
    stages = await Stages.open(true);
  });
  afterEach(() => stages.reset());
  after(() => stages.close());

  async function scriptOf({ name, value, steps }: ReplicationCase): Promise<Script> {
    const { rows } = await stages.direct.elsewhere.query<{ here: string }>(
      'SELECT pg_current_wal_flush_lsn()::text AS here',
    );
    const here = rows[0]?.here ?? '';
    return {
      name,
      startup: startup([
        ['user', 'postgres'],
        ['database', stages.database],
        ['replication', value],
      ]),
      steps: [
        ready,
        ...steps.flatMap((step) => {
          if (typeof step === 'string') return [query(step.replace(HERE, here)), ready];
          // The position may be longer than what it replaces, and so may the message.
          if (!Buffer.isBuffer(step) || !step.includes(HERE)) return [step];
          return [query(step.toString('latin1', 5, step.length - 1).replace(HERE, here))];
        }),
      ],
    };
  }

  for (const replication of cases) {
    for (const [how, [fromClient, fromServer]] of cuts) {
      it(`${replication.name}, ${how}`, async () => {
        const script = await scriptOf(replication);
        const direct = await play(script, stages.direct);
        stages.fromServer = fromServer;
        expectSame(lasting(direct), lasting(await play(script, stages.proxied, fromClient)));
      });
    }
  }
});

/** What is the same in each moment. How much streams, if anything, is not. */
function lasting(messages: readonly RawMessage[]): RawMessage[] {
  const isStream = messages.some(({ type }) => type === 'W');
  return messages
    .filter(({ type }) => !(isStream && type === 'd'))
    .map(({ type, body }) => ({
      type,
      body: type === 'D' || type === 'd' ? Buffer.alloc(0) : body,
    }))
    .filter(({ type }, i, all) => type !== 'd' || all[i - 1]?.type !== 'd');
}
