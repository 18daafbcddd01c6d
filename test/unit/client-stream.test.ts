import { expect } from 'chai';
import { ClientStream, isSameForClient } from '../../proxy/client-stream.ts';
import type { ColumnType, StreamableResult } from '../../src/index.ts';

const OID = {
  int4: 23,
  text: 25,
  varchar: 1043,
  date: 1082,
  float8: 701,
  bytea: 17,
  regclass: 2205,
};
const column = (type: keyof typeof OID, more: Partial<ColumnType> = {}): ColumnType => ({
  oid: OID[type],
  typmod: -1,
  isBinary: false,
  ...more,
});
const PARAMETERS = new Map([
  ['DateStyle', 'ISO, MDY'],
  ['IntervalStyle', 'postgres'],
  ['TimeZone', 'UTC'],
]);

function isSame(
  columns: readonly ColumnType[],
  declared = columns,
  more: Partial<StreamableResult> = {},
  parameters: ReadonlyMap<string, string> = PARAMETERS,
): boolean {
  const result = {
    columns,
    formats: PARAMETERS,
    mayChangeFormats: false,
    hasAllDigits: true,
    isAtOnce: false,
    statement: undefined,
  };
  return isSameForClient({ ...result, ...more }, declared, parameters);
}

describe('isSameForClient', () => {
  it('holds for the same plain types', () => {
    expect(isSame([column('int4'), column('text')])).to.equal(true);
  });

  it('does not hold for another type, modifier or number of columns', () => {
    expect(isSame([column('varchar')], [column('text')])).to.equal(false);
    expect(isSame([column('varchar', { typmod: 9 })], [column('varchar')])).to.equal(false);
    expect(isSame([column('int4')], [column('int4'), column('int4')])).to.equal(false);
    expect(isSame([column('int4'), column('int4')], [column('int4')])).to.equal(false);
  });

  it('does not hold for values in binary', () => {
    const binary = column('int4', { isBinary: true });
    expect(isSame([column('int4')], [binary])).to.equal(false);
    expect(isSame([binary], [column('int4')])).to.equal(false);
  });

  it('does not hold for types whose text depends on what nobody reports', () => {
    expect(isSame([column('bytea')])).to.equal(false);
    expect(isSame([column('regclass')])).to.equal(false);
    expect(isSame([column('int4', { oid: 16_400 })])).to.equal(false);
  });

  it('holds for dates only under the same settings', () => {
    expect(isSame([column('date')])).to.equal(true);
    for (const name of PARAMETERS.keys()) {
      const others = new Map([...PARAMETERS, [name, 'other']]);
      expect(isSame([column('date')], undefined, {}, others), name).to.equal(false);
      expect(isSame([column('text')], undefined, {}, others), name).to.equal(true);
    }
    expect(isSame([column('date')], undefined, { mayChangeFormats: true })).to.equal(false);
  });

  it('holds for floating-point numbers only with all their digits', () => {
    expect(isSame([column('float8')])).to.equal(true);
    expect(isSame([column('float8')], undefined, { hasAllDigits: false })).to.equal(false);
  });
});

describe('ClientStream', () => {
  it('says when the client reads slowly', async () => {
    let isQuick = true;
    const stream = new ClientStream({
      toClient: () => isQuick,
      clientDrained: () => Promise.resolve(),
    });
    expect(stream.rows(Buffer.from('row'))).to.equal(undefined);
    isQuick = false;
    await stream.rows(Buffer.from('row'));
  });

  it('waits for a slow client no longer than the statement lasts', async () => {
    const stream = new ClientStream({
      toClient: () => false,
      clientDrained: () => new Promise(() => {}),
    });
    const room = stream.rows(Buffer.from('row'));
    stream.stop();
    await room;
  });

  it('sends nothing behind the end of the statement', () => {
    const sent: Buffer[] = [];
    const stream = new ClientStream({
      toClient: (bytes) => sent.push(bytes) > 0,
      clientDrained: () => Promise.resolve(),
    });
    stream.stop();
    void stream.rows(Buffer.from('row'));
    stream.notice({ severity: 'NOTICE', code: '00000', message: 'late' }, 1);
    expect(sent).to.deep.equal([]);
  });
});
