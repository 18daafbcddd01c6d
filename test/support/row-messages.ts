import type { RawMessage } from './wire.ts';

/** A column as RowDescription tells it. */
export interface SeenColumn {
  readonly name: string;
  readonly type: number;
}

/** The columns of the first RowDescription among the messages. */
export function columnsOf(messages: readonly RawMessage[]): SeenColumn[] {
  const { body } = first(messages, 'T');
  const columns: SeenColumn[] = [];
  let at = 2;
  for (let i = 0; i < body.readInt16BE(0); i++) {
    const end = body.indexOf(0, at);
    // Behind the name: table (4 bytes), column (2), type (4), size (2), modifier (4), format (2).
    columns.push({ name: body.toString('utf8', at, end), type: body.readUInt32BE(end + 7) });
    at = end + 19;
  }
  return columns;
}

/** The values of the first DataRow among the messages, as text. */
export function valuesOf(messages: readonly RawMessage[]): (string | null)[] {
  const { body } = first(messages, 'D');
  const values: (string | null)[] = [];
  let at = 2;
  for (let i = 0; i < body.readInt16BE(0); i++) {
    const length = body.readInt32BE(at);
    at += 4;
    values.push(length < 0 ? null : body.toString('utf8', at, at + length));
    at += Math.max(length, 0);
  }
  return values;
}

function first(messages: readonly RawMessage[], type: string): RawMessage {
  const found = messages.find((message) => message.type === type);
  if (found === undefined) throw new Error(`no message ${type} has come`);
  return found;
}
