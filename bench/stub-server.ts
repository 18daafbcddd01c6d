import { createServer, type AddressInfo, type Socket } from 'node:net';
import type { Resources } from './resources.ts';

const message = (type: string, body: Buffer): Buffer => {
  const header = Buffer.alloc(5);
  header.write(type, 'latin1');
  header.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([header, body]);
};

const parameters = {
  server_version: '18.0',
  server_encoding: 'UTF8',
  client_encoding: 'UTF8',
  standard_conforming_strings: 'on',
};
const AUTHENTICATION_OK = message('R', Buffer.alloc(4));
const PARAMETER_STATUS = Object.entries(parameters).map(([name, value]) =>
  message('S', Buffer.from(`${name}\0${value}\0`)),
);
const BACKEND_KEY_DATA = message('K', Buffer.alloc(8, 1));
const READY_FOR_QUERY = message('Z', Buffer.from('I'));
const GREETING = Buffer.concat([
  AUTHENTICATION_OK,
  ...PARAMETER_STATUS,
  BACKEND_KEY_DATA,
  READY_FOR_QUERY,
]);
const NO_ROWS = Buffer.concat([
  message('T', Buffer.alloc(2)),
  message('C', Buffer.from('SELECT 0\0')),
  READY_FOR_QUERY,
]);

const QUERY = 'Q'.charCodeAt(0);
const SSL_REQUEST = 80877103;

/**
 * A server that accepts any session and answers each query with no rows: sessions cost it nothing, so
 * that what is measured is the proxy.
 * @returns its port
 */
export async function startStubServer(resources: Resources): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => socket.destroy());
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  resources.own(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

function serve(socket: Socket): void {
  let pending: Buffer = Buffer.alloc(0);
  let hasStarted = false;
  socket.on('data', (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    for (;;) {
      const typeBytes = hasStarted ? 1 : 0;
      if (pending.length < typeBytes + 4) return;
      const end = typeBytes + pending.readInt32BE(typeBytes);
      if (pending.length < Math.max(end, typeBytes + 4)) return;
      if (hasStarted) {
        if (pending[0] === QUERY) socket.write(NO_ROWS);
      } else if (end === 8 && pending.readInt32BE(4) === SSL_REQUEST) {
        socket.write('N');
      } else {
        hasStarted = true;
        socket.write(GREETING);
      }
      pending = pending.subarray(end);
    }
  });
}
