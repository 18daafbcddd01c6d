import { expect } from 'chai';
import { arrayLiteral, binaryColumns, literalColumns } from '../../src/column-chunks.ts';
import { ProtocolError } from '../../src/errors.ts';
import type { FrameBlock } from '../../src/frame-run.ts';
import { bytes, dataRow, int32 } from '../support/messages.ts';
import { rejectionOf } from '../support/rejection.ts';

async function* stream(...blocks: readonly (readonly Buffer[])[]): AsyncGenerator<FrameBlock> {
  for (const rows of blocks) yield { bytes: Buffer.concat(rows), count: rows.length };
}

async function chunksOf(rows: readonly Buffer[], columnCount: number) {
  const chunks = [];
  for await (const chunk of binaryColumns(stream(...(rows.length > 0 ? [rows] : [])), columnCount))
    chunks.push(chunk);
  return chunks;
}

/** A text[] as array_recv reads it: dimensions, flag, type, length, lower bound, then the elements. */
function textArray(values: readonly (string | null)[]): Buffer {
  return Buffer.concat([
    int32(1),
    int32(values.includes(null) ? 1 : 0),
    int32(25),
    int32(values.length),
    int32(1),
    ...values.flatMap((value) =>
      value === null ? [int32(-1)] : [int32(value.length), bytes(value)],
    ),
  ]);
}

describe('binaryColumns', () => {
  it('gives an array for each column', async () => {
    expect(await chunksOf([dataRow('1', 'one'), dataRow('2', 'two')], 2)).to.deep.equal([
      { rows: 2, columns: [textArray(['1', '2']), textArray(['one', 'two'])] },
    ]);
  });

  it('tells NULL from an empty text', async () => {
    const rows = [dataRow(null, ''), dataRow('', 'x')];
    expect(await chunksOf(rows, 2)).to.deep.equal([
      { rows: 2, columns: [textArray([null, '']), textArray(['', 'x'])] },
    ]);
  });

  it('copies bytes as they are', async () => {
    expect(await chunksOf([dataRow('\xff"\\{,}\x01')], 1)).to.deep.equal([
      { rows: 1, columns: [textArray(['\xff"\\{,}\x01'])] },
    ]);
  });

  it('gives no chunk for no rows', async () => {
    expect(await chunksOf([], 2)).to.deep.equal([]);
  });

  it('counts the rows of a result without columns', async () => {
    expect(await chunksOf([dataRow(), dataRow()], 0)).to.deep.equal([{ rows: 2, columns: [] }]);
  });

  it('gives a chunk for each block', async () => {
    const blocks = stream([dataRow('1'), dataRow('2')], [dataRow('3')]);
    const chunks = [];
    for await (const chunk of binaryColumns(blocks, 1)) chunks.push(chunk);

    expect(chunks).to.deep.equal([
      { rows: 2, columns: [textArray(['1', '2'])] },
      { rows: 1, columns: [textArray(['3'])] },
    ]);
  });

  it('copies values of any length', async () => {
    const values = Array.from({ length: 100 }, (_value, length) => 'x'.repeat(length));
    expect(await chunksOf([dataRow(...values), dataRow(...values)], 100)).to.deep.equal([
      { rows: 2, columns: values.map((value) => textArray([value, value])) },
    ]);
  });

  for (const [what, row] of [
    ['more', dataRow('1', '2')],
    ['fewer', dataRow()],
  ] as const) {
    it(`refuses a row of ${what} columns than there should be`, async () => {
      const error = await rejectionOf(chunksOf([row, dataRow('1')], 1));
      expect(error).to.be.instanceOf(ProtocolError);
    });
  }
});

describe('literalColumns', () => {
  it('gives an array literal for each column', async () => {
    expect(
      await literalColumns(stream([dataRow('1', 'one'), dataRow('2', 'two')]), 2),
    ).to.deep.equal(['{"1","2"}', '{"one","two"}']);
  });

  it('tells NULL from an empty text and from the word', async () => {
    const rows = stream([dataRow(null), dataRow(''), dataRow('NULL')]);
    expect(await literalColumns(rows, 1)).to.deep.equal(['{NULL,"","NULL"}']);
  });

  it('reads on behind a NULL', async () => {
    expect(await literalColumns(stream([dataRow(null, 'x')]), 2)).to.deep.equal([
      '{NULL}',
      '{"x"}',
    ]);
  });

  it('gives empty arrays for no rows', async () => {
    expect(await literalColumns(stream([]), 2)).to.deep.equal(['{}', '{}']);
  });

  it('keeps each byte above 127 as one character', async () => {
    expect(await literalColumns(stream([dataRow('\xc3\xa9')]), 1)).to.deep.equal(['{"\xc3\xa9"}']);
  });
});

describe('arrayLiteral', () => {
  it('escapes quotes and backslashes', () => {
    expect(arrayLiteral(['a"b\\c'])).to.equal('{"a\\"b\\\\c"}');
  });

  it('quotes what has a meaning in an array', () => {
    expect(arrayLiteral(['{a,b}', ' ', 'null'])).to.equal('{"{a,b}"," ","null"}');
  });

  it('writes NULL without quotes', () => {
    expect(arrayLiteral([null])).to.equal('{NULL}');
  });
});
