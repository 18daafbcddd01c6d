import { ProtocolError } from './errors.ts';
import type { FrameBlock } from './frame-run.ts';

/** One chunk of a result: for each column, an array of its values. */
export interface ColumnChunk<Encoded> {
  readonly rows: number;
  readonly columns: readonly Encoded[];
}

const TEXT_OID = 25;

/** Dimensions, flag, type, length and lower bound of an array. */
const ARRAY_HEADER_BYTES = 20;

/** Below, a loop is quicker than a call. */
const MIN_COPY_BYTES = 32;

/**
 * Turns DataRow messages into columns of text[] in binary format. A value's length and bytes stand
 * in both formats in the same way, so they are copied as they are.
 * @returns a chunk for each block
 * @see https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
export async function* binaryColumns(
  blocks: AsyncIterable<FrameBlock>,
  columnCount: number,
): AsyncGenerator<ColumnChunk<Buffer>> {
  for await (const block of blocks) yield binaryChunk(block, columnCount);
}

function binaryChunk(block: FrameBlock, columnCount: number): ColumnChunk<Buffer> {
  const { bytes, count } = block;
  // Each column's size first, so that each array is allocated once.
  const sizes = new Array<number>(columnCount).fill(ARRAY_HEADER_BYTES);
  const hasNull = new Array<boolean>(columnCount).fill(false);
  eachValue(block, columnCount, (column, _at, length) => {
    if (length < 0) hasNull[column] = true;
    sizes[column] = (sizes[column] as number) + 4 + Math.max(length, 0);
  });
  const arrays = sizes.map((size, column) => {
    const array = Buffer.allocUnsafe(size);
    array.writeInt32BE(1, 0); // dimensions
    array.writeInt32BE(hasNull[column] === true ? 1 : 0, 4);
    array.writeInt32BE(TEXT_OID, 8);
    array.writeInt32BE(count, 12);
    array.writeInt32BE(1, 16); // lower bound
    return array;
  });
  const ends = new Array<number>(columnCount).fill(ARRAY_HEADER_BYTES);
  eachValue(block, columnCount, (column, at, length) => {
    const size = 4 + Math.max(length, 0);
    const end = ends[column] as number;
    copyBytes(bytes, at - 4, arrays[column] as Buffer, end, size);
    ends[column] = end + size;
  });
  return { rows: count, columns: arrays };
}

/** Turns DataRow messages into one array literal a column, as text in the database's encoding. */
export async function literalColumns(
  blocks: AsyncIterable<FrameBlock>,
  columnCount: number,
): Promise<string[]> {
  const columns: string[][] = Array.from({ length: columnCount }, () => []);
  for await (const block of blocks) {
    eachValue(block, columnCount, (column, at, length) => {
      const value = length < 0 ? null : block.bytes.toString('latin1', at, at + length);
      columns[column]?.push(elementLiteral(value));
    });
  }
  return columns.map((values) => `{${values.join(',')}}`);
}

/**
 * Calls back with the place and length (-1 for NULL) of each value.
 * DataRow: type and length, int16 count, then for each value int32 length and bytes.
 */
function eachValue(
  { bytes, count }: FrameBlock,
  columnCount: number,
  value: (column: number, at: number, length: number) => void,
): void {
  let at = 0;
  for (let row = 0; row < count; row++) {
    const end = at + 1 + bytes.readInt32BE(at + 1);
    at += 7;
    for (let column = 0; column < columnCount; column++) {
      const length = bytes.readInt32BE(at);
      at += 4;
      value(column, at, length);
      at += Math.max(length, 0);
    }
    if (at !== end)
      throw new ProtocolError('DataRow from the server with other columns than it has described');
  }
}

function copyBytes(from: Buffer, at: number, to: Buffer, toAt: number, length: number): void {
  if (length >= MIN_COPY_BYTES) from.copy(to, toAt, at, at + length);
  else for (let byte = 0; byte < length; byte++) to[toAt + byte] = from[at + byte] as number;
}

/** Values as an array literal, which is how a column travels in a reply. */
export function arrayLiteral(values: readonly (string | null)[]): string {
  return `{${values.map(elementLiteral).join(',')}}`;
}

function elementLiteral(value: string | null): string {
  return value === null ? 'NULL' : `"${value.replace(/[\\"]/g, '\\$&')}"`;
}
