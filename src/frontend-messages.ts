/*
 * Messages that the engine sends as a client of the server; pg-protocol writes the others.
 */
import { serialize } from 'pg-protocol';
import { frameOf, MessageType } from './messages.ts';

/** Protocol 3.0. */
const PROTOCOL_VERSION = 3 << 16;

const CANCEL_REQUEST_CODE = 80877102;

/** The message that begins a session: int32 length, int32 version, then names and values, each with a zero byte. */
export function startupMessage(parameters: Readonly<Record<string, string>>): Buffer {
  const pairs = Object.entries(parameters).map(([name, value]) => `${name}\0${value}\0`);
  const body = Buffer.from(`${pairs.join('')}\0`, 'utf8');
  const head = Buffer.alloc(8);
  head.writeInt32BE(8 + body.length, 0);
  head.writeInt32BE(PROTOCOL_VERSION, 4);
  return Buffer.concat([head, body]);
}

/** A function of one argument, by its oid, and the argument as text. */
export type FunctionCall = readonly [oid: number, argument: string];

/** SQL by the simple protocol; a string is a byte for a character. */
export function queryMessage(sql: string | Buffer): Buffer {
  const text = typeof sql === 'string' ? Buffer.from(sql, 'latin1') : sql;
  const message = Buffer.allocUnsafe(text.length + 6);
  message[0] = MessageType.query;
  message.writeInt32BE(text.length + 5, 1);
  text.copy(message, 5);
  message[message.length - 1] = 0;
  return message;
}

/** @see https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-FUNCTIONCALL */
export function functionCallMessage([oid, argument]: FunctionCall): Buffer {
  const text = Buffer.from(argument, 'latin1');
  // No format codes, so all of it is text, and one argument.
  const body = Buffer.alloc(14 + text.length);
  body.writeInt32BE(oid, 0);
  body.writeInt16BE(1, 6);
  body.writeInt32BE(text.length, 8);
  text.copy(body, 12);
  return frameOf(MessageType.functionCall, body);
}

/** Binds a prepared statement, and executes it. A Buffer is sent in binary format. */
export function executeMessages(name: string, values: (string | Buffer | null)[]): Buffer[] {
  return [
    serialize.bind({ portal: '', statement: name, values }),
    serialize.execute({ portal: '', rows: 0 }),
  ];
}

/** Parse of an unnamed statement without parameters, and nothing that runs it. */
export function parseOnlyMessages(sql: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from([0]), sql, Buffer.from([0, 0, 0])]);
  return Buffer.concat([frameOf(MessageType.parse, body), serialize.sync()]);
}

/** @see https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-CANCELREQUEST */
export function cancelRequest(pid: number, secret: Buffer): Buffer {
  const request = Buffer.alloc(12 + secret.length);
  request.writeInt32BE(request.length, 0);
  request.writeInt32BE(CANCEL_REQUEST_CODE, 4);
  request.writeInt32BE(pid, 8);
  secret.copy(request, 12);
  return request;
}
