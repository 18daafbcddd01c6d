/** Text as the bytes of the database's encoding, one character a byte (latin1): it travels unharmed. */
export type DatabaseText = string;

/** The fields of an error or notice, by the names that pg-protocol and PL/pgSQL share. */
export interface ReportFields {
  readonly severity: DatabaseText;
  readonly code: string;
  readonly message: DatabaseText;
  readonly detail?: DatabaseText | undefined;
  readonly hint?: DatabaseText | undefined;
  readonly position?: string | undefined;
  readonly internalPosition?: string | undefined;
  readonly internalQuery?: DatabaseText | undefined;
  readonly where?: DatabaseText | undefined;
  readonly schema?: DatabaseText | undefined;
  readonly table?: DatabaseText | undefined;
  readonly column?: DatabaseText | undefined;
  readonly dataType?: DatabaseText | undefined;
  readonly constraint?: DatabaseText | undefined;
  readonly file?: DatabaseText | undefined;
  readonly line?: string | undefined;
  readonly routine?: DatabaseText | undefined;
}

/**
 * What the engine refuses, as the user sees it: an SQLSTATE, a message in PostgreSQL's style, and
 * what else helps.
 * @see https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
export class BackgroundError extends Error {
  readonly code: string;
  readonly detail: string | undefined;
  readonly hint: string | undefined;

  constructor(
    code: string,
    message: string,
    more: { detail?: string; hint?: string; cause?: unknown } = {},
  ) {
    super(message, { cause: more.cause });
    this.name = 'BackgroundError';
    this.code = code;
    this.detail = more.detail;
    this.hint = more.hint;
  }
}

/** An ErrorResponse that the server sent on one of the engine's own connections. */
export class ServerError extends Error {
  readonly fields: ReportFields;

  constructor(fields: ReportFields) {
    super(fields.message);
    this.name = 'ServerError';
    this.fields = fields;
  }
}

/** A name leads to another role than the one that a session, or a function, has by it. */
export class RoleRenamed extends BackgroundError {
  constructor() {
    super('42501', 'the name of the role is that of another role now', { hint: 'Connect again.' });
  }
}

/** The server, or somebody who poses as it, broke the protocol. */
export class ProtocolError extends BackgroundError {
  constructor(message: string) {
    super('08P01', message);
    this.name = 'ProtocolError';
  }
}

/** Any error as the fields of a report. An error that is not ours says XX000 and no more. */
export function reportFieldsOf(error: unknown): ReportFields {
  if (error instanceof ServerError) return error.fields;
  if (error instanceof BackgroundError) {
    return {
      severity: 'ERROR',
      code: error.code,
      message: toDatabaseText(error.message),
      detail: error.detail === undefined ? undefined : toDatabaseText(error.detail),
      hint: error.hint === undefined ? undefined : toDatabaseText(error.hint),
    };
  }
  return { severity: 'ERROR', code: 'XX000', message: 'internal error of pg-background-proxy' };
}

/** A JavaScript string as UTF-8 bytes in a string. Our own texts are ASCII, for which all encodings agree. */
export function toDatabaseText(text: string): DatabaseText {
  return Buffer.from(text, 'utf8').toString('latin1');
}

/** The fields that PL/pgSQL's RAISE can set; the others are added to the message on its way. */
export function raisableFields(fields: ReportFields): ReportFields {
  const { severity, code, message, detail, hint, schema, table, column, dataType, constraint } =
    fields;
  return { severity, code, message, detail, hint, schema, table, column, dataType, constraint };
}
