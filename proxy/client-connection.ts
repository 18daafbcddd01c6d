import { BlockList, isIP, type Socket } from 'node:net';
import { fatalResponse } from './replies.ts';
import { ClientReader } from './client-reader.ts';
import type { ClientTls } from './client-tls.ts';

/** How long a client may take to read why its connection ends. */
const FAREWELL_TIMEOUT_MS = 5_000;

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8);
loopback.addAddress('::1', 'ipv6');

/** Whether an address, or `localhost`, is this machine's own. */
export function isLoopback(host: string): boolean {
  const version = isIP(host);
  if (version === 0) return host === 'localhost';
  return loopback.check(host, version === 6 ? 'ipv6' : 'ipv4');
}

/**
 * A client's connection, from its first byte on: a plain socket, and the TLS socket over it once that
 * is agreed on. Owns both.
 */
export class ClientConnection {
  /** Its address; undefined on a Unix socket. */
  readonly address: string | undefined;
  #socket: Socket;
  #reader: ClientReader;
  #isEncrypted = false;
  #isInHandshake = false;
  #farewell: NodeJS.Timeout | undefined;

  /** @param socket paused, and not read from before */
  constructor(socket: Socket, isUnixSocket: boolean) {
    this.address = isUnixSocket ? undefined : (socket.remoteAddress ?? 'unknown');
    this.#socket = socket;
    this.#reader = new ClientReader(socket);
  }

  /** The socket that speaks with the client now. */
  get socket(): Socket {
    return this.#socket;
  }

  get reader(): ClientReader {
    return this.#reader;
  }

  get isEncrypted(): boolean {
    return this.#isEncrypted;
  }

  get isUnixSocket(): boolean {
    return this.address === undefined;
  }

  /** Whether nobody on a network can listen: TLS, a Unix socket, or this machine's own loopback. */
  get isPrivate(): boolean {
    return this.#isEncrypted || this.address === undefined || isLoopback(this.address);
  }

  /** Lets TLS begin; what was read of it already is given back. @throws when the handshake fails */
  async secure(tls: ClientTls, isDirect: boolean): Promise<void> {
    this.#isInHandshake = true;
    if (this.#reader.buffered.length > 0) this.#socket.unshift(this.#reader.buffered);
    this.#socket = await tls.accept(this.#socket, isDirect);
    this.#reader = new ClientReader(this.#socket);
    this.#isEncrypted = true;
    this.#isInHandshake = false;
  }

  /** Says why the connection ends, where the client can understand it, and ends it. */
  refuse(error: unknown): void {
    if (this.#isInHandshake) this.#socket.destroy();
    else if (this.#socket.writable) this.#socket.end(fatalResponse(error));
    void this.close();
  }

  /**
   * Ends the connection when what was written is delivered, or the client has had its time for that.
   * Settles when it is closed.
   */
  async close(): Promise<void> {
    const socket = this.#socket;
    if (socket.closed) return;
    this.#farewell ??= setTimeout(() => socket.destroy(), FAREWELL_TIMEOUT_MS);
    // What the client still says is for nobody; unread it would keep the connection open.
    socket.resume();
    socket.destroySoon();
    await new Promise<void>((resolve) => socket.once('close', () => resolve()));
    clearTimeout(this.#farewell);
  }
}
