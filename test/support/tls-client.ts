import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { firstPacket } from './messages.ts';

export const SSL_REQUEST = firstPacket(80877103);
export const GSSENC_REQUEST = firstPacket(80877104);

/** A plain connection, open. */
export async function dial(port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = connectTcp({ host, port });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** The next bytes of a socket, which must not have been read yet; an empty buffer at its end. */
export async function nextBytes(socket: Socket): Promise<Buffer> {
  return new Promise((resolve) => {
    const finish = (chunk?: Buffer) => {
      socket.off('data', finish).off('close', atEnd).off('end', atEnd);
      socket.pause();
      resolve(chunk ?? Buffer.alloc(0));
    };
    const atEnd = () => finish();
    if (socket.destroyed || socket.readableEnded) return finish();
    socket.on('data', finish).on('close', atEnd).on('end', atEnd);
    socket.resume();
  });
}

/** All that comes until the other side closes the connection. */
export async function restOf(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.resume();
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
  return Buffer.concat(chunks);
}

/** Asks for encryption with an SSLRequest and gives the byte of the answer. */
export async function askForTls(socket: Socket): Promise<string> {
  socket.write(SSL_REQUEST);
  return (await nextBytes(socket)).toString('latin1');
}

/** TLS on an open connection. @throws the error of the handshake */
export async function startTls(socket: Socket, options: ConnectionOptions): Promise<TLSSocket> {
  const secure = connect({ servername: 'localhost', ...options, socket });
  await new Promise<void>((resolve, reject) => {
    secure.once('secureConnect', resolve).once('error', reject);
    socket.once('close', () => reject(new Error('closed in the handshake')));
  });
  secure.on('error', () => {});
  return secure;
}

/** A connection in TLS by way of an SSLRequest, as most clients make it. */
export async function dialTls(port: number, options: ConnectionOptions): Promise<TLSSocket> {
  const socket = await dial(port);
  const answer = await askForTls(socket);
  if (answer !== 'S') throw new Error(`the answer to SSLRequest is ${JSON.stringify(answer)}`);
  return startTls(socket, options);
}
