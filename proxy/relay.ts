import type { Socket } from 'node:net';

/**
 * Moves bytes from one socket to another and lets the source wait while the sink is full. When the
 * source ends, so does the sink, after what is in flight.
 * @param transform gives to `forward` what goes on; throws to break the connection
 * @param end called at the end of the source, in place of ending the sink
 */
export function pump(
  source: Socket,
  sink: Socket,
  transform: (chunk: Buffer, forward: (bytes: Buffer) => void) => void,
  onError: (error: unknown) => void,
  end: () => void = () => void sink.end(),
): void {
  let isFull = false;
  const forward = (bytes: Buffer) => {
    if (!sink.write(bytes)) isFull = true;
  };
  source.on('data', (chunk: Buffer) => {
    try {
      transform(chunk, forward);
    } catch (error) {
      onError(error);
      return;
    }
    if (isFull) source.pause();
  });
  sink.on('drain', () => {
    isFull = false;
    source.resume();
  });
  if (source.readableEnded) end();
  else source.on('end', end);
}
