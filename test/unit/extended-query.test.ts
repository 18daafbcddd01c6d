import { expect } from 'chai';
import { serialize } from 'pg-protocol';
import { ExtendedQuery, mustBeSeen } from '../../proxy/extended-query.ts';
import { textThatMentions } from '../../proxy/mentions.ts';
import { MessageType } from '../../src/index.ts';

const READ = 'SELECT * FROM pg_background_result($1) AS (x text)';
const COLUMNS = [{ oid: 25, typmod: -1, isBinary: false }];

const parse = (text = READ, name = '', types: number[] = []) =>
  serialize.parse({ name, text, types });
const bind = (statement = '', portal = '', values: unknown[] = ['1']) =>
  serialize.bind({ statement, portal, values });
const execute = (rows = 0, portal = '') => serialize.execute({ rows, portal });
const describeIt = (type: 'S' | 'P', name = '') => serialize.describe({ type, name });
const close = (type: 'S' | 'P', name = '') => serialize.close({ type, name });
const sync = serialize.sync();
const flush = serialize.flush();

/** Shows messages that a client sends when everything before was answered. */
function show(query: ExtendedQuery, ...frames: Buffer[]): ExtendedQuery {
  frames.forEach((frame, at) => {
    // Somewhere in a chunk, with something else behind.
    const chunk = Buffer.concat([Buffer.from('before'), frame, Buffer.from('\0behind\0\0\0\0\0')]);
    const end = 6 + frame.length;
    const isParse = frame[0] === MessageType.parse;
    const text = isParse ? textThatMentions(chunk, 11, end) : undefined;
    const type = frame[0] as number;
    if (mustBeSeen(type)) query.sent(type, chunk, 6, end, at === 0, text);
    else query.unseen(type);
  });
  return query;
}

/** Shows the same, and that the server has bound a portal. */
function run(query: ExtendedQuery, ...frames: Buffer[]) {
  show(query, ...frames).bound();
  return query.running;
}

const runningAfter = (...frames: Buffer[]) => run(new ExtendedQuery(), ...frames)?.text;

