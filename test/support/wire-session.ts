import { serialize } from 'pg-protocol';
import { readBinary } from './binary-value.ts';
import { RawClient, fieldsOf, type RawMessage } from './wire.ts';

/** A row as text; null is SQL's NULL. */
export type TextRow = readonly (string | null)[];

/** An ErrorResponse. */
export class ServerError extends Error {
  readonly code: string;
  readonly detail: string | undefined;
  readonly hint: string | undefined;

  constructor(message: RawMessage) {
    const fields = fieldsOf(message);
    super(fields['M'] ?? '');
    this.code = fields['C'] ?? '';
    this.detail = fields['D'];
    this.hint = fields['H'];
  }
}

/** A statement of the extended protocol. */
export interface ExtendedStatement {
  readonly sql: string;
  /** OIDs of the parameters. */
  readonly types?: readonly number[];
  /** A Buffer is a value in binary format. */
  readonly values?: readonly (string | Buffer)[];
  /** Whether the rows come in binary format. */
  readonly binary?: boolean;
}

export interface SessionOptions {
  readonly port: number;
  readonly database: string;
  readonly user?: string;
  /** How texts are written in bytes; the session's client_encoding. */
  readonly encoding?: 'UTF8' | 'LATIN1' | 'SQL_ASCII';
}

/** A session of which a test decides each message; everything it gives is text. */
export class WireSession {
  readonly backendPid: number;
  readonly #client: RawClient;
  readonly #charset: 'utf8' | 'latin1';

  private constructor(client: RawClient, charset: 'utf8' | 'latin1') {
    this.#client = client;
    this.#charset = charset;
    const keyData = client.messages.find(({ type }) => type === 'K');
    this.backendPid = keyData?.body.readInt32BE(0) ?? 0;
  }

  static async connect({
    port,
    database,
    user = 'postgres',
    encoding = 'UTF8',
  }: SessionOptions): Promise<WireSession> {
    const client = await RawClient.login(port, { user, database });
    const session = new WireSession(client, encoding === 'UTF8' ? 'utf8' : 'latin1');
    // Not at the start: pg-protocol asks for UTF8 there, whatever it is given.
    if (encoding !== 'UTF8') await session.rows(`SET client_encoding = ${encoding}`);
    return session;
  }

  /** The rows of each statement in a simple query. @throws ServerError */
  async resultSets(sql: string): Promise<TextRow[][]> {
    const text = Buffer.from(`${sql}\0`, this.#charset);
    const head = Buffer.alloc(5);
    head.write('Q');
    head.writeInt32BE(4 + text.length, 1);
    this.#client.socket.write(Buffer.concat([head, text]));
    return this.#resultSets(await this.#client.until('Z'));
  }

  /** The rows of one statement in a simple query. @throws ServerError */
  async rows(sql: string): Promise<TextRow[]> {
    return (await this.resultSets(sql)).at(-1) ?? [];
  }

  /** The error of a simple query that must fail. */
  async error(sql: string): Promise<ServerError> {
    try {
      await this.resultSets(sql);
    } catch (error) {
      if (error instanceof ServerError) return error;
      throw error;
    }
    throw new Error(`no error from: ${sql}`);
  }

  /** Runs statements before one Sync, each with Parse, Bind, Describe and Execute. @throws ServerError */
  async pipeline(statements: readonly ExtendedStatement[]): Promise<TextRow[][]> {
    for (const statement of statements) this.#parse(statement).#bind(statement);
    return this.#sync();
  }

  /** Makes a named prepared statement. @throws ServerError */
  async prepare(name: string, statement: ExtendedStatement): Promise<void> {
    this.#parse(statement, name);
    await this.#sync();
  }

  /** Runs a named prepared statement. @throws ServerError */
  async execute(name: string, values: ExtendedStatement['values'] = []): Promise<TextRow[]> {
    this.#bind({ sql: '', values }, name);
    return (await this.#sync())[0] ?? [];
  }

  /** Copies data in as libpq does it in the extended protocol: with a Sync before it, and one behind. */
  async copyIn(sql: string, data: string): Promise<void> {
    this.#parse({ sql }).#bind({ sql });
    const { socket } = this.#client;
    socket.write(serialize.sync());
    await this.#client.until('G');
    socket.write(serialize.copyData(Buffer.from(data, this.#charset)));
    socket.write(serialize.copyDone());
    await this.#sync();
  }

  /** Runs a portal with Executes for one row each. @throws ServerError */
  async rowByRow(statement: ExtendedStatement): Promise<TextRow[]> {
    this.#parse(statement);
    const { socket } = this.#client;
    socket.write(serialize.bind({ values: [...(statement.values ?? [])] }));
    socket.write(serialize.describe({ type: 'P' }));
    const seen: RawMessage[] = [];
    do {
      socket.write(serialize.execute({ portal: '', rows: 1 }));
      socket.write(serialize.flush());
      seen.push(...(await this.#client.untilOneOf('sCE')));
    } while (seen.at(-1)?.type === 's');
    socket.write(serialize.sync());
    await this.#client.until('Z');
    return this.#resultSets(seen)[0] ?? [];
  }

  end(): Promise<void> {
    return this.#client.end();
  }

  #parse({ sql, types = [] }: ExtendedStatement, name = ''): this {
    this.#client.socket.write(serialize.parse({ name, text: sql, types: [...types] }));
    return this;
  }

  #bind({ values = [], binary = false }: ExtendedStatement, statement = ''): void {
    const { socket } = this.#client;
    socket.write(serialize.bind({ statement, values: [...values], binary }));
    socket.write(serialize.describe({ type: 'P' }));
    socket.write(serialize.execute({ portal: '', rows: 0 }));
  }

  async #sync(): Promise<TextRow[][]> {
    this.#client.socket.write(serialize.sync());
    return this.#resultSets(await this.#client.until('Z'));
  }

  #resultSets(messages: readonly RawMessage[]): TextRow[][] {
    const sets: TextRow[][] = [];
    let columns: readonly Column[] = [];
    let rows: TextRow[] = [];
    for (const message of messages) {
      if (message.type === 'E') throw new ServerError(message);
      if (message.type === 'T') columns = columnsOf(message.body);
      if (message.type === 'D') {
        rows.push(
          valuesOf(message.body).map((value, index) => {
            if (value === null) return null;
            const column = columns[index];
            return column?.isBinary
              ? readBinary(column.typeOid, value)
              : value.toString(this.#charset);
          }),
        );
      }
      // A line of COPY TO STDOUT.
      if (message.type === 'd') rows.push([message.body.toString(this.#charset).trimEnd()]);
      if (message.type === 'C') {
        sets.push(rows);
        rows = [];
      }
    }
    return sets;
  }
}

interface Column {
  readonly typeOid: number;
  readonly isBinary: boolean;
}

/** The columns of a RowDescription. */
function columnsOf(body: Buffer): Column[] {
  const columns: Column[] = [];
  let at = 2;
  while (columns.length < body.readInt16BE(0)) {
    at = body.indexOf(0, at) + 1; // the name
    columns.push({
      typeOid: body.readUInt32BE(at + 6),
      isBinary: body.readInt16BE(at + 16) === 1,
    });
    at += 18;
  }
  return columns;
}

/** The values of a DataRow. */
function valuesOf(body: Buffer): (Buffer | null)[] {
  const values: (Buffer | null)[] = [];
  let at = 2;
  while (values.length < body.readInt16BE(0)) {
    const length = body.readInt32BE(at);
    at += 4;
    values.push(length < 0 ? null : body.subarray(at, at + length));
    at += Math.max(length, 0);
  }
  return values;
}
