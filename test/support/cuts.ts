/** The bytes in two chunks, cut at each offset; the first and the last cut leave a chunk empty. */
export function* everyCut(bytes: Buffer): Generator<readonly [Buffer, Buffer]> {
  for (let at = 0; at <= bytes.length; at++) yield [bytes.subarray(0, at), bytes.subarray(at)];
}

/** The bytes in chunks of one byte. */
export function byteByByte(bytes: Buffer): Buffer[] {
  return Array.from(bytes, (_byte, at) => bytes.subarray(at, at + 1));
}

/** The bytes in chunks of sizes that `nextSize` gives, at least 1. */
export function chunksOf(bytes: Buffer, nextSize: () => number): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + nextSize();
    chunks.push(bytes.subarray(at, end));
    at = end;
  }
  return chunks;
}