describe('ExtendedQuery', () => {
  it('knows what runs from Execute on, when the server has bound it', () => {
    expect(runningAfter(parse(), bind())).to.equal(undefined);
    expect(show(new ExtendedQuery(), parse(), bind(), execute()).running).to.equal(undefined);
    expect(runningAfter(parse(), bind(), execute())).to.equal(READ);
    expect(
      runningAfter(parse(), describeIt('S'), bind(), describeIt('P'), execute(), flush, sync),
    ).to.equal(READ);
  });

  it('knows a statement that was prepared before, by its name', () => {
    const query = show(new ExtendedQuery(), parse(READ, 's'), sync);
    query.ended();
    expect(query.running).to.equal(undefined);
    expect(run(query, bind('s'), execute(), sync)?.text).to.equal(READ);
  });

  it('keeps the columns with their statement', () => {
    const query = show(new ExtendedQuery(), parse(READ, 's'), describeIt('S', 's'), sync);
    query.described(COLUMNS);
    query.ended();
    query.described([]);
    expect(run(query, bind('s'), execute(), sync)?.columns).to.equal(COLUMNS);
  });

  const others: Record<string, Buffer[]> = {
    'a second Bind': [parse(), bind(), bind(), execute()],
    'a second Execute': [parse(), bind(), execute(), execute()],
    'a Parse behind': [parse(), bind(), execute(), sync, parse('SELECT 1')],
    'a Query behind': [parse(), bind(), execute(), sync, serialize.query('SELECT 1')],
    'a Describe behind': [parse(), bind(), execute(), describeIt('P')],
    'a Close behind': [parse(), bind(), execute(), close('P')],
    'a Close before': [close('S', 'other'), parse(), bind(), execute()],
    'a row limit': [parse(), bind(), execute(1)],
    'a portal with a name': [parse(), bind('', 'p'), execute(0, 'p')],
    'another portal than the one that was bound': [parse(), bind(), execute(0, 'p')],
    'another statement than the one that was parsed': [parse(READ, 's'), bind(), execute()],
    'a Describe of another statement': [parse(), describeIt('S', 'other'), bind(), execute()],
    'a Describe of another portal': [parse(), bind(), describeIt('P', 'other'), execute()],
    'a Describe of a portal that is not bound yet': [parse(), describeIt('P'), bind(), execute()],
    'Execute without Bind': [parse(), execute()],
    'a statement that nobody has parsed': [bind('s'), execute()],
    'a text that does not name a result': [
      parse('SELECT pg_background_launch($1)'),
      bind(),
      execute(),
    ],
    'a text above 1 kB': [parse(`${READ} ${'-'.repeat(1024)}`), bind(), execute()],
    'a parameter of a type that is not known': [parse(READ, '', [23, 16_400]), bind(), execute()],
    'an unknown message': [parse(), Buffer.from([0x7a, 0, 0, 0, 4]), bind(), execute()],
  };
  for (const [what, frames] of Object.entries(others)) {
    it(`knows nothing with ${what}`, () => {
      expect(runningAfter(...frames)).to.equal(undefined);
    });
  }

  it('knows nothing of messages in front of which others are not answered', () => {
    const query = new ExtendedQuery();
    for (const frame of [parse(), bind(), execute()])
      query.sent(frame[0] as number, frame, 0, frame.length, false, READ);
    query.bound();
    expect(query.running).to.equal(undefined);
    expect(query.isFollowing).to.equal(false);
  });

  it('finds the formats of columns behind parameters of any kind', () => {
    const values = ['', null, 'x'.repeat(300), Buffer.from([0, 1, 2, 0])];
    expect(runningAfter(parse(), bind('', '', values), execute())).to.equal(READ);
    const binary = serialize.bind({ values, binary: true });
    expect(runningAfter(parse(), binary, execute())).to.equal(undefined);
  });

  it('takes no message that is cut short for a whole one', () => {
    for (const [at, frame] of [
      parse(READ, '', [23]),
      bind('', '', ['1', null]),
      execute(),
    ].entries()) {
      for (let length = 5; length < frame.length; length++) {
        const frames = [parse(READ, '', [23]), bind('', '', ['1', null]), execute()];
        frames[at] = frame.subarray(0, length);
        expect(runningAfter(...frames), `message ${at} of ${length} bytes`).to.equal(undefined);
      }
    }
  });

  it('forgets a statement that is closed, parsed again, or refused, as may be what was not seen', () => {
    const prepared = () => show(new ExtendedQuery(), parse(READ, 's'), sync);
    for (const forget of [
      (query: ExtendedQuery) => show(query, close('S', 's'), sync),
      (query: ExtendedQuery) => show(query, parse('SELECT 1', 's'), sync),
      (query: ExtendedQuery) => query.failed(),
      (query: ExtendedQuery) => query.unseen(MessageType.parse),
      (query: ExtendedQuery) => query.unseen(MessageType.close),
    ]) {
      const query = prepared();
      expect(query.isFollowing).to.equal(true);
      forget(query);
      expect(query.isFollowing).to.equal(false);
      expect(run(query, bind('s'), execute())).to.equal(undefined);
    }
  });

  it('keeps a statement when what stands behind it fails, also in its first run', () => {
    const query = show(new ExtendedQuery(), parse(READ, 's'), bind('s'), execute(), sync);
    query.bound();
    query.failed();
    expect(query.running).to.equal(undefined);
    query.ended();
    expect(run(query, bind('s'), execute(), sync)?.text).to.equal(READ);
    query.failed();
    expect(run(query, bind('s'), execute(), sync)?.text).to.equal(READ);
  });

  it('keeps a statement when a message is not seen that cannot be about it', () => {
    const query = show(new ExtendedQuery(), parse(READ, 's'), sync);
    query.unseen(MessageType.bind);
    expect(run(query, bind('s'), execute(), sync)?.text).to.equal(READ);
  });

  it('follows 64 statements, and forgets the oldest for another: SQL drops them unseen', () => {
    const query = new ExtendedQuery();
    for (let n = 0; n <= 64; n++) show(query, parse(READ, `s${n}`), sync);
    expect(run(query, bind('s0'), execute())).to.equal(undefined);
    expect(run(query, bind('s1'), execute())).not.to.equal(undefined);
    expect(run(query, bind('s64'), execute())).not.to.equal(undefined);
  });

  it('keeps no name that the server would cut', () => {
    expect(show(new ExtendedQuery(), parse(READ, 'x'.repeat(63))).isFollowing).to.equal(true);
    expect(show(new ExtendedQuery(), parse(READ, 'x'.repeat(64))).isFollowing).to.equal(false);
  });
});
