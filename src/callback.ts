import { hash } from 'node:crypto';
import { apiFunctions, type Verb } from './api.ts';
import type { DatabaseText } from './errors.ts';

/** The SQLSTATE of the notices that carry requests. */
export const CALLBACK_SQLSTATE = 'PGBG0';

/** A request above this size is dropped while it streams in. */
export const MAX_REQUEST_BYTES = 64 * 1024 * 1024;

/** Who signed: the context of a signature, in the order in which the view writes it. */
export interface SignedContext {
  /** The context as it was signed. */
  readonly text: string;
  /** `free` where the session itself chose the role, `bound` inside SECURITY DEFINER functions and the like. */
  readonly kind: 'free' | 'bound';
  readonly keyId: string;
  readonly pid: number;
  /** Microseconds of the server's clock: grows from request to request. */
  readonly number: number;
  readonly role: DatabaseText;
  readonly roleOid: number;
  /** One letter for each function of the API, `t` where the role may execute it. */
  readonly privileges: string;
  readonly token: string;
}

/** Arguments as the SQL functions name them. Strings are bytes of the database's encoding. */
export type Arguments = Readonly<Record<string, unknown>>;

/** What a payload holds. */
export interface Payload {
  readonly verb: string;
  readonly arguments: Arguments;
}

/** How a request wants to be answered. */
export interface ReplyAddress {
  readonly nonce: string;
  readonly seed: Buffer;
  /** Whether the asking role may read the query text of our control link. */
  readonly isWide: boolean;
  /** A bigint, the key of the advisory lock on which the function may sleep. */
  readonly wakeKey: string;
}

/** The messages of the callback channel, from the database to the proxy. */
export type CallbackMessage =
  | {
      readonly kind: 'request';
      readonly context: SignedContext;
      /** Undefined: nobody waits for an answer. */
      readonly replyTo: ReplyAddress | undefined;
      /** Not to be opened before it is verified. */
      readonly payload: string;
      /** What the MAC is of: the header and the payload. */
      readonly signed: string;
      readonly mac: string;
    }
  | {
      readonly kind: 'install';
      readonly grantToken: string;
      readonly replyTo: ReplyAddress;
      readonly payload: string;
    }
  | { readonly kind: 'began'; readonly grantToken: string }
  | { readonly kind: 'tag'; readonly grantToken: string; readonly tag: string }
  | { readonly kind: 'acknowledge'; readonly nonce: string; readonly packet: number }
  | { readonly kind: 'received'; readonly receipt: string }
  | { readonly kind: 'leaving'; readonly nonce: string; readonly timeoutMs: number }
  | { readonly kind: 'awake'; readonly nonce: string };

/** Reads the text of a callback notice, from its beginning only; undefined when it is none of ours. */
export function parseCallback(text: string): CallbackMessage | undefined {
  const [letter = '', ...parts] = text.split(' ', 6);
  const [first = '', second = '', third = '', fourth = ''] = parts;
  switch (letter) {
    case 'R': {
      const context = parseContext(copyOf(first));
      const replyTo = parseReplyAddress(second);
      if (context === undefined || parts.length !== 4) return undefined;
      if (replyTo === undefined && second !== '-') return undefined;
      const signed = `${second} ${third}`;
      return { kind: 'request', context, replyTo, payload: third, signed, mac: fourth };
    }
    case 'I': {
      const replyTo = parseReplyAddress(second);
      if (replyTo === undefined || parts.length !== 3) return undefined;
      return { kind: 'install', grantToken: first, replyTo, payload: third };
    }
    case 'B':
      return parts.length === 1 ? { kind: 'began', grantToken: first } : undefined;
    case 'T':
      return parts.length >= 2
        ? { kind: 'tag', grantToken: first, tag: parts.slice(1).join(' ') }
        : undefined;
    case 'A':
      return parts.length === 2
        ? { kind: 'acknowledge', nonce: first, packet: Number(second) }
        : undefined;
    case 'F':
      return parts.length === 1 ? { kind: 'received', receipt: first } : undefined;
    case 'L':
      return parts.length === 2
        ? { kind: 'leaving', nonce: first, timeoutMs: Number(second) }
        : undefined;
    case 'W':
      return parts.length === 1 ? { kind: 'awake', nonce: first } : undefined;
    default:
      return undefined;
  }
}

/**
 * A part of a message that is kept longer than the message: a plain slice would keep all of it in
 * memory, and it may be large.
 */
