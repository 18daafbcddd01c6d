/**
 * Frontend messages, by the manual's tables, with nothing of the code under test. Texts are one
 * character a byte.
 * @see https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
import { bytes, int16, int32, message, zeroTerminated } from '../support/messages.ts';

export { parse, query } from '../support/messages.ts';

/** A parameter's value: text, bytes in binary format, or NULL. */
export type Value = string | Buffer | null;

export interface Bind {
  readonly portal?: string;
  readonly statement?: string;
  readonly values?: readonly Value[];
  /** One format for all columns of the result, or one for each; text without any. */
  readonly results?: readonly (0 | 1)[];
}

export function bind({ portal = '', statement = '', values = [], results = [] }: Bind = {}) {
  return message(
    'B',
    zeroTerminated(portal),
    zeroTerminated(statement),
    int16(values.length),
    ...values.map((value) => int16(Buffer.isBuffer(value) ? 1 : 0)),
    int16(values.length),
    ...values.map(valueOf),
    int16(results.length),
    ...results.map(int16),
  );
}

function valueOf(value: Value): Buffer {
  if (value === null) return int32(-1);
  const content = Buffer.isBuffer(value) ? value : bytes(value);
  return Buffer.concat([int32(content.length), content]);
}

export function describeStatement(name = ''): Buffer {
  return message('D', bytes('S'), zeroTerminated(name));
}

export function describePortal(name = ''): Buffer {
  return message('D', bytes('P'), zeroTerminated(name));
}

export function closeStatement(name = ''): Buffer {
  return message('C', bytes('S'), zeroTerminated(name));
}

export function closePortal(name = ''): Buffer {
  return message('C', bytes('P'), zeroTerminated(name));
}

/** @param maxRows 0 for all */
export function execute(maxRows = 0, portal = ''): Buffer {
  return message('E', zeroTerminated(portal), int32(maxRows));
}

export const sync = message('S');
export const flush = message('H');
export const copyDone = message('c');
export const terminate = message('X');

export function copyData(text: string | Buffer): Buffer {
  return message('d', Buffer.isBuffer(text) ? text : bytes(text));
}

export function copyFail(reason: string): Buffer {
  return message('f', zeroTerminated(reason));
}

export function functionCall(oid: number, values: readonly Value[], resultFormat: 0 | 1): Buffer {
  return message(
    'F',
    int32(oid),
    int16(values.length),
    ...values.map((value) => int16(Buffer.isBuffer(value) ? 1 : 0)),
    int16(values.length),
    ...values.map(valueOf),
    int16(resultFormat),
  );
}

/** A message with a length of one's own choice, which may be no length at all. */
export function withLength(type: string, length: number, body = ''): Buffer {
  return Buffer.concat([bytes(type), int32(length), bytes(body)]);
}
