import type { Socket } from 'node:net';

/**
 * Lets a socket be read to its end though the connection is broken. A server may end a session while it
 * is spoken to: it says why, and closes, which resets the connection when there was more to read. Node
 * destroys a socket whose write has failed, or whose connection was reset, with all that came and was
 * not read yet. Here such a write only keeps the socket from being written to again, and a reset is an
 * end like others while something waits to be read.
 */
export function keepLastWords(socket: Socket): void {
  const destroy = socket.destroy.bind(socket);
  const write = socket._write.bind(socket);
  const writeAll = socket._writev?.bind(socket);
  const unlessFailed = (done: (error?: Error | null) => void) => (error?: Error | null) => {
    if (!error || socket.destroyed || socket.readableEnded) return done(error);
    socket.once('end', () => done(error));
  };
  socket._write = (chunk, encoding, done) => write(chunk, encoding, unlessFailed(done));
  if (writeAll !== undefined)
    socket._writev = (chunks, done) => writeAll(chunks, unlessFailed(done));
  socket.destroy = (error?: NodeJS.ErrnoException) => {
    if (error?.syscall !== 'read' || socket.readableLength === 0) return destroy(error);
    socket.push(null);
    return socket;
  };
}