function copyOf(part: string): string {
  return Buffer.from(part, 'latin1').toString('latin1');
}

/** A header: nonce, seed in hex, 1 where the wide packets can be read, and the key to sleep on. */
function parseReplyAddress(header: string): ReplyAddress | undefined {
  const [, nonce, seed = '', wide, wakeKey = ''] =
    /^([A-Za-z0-9+/]{16}),([0-9a-f]{64}),([01]),(-?[0-9]{1,19})$/.exec(header) ?? [];
  return nonce === undefined
    ? undefined
    : {
        nonce: copyOf(nonce),
        seed: Buffer.from(seed, 'hex'),
        isWide: wide === '1',
        wakeKey: copyOf(wakeKey),
      };
}

/** Opens a payload: base64 of JSON in the database's encoding. Undefined when it is malformed. */
export function openPayload(payload: string): Payload | undefined {
  let json: unknown;
  try {
    // Byte by byte: every server encoding is ASCII below 128, so JSON's own characters are safe.
    json = JSON.parse(Buffer.from(payload, 'base64').toString('latin1'), refuseOtherThanBytes);
  } catch {
    return undefined;
  }
  if (typeof json !== 'object' || json === null) return undefined;
  const { verb, arguments: args } = json as Record<string, unknown>;
  if (typeof verb !== 'string' || typeof args !== 'object' || args === null) return undefined;
  return { verb, arguments: args as Arguments };
}

/**
 * Whoever signs by hand may write characters that are no bytes, as escapes: cut to a byte on their way
 * to the server, they would become quotes that nobody has looked for.
 */
function refuseOtherThanBytes(name: string, value: unknown): unknown {
  if (!isBytes(name) || (typeof value === 'string' && !isBytes(value))) throw new SyntaxError();
  return value;
}

function isBytes(text: string): boolean {
  return !/[^\x01-\xff]/.test(text);
}

/** The place of a verb's letter among the privileges; -1 for what is no function of the API. */
export function privilegeIndex(verb: string): number {
  return apiFunctions.findIndex(([name]) => name === verb);
}

export function isVerb(verb: string): verb is Verb {
  return privilegeIndex(verb) >= 0;
}

function parseContext(text: string): SignedContext | undefined {
  const parts = text.split(',');
  const [version, kind, keyId = '', pid, number, role = '', roleOid, privileges = '', token = ''] =
    parts;
  if (parts.length !== 9 || version !== 'v1' || (kind !== 'free' && kind !== 'bound'))
    return undefined;
  return {
    text,
    kind,
    keyId,
    pid: Number(pid),
    number: Number(number),
    role: Buffer.from(role, 'hex').toString('latin1'),
    roleOid: Number(roleOid),
    privileges,
    token,
  };
}

/** How many bytes of a reply one packet carries in an application_name of 63 bytes. */
export const NARROW_BYTES = 30 - 8 - 1;

/** How many fit into a query text of this many bytes. */
export function wideBytes(querySize: number): number {
  const base64Length = querySize - 1 - '--pgbg:'.length - 16 - ':'.length;
  return Math.floor(base64Length / 4) * 3 - 8 - 1;
}

/**
 * Seals one packet: a tag of 8 bytes, then a byte that says whether more follow and the piece, both
 * masked. Mask and tag come from the seed, which only the asking function and we know.
 * @param packet counts from 1 within a request, so that no packet can be played again
 */
export function sealPacket(
  nonce: string,
  seed: Buffer,
  packet: number,
  more: boolean,
  piece: Buffer,
): string {
  const salt = Buffer.concat([seed, int32(packet)]);
  const open = Buffer.concat([Buffer.from([more ? 1 : 0]), piece]);
  const sealed = Buffer.alloc(8 + open.length);
  digest(salt, int32(-1), open).copy(sealed, 0, 0, 8);
  for (let block = 0; block * 32 < open.length; block++) {
    const mask = digest(salt, int32(block));
    for (let i = block * 32; i < Math.min(open.length, block * 32 + 32); i++) {
      sealed[8 + i] = (open[i] as number) ^ (mask[i - block * 32] as number);
    }
  }
  return `pgbg:${nonce}:${sealed.toString('base64')}`;
}

function digest(...parts: readonly Buffer[]): Buffer {
  return hash('sha256', Buffer.concat(parts), 'buffer');
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}
