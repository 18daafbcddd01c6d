import type { Socket } from 'node:net';
import { DirectWriter } from './direct-write.ts';
import { readIntoOwnBuffer } from './own-buffer.ts';

const NOTHING = Buffer.alloc(0);

/**
 * Moves bytes from one socket to another and lets the source wait while the sink is full. When the
 * source ends, so does the sink, after what is in flight.
 * @param transform gives to `forward` what goes on; throws to break the connection. Chunks are views
 * that live until it returns and what it has forwarded is written. Where it returns true the source goes on
 * though the sink is full: then it must have forwarded copies.
 * @param end called at the end of the source, in place of ending the sink
 */
export function pump(
  source: Socket,
  sink: Socket,
  transform: (chunk: Buffer, forward: (bytes: Buffer) => void) => boolean | void,
  onError: (error: unknown) => void,
  end: () => void = () => void sink.end(),
): void {
  const direct = DirectWriter.of(sink);
  /** What a sink without direct writes may have in hand while the source goes on. */
  let limit = 0;
  const proceed = () => void source.resume();
  const forward =
    direct === undefined
      ? (bytes: Buffer) => void sink.write(bytes)
      : (bytes: Buffer) => direct.write(bytes);
  const take = (chunk: Buffer) => {
    let goesOn: boolean | void;
    try {
      goesOn = transform(chunk, forward);
    } catch (error) {
      onError(error);
      return;
    }
    if (goesOn === true) return;
    if (direct === undefined ? sink.writableLength <= limit : !direct.isBehind) return;
    source.pause();
    // Written when all before it is. A callback for each write would cost more than most writes do here.
    sink.write(NOTHING, proceed);
  };
  // What the sink has not taken yet lies in the source's buffer: that must not be read into again.
  if (!readIntoOwnBuffer(source, take)) {
    limit = sink.writableHighWaterMark;
    source.on('data', take);
  }
  if (source.readableEnded) end();
  else source.on('end', end);
}
