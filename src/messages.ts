import type { ReportFields } from './errors.ts';

/** Message types, by the names of the manual. B: from the server, F: from the client. */
export const MessageType = {
  authentication: 0x52, // R
  backendKeyData: 0x4b, // K
  bindComplete: 0x32, // 2
  closeComplete: 0x33, // 3
  commandComplete: 0x43, // C
  copyInResponse: 0x47, // G
  copyOutResponse: 0x48, // H
  copyBothResponse: 0x57, // W
  dataRow: 0x44, // D
  emptyQueryResponse: 0x49, // I
  errorResponse: 0x45, // E
  negotiateProtocolVersion: 0x76, // v
  noData: 0x6e, // n
  noticeResponse: 0x4e, // N
  notificationResponse: 0x41, // A
  parameterStatus: 0x53, // S
  parseComplete: 0x31, // 1
  portalSuspended: 0x73, // s
  readyForQuery: 0x5a, // Z
  rowDescription: 0x54, // T
  query: 0x51, // Q (F)
  parse: 0x50, // P (F)
  bind: 0x42, // B (F)
  describe: 0x44, // D (F)
  close: 0x43, // C (F)
  flush: 0x48, // H (F)
  sync: 0x53, // S (F)
  functionCall: 0x46, // F (F)
  functionCallResponse: 0x56, // V (B)
  execute: 0x45, // E (F)
  copyDone: 0x63, // c
  copyFail: 0x66, // f (F)
} as const;

/** One column of a RowDescription: what it is, not what it is called. */
export interface ColumnType {
  readonly oid: number;
  readonly typmod: number;
  readonly isBinary: boolean;
}

const fieldNames: Readonly<Record<string, keyof ReportFields>> = {
  V: 'severity',
  C: 'code',
  M: 'message',
  D: 'detail',
  H: 'hint',
  P: 'position',
  p: 'internalPosition',
  q: 'internalQuery',
  W: 'where',
  s: 'schema',
  t: 'table',
  c: 'column',
  d: 'dataType',
  n: 'constraint',
  F: 'file',
  L: 'line',
  R: 'routine',
};

/**
 * Decodes an ErrorResponse or NoticeResponse: fields of a type byte and a zero-terminated text, then
 * a zero byte. Every field may be missing, the SQLSTATE too.
 * @see https://www.postgresql.org/docs/current/protocol-error-fields.html
 */
export function decodeReport(frame: Buffer): ReportFields {
  const found: Partial<Record<keyof ReportFields, string>> = {};
  for (const [letter, text] of reportFields(frame)) {
    const name = fieldNames[letter];
    if (name !== undefined && text !== '') found[name] = text;
  }
  return { severity: 'ERROR', code: 'XX000', message: '', ...found };
}

/** Encodes what decodeReport has given. Its severity stands for the translated one, too. */
export function encodeReportFields(type: number, fields: ReportFields): Buffer {
  const named = Object.entries(fieldNames).flatMap(([letter, name]) => {
    const text = fields[name];
    return text === undefined ? [] : [[letter, text] as const];
  });
  return encodeReport(type, [['S', fields.severity], ...named]);
}

/** The raw fields of an ErrorResponse or NoticeResponse, in their order. */
export function* reportFields(frame: Buffer): Generator<readonly [letter: string, text: string]> {
  let at = 5;
  while (at < frame.length && frame[at] !== 0) {
    const end = frame.indexOf(0, at + 1);
    if (end < 0) return;
    yield [String.fromCharCode(frame[at] as number), frame.toString('latin1', at + 1, end)];
    at = end + 1;
  }
}

/** Encodes an ErrorResponse or NoticeResponse from raw fields. */
export function encodeReport(type: number, fields: Iterable<readonly [string, string]>): Buffer {
  let body = '';
  for (const [letter, text] of fields) body += `${letter}${text}\0`;
  return frameOf(type, Buffer.from(`${body}\0`, 'latin1'));
}

/** A message of this type with this body. */
export function frameOf(type: number, body: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(5 + body.length);
  frame[0] = type;
  frame.writeInt32BE(4 + body.length, 1);
  body.copy(frame, 5);
  return frame;
}

/** Decodes the types of a RowDescription: int16 count, then name, int32, int16, int32 type, int16, int32 typmod, int16. */
export function decodeRowDescription(frame: Buffer): ColumnType[] {
  const columns: ColumnType[] = [];
  let at = 7;
  for (let left = frame.readInt16BE(5); left > 0; left--) {
    at = frame.indexOf(0, at) + 1;
    columns.push({
      oid: frame.readUInt32BE(at + 6),
      typmod: frame.readInt32BE(at + 12),
      isBinary: frame.readInt16BE(at + 16) === 1,
    });
    at += 18;
  }
  return columns;
}

/** The tag of a CommandComplete. */
export function decodeCommandTag(frame: Buffer): string {
  return frame.toString('latin1', 5, frame.length - 1);
}

/** The name and value of a ParameterStatus, each with a zero byte behind it. */
export function decodeParameterStatus(frame: Buffer): { name: string; value: string } {
  const [name = '', value = ''] = frame.toString('latin1', 5, frame.length - 1).split('\0');
  return { name, value };
}

/** The value in a FunctionCallResponse, as text. */
export function decodeFunctionResult(frame: Buffer): string | null {
  const length = frame.readInt32BE(5);
  return length < 0 ? null : frame.toString('latin1', 9, 9 + length);
}

/** Decodes a DataRow in text format: int16 count, then for each value int32 length (-1 for NULL) and bytes. */
export function decodeTextRow(frame: Buffer): (string | null)[] {
  const values: (string | null)[] = [];
  let at = 7;
  for (let left = frame.readInt16BE(5); left > 0; left--) {
    const length = frame.readInt32BE(at);
    at += 4;
    if (length < 0) {
      values.push(null);
    } else {
      values.push(frame.toString('latin1', at, at + length));
      at += length;
    }
  }
  return values;
}
