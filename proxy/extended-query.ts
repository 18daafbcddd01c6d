import { MessageType, type ColumnType } from '../src/index.ts';
import { StatementText } from './statement-text.ts';

/** Longer ones go through the function: they are nearly always long because of constants in them. */
const MAX_TEXT_LENGTH = 1024;
const MAX_STATEMENTS = 64;
/** The server cuts longer ones. */
const MAX_NAME_LENGTH = 63;
const MENTIONS_RESULT = /pg_background_result/i;

/** unknown, int2, int4, int8, text, varchar, or for the server to find out: to pass one calls nobody's function. */
const PARAMETER_TYPES = new Set([0, 705, 21, 23, 20, 25, 1043]);

const STATEMENT = 'S'.charCodeAt(0);
const HEADER_BYTES = 5;

/** Whether a message of the extended protocol says more than its type does. */
export function mustBeSeen(type: number): boolean {
  return (
    type === MessageType.parse ||
    type === MessageType.bind ||
    type === MessageType.describe ||
    type === MessageType.execute ||
    type === MessageType.close
  );
}

/** A prepared statement that may be nothing but a result. */
export class PreparedStatement extends StatementText {
  /** Its columns, once the server has described them. */
  columns: readonly ColumnType[] | undefined;
}

/** What the client has sent since all was answered: one statement's own messages, each once, and in their order. */
interface Course {
  statement: PreparedStatement | undefined;
  /** The name of a statement that it begins with, and that the server may refuse. */
  parsed: string | undefined;
  isBound: boolean;
  isExecuted: boolean;
  /** Whether the server has bound it: functions that were called before are not the statement's. */
  hasBegun: boolean;
}

/**
 * Follows the extended protocol far enough to know when the server runs one prepared statement, in the unnamed
 * portal, to its end and with all columns as text, and nothing else was asked for. Whether the statement of
 * that name has the text that was sent for it is for the caller to make sure: SQL can make and drop them too.
 * Messages are looked at where they lie.
 * @see https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
 */
export class ExtendedQuery {
  readonly #statements = new Map<string, PreparedStatement>();
  #course: Course | undefined;

  /** Whether there are statements to follow: else a Parse that mentions us is all that has to be seen. */
  get isFollowing(): boolean {
    return this.#statements.size > 0;
  }

  /** The statement that the messages since all was answered are about. */
  get current(): PreparedStatement | undefined {
    return this.#course?.statement;
  }

  /** The statement that runs, if it runs as described above. */
  get running(): PreparedStatement | undefined {
    const course = this.#course;
    return course?.isExecuted === true && course.hasBegun ? course.statement : undefined;
  }

