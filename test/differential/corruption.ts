import { MessageFilter } from '../../proxy/message-filter.ts';

export type Way = 'fromServer' | 'fromClient';

/** What becomes of bytes that are forwarded; `offset` is how many went before them in the session. */
export type Corruption = (bytes: Buffer, offset: number) => Buffer;

/**
 * Spoils what the filters of one way forward, in all sessions that begin while something runs; the rest
 * of the relay stays as it is.
 * @param corruptionOf gives each session its own
 */
export async function corrupted<T>(
  way: Way,
  corruptionOf: () => Corruption,
  run: () => Promise<T>,
): Promise<T> {
  const { prototype } = MessageFilter;
  const { push } = prototype;
  const corruptions = new WeakMap<MessageFilter, Corruption>();
  const offsets = new WeakMap<MessageFilter, number>();
  prototype.push = function (this: MessageFilter, chunk, forward) {
    const isFirst = !offsets.has(this);
    if (isFirst) {
      offsets.set(this, 0);
      if (wayOf(chunk) === way) corruptions.set(this, corruptionOf());
    }
    push.call(this, chunk, (bytes) => {
      const offset = offsets.get(this) ?? 0;
      offsets.set(this, offset + bytes.length);
      const spoilt = corruptions.get(this)?.(bytes, offset) ?? bytes;
      if (spoilt.length > 0) forward(spoilt);
    });
  };
  try {
    return await run();
  } finally {
    prototype.push = push;
  }
}

/** The server begins with AuthenticationOk; no client says anything of that type. */
function wayOf(firstChunk: Buffer): Way {
  return firstChunk[0] === 'R'.charCodeAt(0) ? 'fromServer' : 'fromClient';
}

/** Puts something else in the place of one byte. */
export function byteReplaced(at: number, by: (byte: number) => readonly number[]): Corruption {
  return (bytes, offset) => {
    const index = at - offset;
    if (index < 0 || index >= bytes.length) return bytes;
    return Buffer.concat([
      bytes.subarray(0, index),
      Buffer.from(by(bytes[index] as number)),
      bytes.subarray(index + 1),
    ]);
  };
}

/** Puts something else in the place of each message, which may be held back: it is told its index. */
export function messagesReplaced(by: (message: Buffer, index: number) => readonly Buffer[]) {
  return (): Corruption => {
    let rest: Buffer = Buffer.alloc(0);
    let index = 0;
    return (bytes) => {
      const spoilt: Buffer[] = [];
      rest = Buffer.concat([rest, bytes]);
      while (rest.length >= 5 && rest.length > rest.readInt32BE(1)) {
        const end = rest.readInt32BE(1) + 1;
        spoilt.push(...by(rest.subarray(0, end), index++));
        rest = rest.subarray(end);
      }
      return Buffer.concat(spoilt);
    };
  };
}
