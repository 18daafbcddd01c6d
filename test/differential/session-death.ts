import type { RawMessage } from '../support/wire.ts';
import { copyFail, sync } from './frontend.ts';
import { play, type Stage } from './play.ts';

const HEADER_BYTES = 5;
const QUERY = 'Q'.charCodeAt(0);
const PARSE = 'P'.charCodeAt(0);

/** Ends all that messages may have begun, a COPY too, so that Terminate finds the session idle. */
export const END_OF_ALL = [copyFail('the end'), sync];

/** Whether the server has ended the session by itself. */
export function hasDied(messages: readonly RawMessage[]): boolean {
  return messages.some(({ type, body }) => type === 'E' && body.includes('\0VFATAL\0'));
}

/**
 * What may be said in pieces. A server that ends the session in the middle of what it is told closes a
 * socket that still has bytes to read, which resets the connection; a client that writes again loses what
 * it has not read yet, directly as well as through the proxy. So this is all up to the header of the
 * message that the server does not bear, behind which nothing is left to be read. The proxy forwards
 * Query and Parse as a whole, and these end with their last byte.
 */
export async function upToDeath(messages: readonly Buffer[], direct: Stage): Promise<Buffer[]> {
  let [alive, dead] = [0, messages.length];
  while (dead - alive > 1) {
    const middle = (alive + dead) >> 1;
    const steps = [...messages.slice(0, middle), ...END_OF_ALL];
    if (hasDied(await play({ name: 'up to a message', steps }, direct))) dead = middle;
    else alive = middle;
  }
  const last = messages[alive] as Buffer;
  const isWhole = last[0] === QUERY || last[0] === PARSE;
  return [...messages.slice(0, alive), isWhole ? last : last.subarray(0, HEADER_BYTES)];
}
