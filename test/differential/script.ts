import { bytes, int32, zeroTerminated } from '../support/messages.ts';

/** Waits for one more message of one of these types. */
export interface Wait {
  readonly wait: string;
}

/** Another session, which goes around the proxy, runs this. */
export interface Elsewhere {
  readonly elsewhere: string;
}

/** The client says no more, and does not say Terminate. */
export interface HalfClose {
  readonly halfClose: true;
}

/** Bytes to send, or something to do between them. */
export type Step = Buffer | Wait | Elsewhere | HalfClose;

/**
 * What a client says in one session. Behind its last step it says Terminate and closes its half, so
 * that every script ends, whatever state it has left the session in.
 */
export interface Script {
  /** What it shows, as a fact. */
  readonly name: string;
  /** The StartupMessage; an ordinary one without. */
  readonly startup?: Buffer;
  readonly steps: readonly Step[];
  /**
   * Whether the session is over behind the steps, or in a state that no statement ends: then it is not
   * played again and again in one session.
   */
  readonly endsSession?: boolean;
}

/** Waits for a message of one of these types. */
export function until(types: string): Wait {
  return { wait: types };
}

export const ready = until('Z');

/** A StartupMessage: the protocol version, and names and values. */
export function startup(
  parameters: readonly (readonly [name: string, value: string])[],
  version = 0x30000,
): Buffer {
  const body = parameters.flatMap((pair) => pair.map(zeroTerminated));
  const length = 9 + body.reduce((sum, { length: size }) => sum + size, 0);
  return Buffer.concat([int32(length), int32(version), ...body, bytes('\0')]);
}

/** The steps, with bytes that follow each other as one. */
export function joinBytes(steps: readonly Step[]): Step[] {
  const joined: Step[] = [];
  for (const step of steps) {
    const last = joined.at(-1);
    if (Buffer.isBuffer(step) && Buffer.isBuffer(last))
      joined.push(Buffer.concat([joined.pop() as Buffer, step]));
    else joined.push(step);
  }
  return joined;
}

/** How much a script says, in bytes. */
export function sizeOf({ steps }: Script): number {
  return steps.reduce((sum, step) => sum + (Buffer.isBuffer(step) ? step.length : 0), 0);
}
