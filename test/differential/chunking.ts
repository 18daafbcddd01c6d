import { byteByByte, chunksOf } from '../support/cuts.ts';
import { SeededRandom } from '../support/random.ts';

const MANY_CHUNKS = 50;

/** How bytes on their way are cut into chunks. */
export type Chunking = (bytes: Buffer) => Buffer[];

export const whole: Chunking = (bytes) => [bytes];

export const oneByteAtATime: Chunking = byteByByte;

/** One cut, counted over all that goes this way in a session from now on. */
export function cutAt(offset: number): Chunking {
  let passed = 0;
  return (bytes) => {
    const at = offset - passed;
    passed += bytes.length;
    if (at <= 0 || at >= bytes.length) return [bytes];
    return [bytes.subarray(0, at), bytes.subarray(at)];
  };
}

/** Cuts at random, which are the same for the same seed; not many where there is much. */
export function randomCuts(seed: number): Chunking {
  const random = new SeededRandom(seed);
  return (bytes) => {
    const limit = Math.max(random.oneOf([3, 10, 50, 500, 20_000]), bytes.length / MANY_CHUNKS);
    return chunksOf(bytes, () => 1 + random.below(limit));
  };
}
