import { pino } from 'pino';
import { BackgroundError, type Logger } from '../src/index.ts';

/**
 * The log, one line of JSON for each event, on stderr. Of an error it has what it is and where it came
 * from, and not what else hangs on it: an error of the server can carry rows and SQL.
 */
export function openLog(level: string): Logger {
  const err = (error: Error) => ({
    type: error.name,
    code: error instanceof BackgroundError ? error.code : (error as NodeJS.ErrnoException).code,
    message: error.message,
    stack: error.stack,
  });
  return pino({ level, base: { pid: process.pid }, serializers: { err } }, pino.destination(2));
}
