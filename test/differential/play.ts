import { connect, type Socket } from 'node:net';
import type pg from 'pg';
import { keepLastWords } from '../../src/last-words.ts';
import type { RawMessage } from '../support/wire.ts';
import { whole, type Chunking } from './chunking.ts';
import { query, sync, terminate } from './frontend.ts';
import { writePieces, type ProxySockets } from '../support/proxy-sockets.ts';
import { joinBytes, ready, type Script, type Step } from './script.ts';

const PATIENCE_MS = 15_000;

/** Where scripts are played, and what they need there. */
export interface Stage {
  readonly host: string;
  readonly port: number;
  /** The StartupMessage of scripts without one of their own. */
  readonly startup: Buffer;
  /** Runs the steps that happen elsewhere. */
  readonly elsewhere: pg.Client;
  /** Where the other end is in this process: what is cut arrives as it was cut. */
  readonly sockets?: ProxySockets;
  /** How long a session may say nothing while it is waited for; long enough for a busy machine without. */
  readonly patienceMs?: number;
}

/** A session of which everything is kept that the server says. */
export class PlayedSession {
  readonly #socket: Socket;
  readonly #stage: Stage;
  #messages: RawMessage[] = [];
  #pieces: Buffer[] = [];
  #held = 0;
  #wanted = 5;
  #isOver = false;
  #taken = 0;
  #wake: () => void = () => {};

  private constructor(socket: Socket, stage: Stage) {
    this.#socket = socket;
    this.#stage = stage;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', () => {});
    const over = () => {
      this.#isOver = true;
      this.#wake();
    };
    socket.on('end', over).on('close', over);
  }

  static async connect(stage: Stage): Promise<PlayedSession> {
    const { host, port } = stage;
    const socket = connect({ host, port, noDelay: true, allowHalfOpen: true });
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    // As libpq: what came is read, also when there is nobody to write to any more.
    keepLastWords(socket);
    return new PlayedSession(socket, stage);
  }

  /** What has come since the last call; what is no whole message comes last. */
  takeMessages(): RawMessage[] {
    const messages = this.#messages;
    if (this.#held > 0) messages.push({ type: 'incomplete', body: Buffer.concat(this.#pieces) });
    this.#messages = [];
    this.#pieces = [];
    this.#held = 0;
    this.#wanted = 5;
    this.#taken = 0;
    return messages;
  }

  /** Says something, cut into chunks. */
  async say(bytes: Buffer, chunking: Chunking = whole): Promise<void> {
    const { sockets } = this.#stage;
    const pieces = chunking(bytes);
    await writePieces(this.#socket, pieces, sockets?.peerOf(this.#socket));
  }

  /** Settles when one more message that is wanted has come, or all is over. */
  async until(isWanted: (message: RawMessage) => boolean): Promise<void> {
    await this.#waitFor(() => {
      while (this.#taken < this.#messages.length) {
        if (isWanted(this.#messages[this.#taken++] as RawMessage)) return true;
      }
      return this.#isOver;
    });
  }

  /** Says no more, and settles when the other side does the same. */
  async end(): Promise<void> {
    if (this.#socket.writable) this.#socket.end();
    await this.#waitFor(() => this.#isOver);
    this.#socket.destroy();
  }

  /** Takes the steps; bytes between which nothing is waited for are said in one go. */
  async perform(steps: readonly Step[], chunking: Chunking): Promise<void> {
    for (const step of joinBytes(steps)) {
      if (Buffer.isBuffer(step)) await this.say(step, chunking);
      else if ('wait' in step) await this.until(({ type }) => step.wait.includes(type));
      else if ('elsewhere' in step) await this.#stage.elsewhere.query(step.elsewhere);
      else this.#socket.end();
    }
  }

  async #waitFor(condition: () => boolean): Promise<void> {
    const { patienceMs = PATIENCE_MS } = this.#stage;
    while (!condition()) {
      let timer: NodeJS.Timeout | undefined;
      const isLate = await Promise.race([
        new Promise<false>((resolve) => (this.#wake = () => resolve(false))),
        new Promise<true>((resolve) => (timer = setTimeout(() => resolve(true), patienceMs))),
      ]).finally(() => clearTimeout(timer));
      if (!isLate) continue;
      this.#socket.destroy();
      const seen = this.#messages.map(({ type }) => type).join('');
      throw new Error(`nothing came for ${patienceMs} ms, behind ${seen}`);
    }
  }

  #take(chunk: Buffer): void {
    // Joined only when a message is there as a whole: it may come in many pieces.
    this.#pieces.push(chunk);
    this.#held += chunk.length;
    if (this.#held < this.#wanted) return;
    let bytes = Buffer.concat(this.#pieces);
    // Behind a length that is none, as from a relay that spoils it, there are no messages any more.
    while (bytes.length >= 5 && bytes.readInt32BE(1) >= 4 && bytes.length > bytes.readInt32BE(1)) {
      const end = bytes.readInt32BE(1) + 1;
      const type = String.fromCharCode(bytes[0] as number);
      this.#messages.push({ type, body: bytes.subarray(5, end) });
      bytes = bytes.subarray(end);
    }
    this.#pieces = [bytes];
    this.#held = bytes.length;
    const length = bytes.length >= 5 ? bytes.readInt32BE(1) : 4;
    this.#wanted = length >= 4 ? length + 1 : Infinity;
    this.#wake();
  }
}

/** Plays a script in a session of its own. @returns all that the server says, to the end of the connection */
export async function play(
  script: Script,
  stage: Stage,
  chunking: Chunking = whole,
): Promise<RawMessage[]> {
  const session = await PlayedSession.connect(stage);
  const { startup, steps } = script;
  // What a client says while it logs in waits in the network, where cuts are lost: so it is ready first.
  if (startup === undefined) await session.perform([stage.startup, ready], whole);
  await session.perform(
    [...(startup === undefined ? [] : [startup]), ...steps, terminate],
    chunking,
  );
  await session.end();
  return session.takeMessages();
}

/** A session in which scripts are played one after the other. */
export class RepeatedSession {
  readonly #session: PlayedSession;

  private constructor(session: PlayedSession) {
    this.#session = session;
  }

  static async start(stage: Stage): Promise<RepeatedSession> {
    const session = await PlayedSession.connect(stage);
    await session.perform([stage.startup, ready], whole);
    session.takeMessages();
    return new RepeatedSession(session);
  }

  /** Plays a script, and what discards all that it leaves. @returns what the server says to both */
  async play(script: Script, chunking: Chunking): Promise<RawMessage[]> {
    await this.#session.perform([...script.steps, ...EPILOGUE], chunking);
    await this.#session.until(({ type, body }) => type === 'D' && body.includes(END));
    await this.#session.until(({ type }) => type === 'Z');
    return this.#session.takeMessages();
  }

  async end(): Promise<void> {
    await this.#session.say(terminate);
    await this.#session.end();
  }
}

const END = 'the end of the script';
const EPILOGUE = [sync, query('ROLLBACK'), query('DISCARD ALL'), query(`SELECT '${END}'`)];
