import { expect } from 'chai';
import { arrayLiteral, binaryColumns, literalColumns } from '../../src/column-chunks.ts';
import { bytes, dataRow, int32 } from '../support/messages.ts';

async function* stream(rows: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* rows;
}

async function chunksOf(rows: readonly Buffer[], columnCount: number) {
  const chunks = [];
  for await (const chunk of binaryColumns(stream(rows), columnCount)) chunks.push(chunk);
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

  it('begins a new chunk after 1000 rows', async () => {
    const rows = Array.from({ length: 2001 }, (_value, at) => dataRow(String(at)));
    const chunks = await chunksOf(rows, 1);

    expect(chunks.map((chunk) => chunk.rows)).to.deep.equal([1000, 1000, 1]);
    expect(chunks[2]?.columns).to.deep.equal([textArray(['2000'])]);
  });

  it('begins a new chunk after 256 KiB', async () => {
    const row = dataRow('x'.repeat(128 * 1024 - 11)); // 128 KiB with header, count and length
    const chunks = await chunksOf([row, row, row, row, row], 1);

    expect(chunks.map((chunk) => chunk.rows)).to.deep.equal([2, 2, 1]);
  });

  it('puts a row that is larger than a chunk into one of its own', async () => {
    const row = dataRow('x'.repeat(300 * 1024));
    expect((await chunksOf([row, row], 1)).map((chunk) => chunk.rows)).to.deep.equal([1, 1]);
  });
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
