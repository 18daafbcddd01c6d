import { encodeReport, MessageType, reportFieldsOf } from '../src/index.ts';

/** An error as the last message to a client. */
export function fatalResponse(error: unknown): Buffer {
  return errorResponse('FATAL', error);
}

/** An error as the server would send it. */
export function errorResponse(severity: 'ERROR' | 'FATAL', error: unknown): Buffer {
  const { code, message, detail, hint } = reportFieldsOf(error);
  const fields: (readonly [string, string | undefined])[] = [
    ['S', severity],
    ['V', severity],
    ['C', code],
    ['M', message],
    ['D', detail],
    ['H', hint],
  ];
  return encodeReport(
    MessageType.errorResponse,
    fields.filter((field): field is [string, string] => field[1] !== undefined),
  );
}
