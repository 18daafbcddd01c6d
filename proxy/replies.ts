import {
  BackgroundError,
  encodeReport,
  MessageType,
  reportFieldsOf,
  type Logger,
} from '../src/index.ts';

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

/** Logs why a session has ended: what peers did wrong is theirs to know, what we did wrong is ours. */
export function logEnd(error: unknown, logger: Logger, address?: string, user?: string): void {
  if (!(error instanceof BackgroundError))
    return logger.error({ err: error, address }, 'session failed');
  const { code, hint } = error;
  // Whoever tries to get in is worth a line.
  const level = code.startsWith('28') ? 'warn' : 'info';
  logger[level]({ code, hint, address, user }, `session ended: ${error.message}`);
}