  /**
   * The client has sent one of the messages that mustBeSeen() names, which lies in `bytes`.
   * @param allAnswered whether everything was answered that was asked before
   * @param text what textThatMentions() gave for a Parse
   */
  sent(
    type: number,
    bytes: Buffer,
    from: number,
    to: number,
    allAnswered: boolean,
    text?: string,
  ): void {
    if (allAnswered) {
      this.#course = {
        statement: undefined,
        parsed: undefined,
        isBound: false,
        isExecuted: false,
        hasBegun: false,
      };
    }
    const course = this.#course;
    const fits =
      type === MessageType.parse
        ? this.#parse(new Fields(bytes, from, to), allAnswered ? course : undefined, text)
        : type === MessageType.close
          ? this.#close(new Fields(bytes, from, to))
          : course !== undefined &&
            !course.isExecuted &&
            this.#follow(course, type, new Fields(bytes, from, to));
    if (!fits) this.#course = undefined;
  }

  /** The client has sent a message that was not looked at. */
  unseen(type: number): void {
    if (type === MessageType.sync || type === MessageType.flush) return;
    // It may have been about any statement.
    if (type === MessageType.parse || type === MessageType.close) this.#statements.clear();
    this.#course = undefined;
  }

  /** RowDescription. */
  described(columns: readonly ColumnType[]): void {
    if (this.current !== undefined) this.current.columns = columns;
  }

  /** BindComplete. */
  bound(): void {
    if (this.#course !== undefined) this.#course.hasBegun = true;
  }

  /** ErrorResponse: what was parsed may be no statement. */
  failed(): void {
    const course = this.#course;
    if (course?.parsed !== undefined && !course.hasBegun) this.#statements.delete(course.parsed);
    this.#course = undefined;
  }

  /** ReadyForQuery. */
  ended(): void {
    this.#course = undefined;
  }

  /** Body: statement, text, a count, as many int32 types. */
  #parse(fields: Fields, course: Course | undefined, mention: string | undefined): boolean {
    const name = fields.text();
    this.#statements.delete(name);
    if (course === undefined || mention === undefined || !MENTIONS_RESULT.test(mention))
      return false;
    const text = fields.text();
    const types = fields.list(() => fields.int32());
    if (!fields.areRight || text.length > MAX_TEXT_LENGTH) return false;
    if (name.length > MAX_NAME_LENGTH) return false;
    if (!types.every((type) => PARAMETER_TYPES.has(type))) return false;
    // SQL drops them unseen: the oldest goes. To have forgotten one does no harm.
    const [oldest] = this.#statements.keys();
    if (this.#statements.size >= MAX_STATEMENTS && oldest !== undefined)
      this.#statements.delete(oldest);
    course.statement = new PreparedStatement(text);
    course.parsed = name;
    this.#statements.set(name, course.statement);
    return true;
  }

  /** Body: S and a statement, or P and a portal. */
  #close(fields: Fields): false {
    if (fields.byte() === STATEMENT) this.#statements.delete(fields.text());
    return false;
  }

  #follow(course: Course, type: number, fields: Fields): boolean {
    switch (type) {
      case MessageType.describe:
        if (fields.byte() === STATEMENT) return this.#isAbout(course, fields.text());
        return course.isBound && fields.text() === '';
      case MessageType.bind: {
        if (course.isBound || fields.text() !== '') return false;
        course.isBound = this.#isAbout(course, fields.text()) && asksForText(fields);
        return course.isBound;
      }
      case MessageType.execute:
        // Of the unnamed portal, all rows.
        course.isExecuted = course.isBound && fields.text() === '' && fields.int32() === 0;
        return course.isExecuted && fields.areRight;
      default:
        return false;
    }
  }

  #isAbout(course: Course, name: string): boolean {
    const statement = this.#statements.get(name);
    if (statement === undefined || (course.statement ?? statement) !== statement) return false;
    course.statement = statement;
    return true;
  }
}

/** Reads a Bind from the formats of its parameters on; the last list has those of the columns. */
function asksForText(fields: Fields): boolean {
  fields.list(() => fields.uint16());
  fields.list(() => fields.skip(fields.int32()));
  return fields.list(() => fields.uint16()).every((format) => format === 0) && fields.areRight;
}

/** The fields of a message's body, one after the other. Behind one that is not there they are empty. */
class Fields {
  readonly #bytes: Buffer;
  readonly #end: number;
  #at: number;
  areRight = true;

  constructor(bytes: Buffer, from: number, to: number) {
    this.#bytes = bytes;
    this.#at = from + HEADER_BYTES;
    this.#end = to;
  }

  byte(): number {
    return this.#has(1) ? (this.#bytes[this.#at++] as number) : 0;
  }

  uint16(): number {
    if (!this.#has(2)) return 0;
    this.#at += 2;
    return this.#bytes.readUInt16BE(this.#at - 2);
  }

  int32(): number {
    if (!this.#has(4)) return 0;
    this.#at += 4;
    return this.#bytes.readInt32BE(this.#at - 4);
  }

  /** A text that ends with a zero byte; a byte for a character. */
  text(): string {
    const end = this.#bytes.indexOf(0, this.#at);
    if (end < 0 || !this.#has(end + 1 - this.#at)) {
      this.areRight = false;
      return '';
    }
    const text = this.#bytes.toString('latin1', this.#at, end);
    this.#at = end + 1;
    return text;
  }

  /** A parameter's value of so many bytes; -1 for NULL. */
  skip(length: number): void {
    if (length > 0 && this.#has(length)) this.#at += length;
  }

  /** A count, and as many of these. */
  list<T>(item: () => T): T[] {
    const items: T[] = [];
    for (let left = this.uint16(); left > 0 && this.areRight; left--) items.push(item());
    return items;
  }

  #has(bytes: number): boolean {
    if (this.#at + bytes > this.#end) this.areRight = false;
    return this.areRight;
  }
}
