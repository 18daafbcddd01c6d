import { constants } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { createSecureContext, TLSSocket, type SecureContext } from 'node:tls';
import { ALPN_PROTOCOL, ProtocolError, type Logger } from '../src/index.ts';
import { WatchedFiles } from './watched-file.ts';

/** How clients may connect: in the clear, as they like, or in TLS only (but on Unix sockets). */
export type ClientSslMode = 'off' | 'allow' | 'require';

/** Certificate and key that clients see, in PEM format. */
export interface ClientTlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

const CLIENT_LEFT = 'the client left the TLS handshake';

/** The server's side of TLS with clients. Its files are read again when they have changed. */
export class ClientTls {
  readonly sslmode: Exclude<ClientSslMode, 'off'>;
  readonly #context: WatchedFiles<SecureContext>;

  private constructor(
    sslmode: Exclude<ClientSslMode, 'off'>,
    context: WatchedFiles<SecureContext>,
  ) {
    this.sslmode = sslmode;
    this.#context = context;
  }

  /**
   * @param onFilesChanged called when they were read again
   * @throws Error when the files cannot be read, or do not belong together
   */
  static async open(
    sslmode: Exclude<ClientSslMode, 'off'>,
    { certFile, keyFile }: ClientTlsFiles,
    logger: Logger,
    onFilesChanged: () => void,
  ): Promise<ClientTls> {
    const load = async () => {
      const [cert, key] = await Promise.all([readFile(certFile), readFile(keyFile)]);
      // As the server: a second handshake would cost us more than whoever asks for it.
      const secureOptions = constants.SSL_OP_NO_RENEGOTIATION;
      return createSecureContext({ cert, key, minVersion: 'TLSv1.2', secureOptions });
    };
    const files = [certFile, keyFile];
    return new ClientTls(sslmode, await WatchedFiles.open(files, load, logger, onFilesChanged));
  }

  /** Reads the files again, if they have changed. */
  async look(): Promise<void> {
    await this.#context.current();
  }

  /**
   * Makes TLS of a connection. Settles when the handshake is done, with the socket paused.
   * @param isDirect whether the client began with it: then it must name the protocol, lest somebody
   * passes another protocol's bytes off as ours
   * @throws Error when the handshake fails; the connection is gone then
   */
  async accept(plain: Socket, isDirect: boolean): Promise<Socket> {
    const secureContext = await this.#context.current();
    // Over a connection that has gone meanwhile no event would ever come.
    if (plain.destroyed) throw new ProtocolError(CLIENT_LEFT);
    const secured = new TLSSocket(plain, {
      isServer: true,
      secureContext,
      ALPNProtocols: [ALPN_PROTOCOL],
    });
    await new Promise<void>((resolve, reject) => {
      secured.once('secure', resolve);
      secured.once('error', (error: NodeJS.ErrnoException) =>
        reject(new ProtocolError(`the TLS handshake has failed: ${error.code ?? error.message}`)),
      );
      secured.once('close', () => reject(new ProtocolError(CLIENT_LEFT)));
    });
    secured.on('error', () => {}); // 'close' follows
    // Of what breaks TLS behind the handshake Node.js tells only its own kind of server, and goes on.
    secured.on('_tlsError', () => secured.destroy());
    if (isDirect && secured.alpnProtocol !== ALPN_PROTOCOL) {
      secured.destroy();
      throw new ProtocolError('direct TLS without the ALPN protocol "postgresql"');
    }
    secured.pause();
    return secured;
  }
}
