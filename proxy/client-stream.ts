import {
  encodeReportFields,
  EndableWaits,
  MessageType,
  type ColumnType,
  type ReportFields,
  type RowSink,
  type StreamableResult,
} from '../src/index.ts';

/** How rows get to the client, and between what. */
export interface ClientLink {
  /** @returns false when the client reads slowly */
  toClient(bytes: Buffer): boolean;
  /** Settles when the client has read what it was sent, or is gone. */
  clientDrained(): Promise<void>;
}

/** Types whose text is the same under all settings: numbers, texts, JSON and such, and arrays of them. */
const PLAIN_TYPES = new Set([
  16, 18, 19, 20, 21, 23, 25, 26, 27, 28, 29, 114, 142, 650, 774, 829, 869, 1042, 1043, 1083, 1266,
  1560, 1562, 1700, 2950, 3220, 3802, 5069, 199, 1000, 1005, 1007, 1009, 1014, 1015, 1016, 1231,
  2951, 3807,
]);

/** Types whose text depends on DateStyle, IntervalStyle or TimeZone: all of them are reported. */
const DATED_TYPES = new Set([1082, 1114, 1184, 1186, 1182, 1115, 1185, 1187]);
const DATE_SETTINGS = ['DateStyle', 'IntervalStyle', 'TimeZone'];

/** Types whose text depends on extra_float_digits. */
const FLOAT_TYPES = new Set([700, 701, 1021, 1022]);

/**
 * Whether a client is to be sent the very bytes that a worker was sent: same types and modifiers as its
 * statement declares, all as text, under settings that do the same to it.
 */
export function isSameForClient(
  { columns, formats, mayChangeFormats, hasAllDigits }: StreamableResult,
  declared: readonly ColumnType[],
  parameters: ReadonlyMap<string, string>,
): boolean {
  const hasSameDates =
    !mayChangeFormats && DATE_SETTINGS.every((name) => formats.get(name) === parameters.get(name));
  return (
    columns.length === declared.length &&
    columns.every(({ oid, typmod, isBinary }, at) => {
      const other = declared[at];
      if (oid !== other?.oid || typmod !== other.typmod || isBinary || other.isBinary) return false;
      if (FLOAT_TYPES.has(oid)) return hasAllDigits;
      return PLAIN_TYPES.has(oid) || (DATED_TYPES.has(oid) && hasSameDates);
    })
  );
}

/** Rows of a worker in the client's stream, between the RowDescription and the end of the statement that reads them. */
export class ClientStream implements RowSink {
  readonly #link: ClientLink;
  #isStopped = false;
  readonly #waits = new EndableWaits();
  /** How many rows there were in all, once that is known. */
  rowCount: number | undefined;

  constructor(link: ClientLink) {
    this.#link = link;
  }

  rows(frames: Buffer): Promise<void> | undefined {
    if (this.#isStopped || this.#link.toClient(frames)) return undefined;
    // Behind an error nothing more is sent: the worker need not wait for whoever does not read it.
    return this.#waits.until(this.#link.clientDrained());
  }

  notice(fields: ReportFields, pid: number): void {
    if (this.#isStopped) return;
    const context = [
      ...(fields.where === undefined ? [] : [fields.where]),
      `background worker, pid ${pid}`,
    ];
    this.#link.toClient(
      encodeReportFields(MessageType.noticeResponse, { ...fields, where: context.join('\n') }),
    );
  }

  end(rowCount: number): void {
    this.rowCount = rowCount;
  }

  /** The server has ended the statement with an error: nothing may come behind that. */
  stop(): void {
    this.#isStopped = true;
    this.#waits.end();
  }
}
