import { connect, isIP, type Socket } from 'node:net';
import { join } from 'node:path';
import { checkServerIdentity, connect as connectTls, type SecureContext } from 'node:tls';
import { BackgroundError } from './errors.ts';
import { keepLastWords } from './last-words.ts';

/** Where the server is, and how the way to it is secured. */
export interface ServerEndpoint {
  /** A name, an address, or the folder of a Unix socket, which begins with a slash. */
  readonly host: string;
  readonly port: number;
  /** Undefined: in the clear. */
  readonly tls?: ServerTls | undefined;
}

/** TLS towards the server, by libpq's names. */
export interface ServerTls {
  /** `require` verifies nothing, `verify-ca` the chain, `verify-full` the name as well. */
  readonly sslmode: 'require' | 'verify-ca' | 'verify-full';
  /** Roots, and our own certificate if we have one; shared by all connections. */
  readonly secureContext: SecureContext;
}

/** What both sides name as the application protocol within TLS. */
export const ALPN_PROTOCOL = 'postgresql';

const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);

/**
 * A connection to the server, in TLS where that is asked for, before anything was said; paused
 * nowhere, and half open when the server ends it first. Whoever gets it closes it.
 * @throws BackgroundError 08001. What a server says before TLS is not repeated: anybody could have said it.
 */
export async function connectToServer(
  endpoint: ServerEndpoint,
  timeoutMs: number,
): Promise<Socket> {
  const { host, port, tls } = endpoint;
  const address = host.startsWith('/')
    ? { path: join(host, `.s.PGSQL.${port}`) }
    : { host, port, noDelay: true, keepAlive: true };
  const plain = connect({ ...address, allowHalfOpen: true });
  keepLastWords(plain);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    plain.destroy(new Error(`no answer within ${timeoutMs} ms`));
  }, timeoutMs);
  try {
    await nextEvent(plain, 'connect');
    if (tls === undefined || host.startsWith('/')) return plain;
    return await secure(plain, host, tls);
  } catch (cause) {
    plain.on('error', () => {}); // whatever comes of it now
    plain.destroy();
    if (cause instanceof BackgroundError) throw cause;
    const reason = timedOut ? `no answer within ${timeoutMs} ms` : (cause as Error).message;
    throw new BackgroundError('08001', `could not connect to the server: ${reason}`, {
      hint: hintFor(cause as NodeJS.ErrnoException),
      cause,
    });
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Sends a CancelRequest, in TLS like everything else, for whoever reads the key can use it. Settles
 * when the server has closed the connection: then the signal was sent.
 * @throws BackgroundError 08001 when the server cannot be reached
 */
export async function sendCancelRequest(
  endpoint: ServerEndpoint,
  request: Buffer,
  timeoutMs: number,
): Promise<void> {
  const socket = await connectToServer(endpoint, timeoutMs);
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => socket.destroy(), timeoutMs);
    socket.on('close', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.on('end', () => socket.end());
    socket.on('data', () => {});
    socket.on('error', () => {});
    socket.write(request);
    socket.resume();
  });
}

async function secure(plain: Socket, host: string, tls: ServerTls): Promise<Socket> {
  plain.write(SSL_REQUEST);
  const answer = await firstBytes(plain);
  const [letter] = answer.toString('latin1');
  if (letter === 'N') {
    throw new BackgroundError('08001', 'the server does not support SSL, but SSL was required', {
      hint: 'sslmode=disable in --upstream connects in the clear.',
    });
  }
  if (letter === 'E')
    throw new BackgroundError('08001', 'the server answered the SSL request with an error');
  if (letter !== 'S')
    throw new BackgroundError('08001', 'the server sent an invalid response to the SSL request');
  if (answer.length > 1)
    throw new BackgroundError('08001', 'received unencrypted data after SSL response');
  const secured = connectTls({
    socket: plain,
    host,
    servername: isIP(host) ? '' : host,
    secureContext: tls.secureContext,
    rejectUnauthorized: tls.sslmode !== 'require',
    checkServerIdentity: tls.sslmode === 'verify-full' ? checkServerIdentity : () => undefined,
    ALPNProtocols: [ALPN_PROTOCOL],
  });
  keepLastWords(secured);
  // A failure of either is one of both.
  plain.once('error', (error) => secured.destroy(error));
  await nextEvent(secured, 'secureConnect');
  return secured;
}

/** Waits for an event. @throws the socket's error, or ECONNRESET when it is closed before */
function nextEvent(socket: Socket, event: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (error?: Error) => {
      socket.off(event, onEvent).off('error', finish).off('close', onClose);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onEvent = () => finish();
    const onClose = () => finish(new Error('the server closed the connection'));
    socket.on(event, onEvent).on('error', finish).on('close', onClose);
  });
}

function firstBytes(socket: Socket): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const finish = (error: Error | undefined, bytes: Buffer) => {
      socket.pause();
      socket.off('data', onData).off('error', onError).off('end', onEnd).off('close', onEnd);
      if (error === undefined) resolve(bytes);
      else reject(error);
    };
    const onData = (bytes: Buffer) => finish(undefined, bytes);
    const onError = (error: Error) => finish(error, Buffer.alloc(0));
    const onEnd = () => onError(new Error('the server closed the connection'));
    socket.on('data', onData).on('error', onError).on('end', onEnd).on('close', onEnd);
  });
}

function hintFor(cause: NodeJS.ErrnoException): string {
  switch (cause.code) {
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return 'The certificate of the server is for another name: use that name in --upstream, or sslmode=verify-ca.';
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
      return 'Nobody vouches for the certificate of the server: name its root certificate with sslrootcert=file in --upstream.';
    case 'CERT_HAS_EXPIRED':
      return 'The certificate of the server, or one above it, is out of date.';
    default:
      return 'Is the server that --upstream names running?';
  }
}
