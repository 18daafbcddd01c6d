/** One chunk of a result: for each column, an array of its values. */
export interface ColumnChunk<Encoded> {
  readonly rows: number;
  readonly columns: readonly Encoded[];
}

const MAX_ROWS = 1000;
const MAX_BYTES = 256 * 1024;
const TEXT_OID = 25;

/**
 * Turns DataRow messages into columns of text[] in binary format. A value's length and bytes stand
 * in both formats in the same way, so they are copied as they are.
 * DataRow: int16 count, then for each value int32 length (-1 for NULL) and bytes.
 * @see https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
export async function* binaryColumns(
  frames: AsyncIterable<Buffer>,
  columnCount: number,
): AsyncGenerator<ColumnChunk<Buffer>> {
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  for await (const frame of frames) {
    pending.push(frame);
    pendingBytes += frame.length;
    if (pending.length >= MAX_ROWS || pendingBytes >= MAX_BYTES) {
      yield binaryChunk(pending, columnCount);
      pending = [];
      pendingBytes = 0;
    }
  }
  if (pending.length > 0) yield binaryChunk(pending, columnCount);
}

function binaryChunk(frames: readonly Buffer[], columnCount: number): ColumnChunk<Buffer> {
  // Each column's size first, so that each array is allocated once.
  const sizes = new Array<number>(columnCount).fill(20);
  const hasNull = new Array<boolean>(columnCount).fill(false);
  for (const frame of frames) {
    let at = 7;
    for (let column = 0; column < columnCount; column++) {
      const length = frame.readInt32BE(at);
      const size = 4 + Math.max(length, 0);
      if (length < 0) hasNull[column] = true;
      sizes[column] = (sizes[column] as number) + size;
      at += size;
    }
  }
  const arrays = sizes.map((size, column) => {
    const array = Buffer.allocUnsafe(size);
    array.writeInt32BE(1, 0); // dimensions
    array.writeInt32BE(hasNull[column] === true ? 1 : 0, 4);
    array.writeInt32BE(TEXT_OID, 8);
    array.writeInt32BE(frames.length, 12);
    array.writeInt32BE(1, 16); // lower bound
    return array;
  });
  const ends = new Array<number>(columnCount).fill(20);
  for (const frame of frames) {
    let at = 7;
    for (let column = 0; column < columnCount; column++) {
      const size = 4 + Math.max(frame.readInt32BE(at), 0);
      const end = ends[column] as number;
      frame.copy(arrays[column] as Buffer, end, at, at + size);
      ends[column] = end + size;
      at += size;
    }
  }
  return { rows: frames.length, columns: arrays };
}

/** Turns DataRow messages into one array literal a column, as text in the database's encoding. */
export async function literalColumns(
  frames: AsyncIterable<Buffer>,
  columnCount: number,
): Promise<string[]> {
  const columns: string[][] = Array.from({ length: columnCount }, () => []);
  for await (const frame of frames) {
    let at = 7;
    for (const values of columns) {
      const length = frame.readInt32BE(at);
      at += 4;
      values.push(elementLiteral(length < 0 ? null : frame.toString('latin1', at, at + length)));
      at += Math.max(length, 0);
    }
  }
  return columns.map((values) => `{${values.join(',')}}`);
}

/** Values as an array literal, which is how a column travels in a reply. */
export function arrayLiteral(values: readonly (string | null)[]): string {
  return `{${values.map(elementLiteral).join(',')}}`;
}

function elementLiteral(value: string | null): string {
  return value === null ? 'NULL' : `"${value.replace(/[\\"]/g, '\\$&')}"`;
}
