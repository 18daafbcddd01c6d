/**
 * Protocol messages written out by the manual's tables, with nothing of the code under test. Texts
 * are one character a byte (latin1).
 * @see https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
export function message(type: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([bytes(type), int32(4 + body.length), body]);
}

export function bytes(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** Text with its terminating zero. */
export function zeroTerminated(text: string): Buffer {
  return bytes(`${text}\0`);
}

export function int16(value: number): Buffer {
  return Buffer.from([(value >> 8) & 0xff, value & 0xff]);
}

export function int32(value: number): Buffer {
  return Buffer.from([
    (value >>> 24) & 0xff,
    (value >>> 16) & 0xff,
    (value >>> 8) & 0xff,
    value & 0xff,
  ]);
}

/** ErrorResponse (E) or NoticeResponse (N): each field is its letter and its text. */
export function report(type: 'E' | 'N', ...fields: readonly string[]): Buffer {
  return message(type, ...fields.map(zeroTerminated), Buffer.of(0));
}

/** An AuthenticationXXX message. */
export function authentication(kind: number, data: Buffer | string = ''): Buffer {
  return message('R', int32(kind), Buffer.from(data));
}

export function dataRow(...values: readonly (string | null)[]): Buffer {
  return message(
    'D',
    int16(values.length),
    ...values.flatMap((value) =>
      value === null ? [int32(-1)] : [int32(value.length), bytes(value)],
    ),
  );
}

export function commandComplete(tag: string): Buffer {
  return message('C', zeroTerminated(tag));
}

export function readyForQuery(): Buffer {
  return message('Z', bytes('I'));
}

export function parameterStatus(name: string, value: string): Buffer {
  return message('S', zeroTerminated(name), zeroTerminated(value));
}

export function query(sql: string): Buffer {
  return message('Q', zeroTerminated(sql));
}

export function parse(name: string, sql: string, ...typeOids: readonly number[]): Buffer {
  return message(
    'P',
    zeroTerminated(name),
    zeroTerminated(sql),
    int16(typeOids.length),
    ...typeOids.map(int32),
  );
}

/** A packet from before the first typed message: length, code, the rest. */
export function firstPacket(code: number, body: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([int32(8 + body.length), int32(code), body]);
}

/** The parameters of a StartupMessage: names and values, and the last zero. */
export function startupParameters(...texts: readonly string[]): Buffer {
  return Buffer.concat([...texts.map(zeroTerminated), Buffer.of(0)]);
}
