/** The part of pino that the engine writes to. SQL, secrets and cookies are never given to it. */
export interface Logger {
  debug(details: object, message: string): void;
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}
