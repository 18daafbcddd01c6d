/*
 * Where a prepared statement's result goes to the client while it comes, and where it takes the way through
 * the function, message by message of the extended protocol.
 */
import { expect } from 'chai';
import { serialize } from 'pg-protocol';
import { Gate, ROWS_BEFORE_GATE, WAIT_AT_GATE } from '../support/gate.ts';
import { TestProxy } from '../support/proxy.ts';
import { fieldsOf, RawClient, type RawMessage } from '../support/wire.ts';

const READ = 'SELECT * FROM pg_background_result($1) AS (x text)';

const parse = (text: string, name = '', types: number[] = []) =>
  serialize.parse({ name, text, types });
const bind = (values: readonly string[], { statement = '', portal = '', formats = [0] } = {}) => {
  const whole = serialize.bind({ portal, statement, values: [...values] });
  const list = Buffer.alloc(2 + 2 * formats.length);
  list.writeInt16BE(formats.length);
  formats.forEach((format, at) => list.writeInt16BE(format, 2 + 2 * at));
  // It ends with a list of one format.
  const frame = Buffer.concat([whole.subarray(0, -4), list]);
  frame.writeInt32BE(frame.length - 1, 1);
  return frame;
};
const describePortal = (name = '') => serialize.describe({ type: 'P', name });
const describeStatement = (name = '') => serialize.describe({ type: 'S', name });
const execute = (rows = 0, portal = '') => serialize.execute({ portal, rows });
const sync = serialize.sync();
const flush = serialize.flush();

const typesOf = (messages: readonly RawMessage[]) => messages.map(({ type }) => type).join('');
const rowsIn = (messages: readonly RawMessage[]) =>
  messages.filter(({ type }) => type === 'D').length;
const tagsOf = (messages: readonly RawMessage[]) =>
  messages
    .filter(({ type }) => type === 'C')
    .map(({ body }) => body.toString('latin1', 0, body.length - 1));
const codeOf = (messages: readonly RawMessage[]) => {
  const error = messages.find(({ type }) => type === 'E');
  return error && fieldsOf(error)['C'];
};

describe('the rows of a worker that a prepared statement reads', () => {
  let proxy: TestProxy;
  let gate: Gate;
  let client: RawClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (
      await proxy.connect()
    ).query(`CREATE SCHEMA elsewhere; CREATE DOMAIN word AS text; CREATE DOMAIN number AS int;
      CREATE FUNCTION reads(pid int) RETURNS TABLE (x text) LANGUAGE sql STABLE AS $$
        SELECT * FROM pg_background_result($1) AS (x text) $$;
      CREATE FUNCTION elsewhere.pg_background_result(pid int) RETURNS SETOF record LANGUAGE sql AS $$
        SELECT x || '!' FROM public.pg_background_result($1) AS (x text) $$;
      CREATE FUNCTION makes_again() RETURNS void LANGUAGE plpgsql AS $$
        BEGIN EXECUTE 'DEALLOCATE s'; EXECUTE 'PREPARE s (int) AS SELECT x || ''!'' AS x FROM reads($1)'; END $$`);
  });
  beforeEach(async () => {
    gate = new Gate(await proxy.database.direct());
    await gate.close();
    client = await login();
  });
  afterEach(async () => {
    await gate.open();
    client.socket.destroy();
    await proxy.expectNothingLeft();
  });
  after(() => proxy.stop());

  const login = () =>
    RawClient.login(proxy.port, { user: 'postgres', database: proxy.database.name });
  const send = (...messages: Buffer[]) => client.socket.write(Buffer.concat(messages));
  const ask = (...messages: Buffer[]) => {
    send(...messages);
    return client.until('Z');
  };
  const launched = async (sql = ROWS_BEFORE_GATE) => {
    const [, row] = await client.query(
      `SELECT pg_background_launch('${sql.replaceAll("'", "''")}')`,
    );
    return String(row?.body.subarray(6).toString());
  };
  /** Others are served meanwhile, so what was on its way has come. */
  const expectRowsBefore = async (start: number, count: number) => {
    await gate.untilWaiting(1);
    const other = await login();
    await other.query('SELECT pg_sleep(0.02)');
    await other.end();
    expect(rowsIn(client.messages.slice(start))).to.equal(count);
  };

  describe('come before the worker has ended', () => {
    type Form = (pid: string) => Promise<unknown> | unknown;
    const forms: Record<string, Form> = {
      'of the unnamed statement, described as a portal': (pid) =>
        send(parse(READ), bind([pid]), describePortal(), execute(), sync),
      'of the unnamed statement, described itself': (pid) =>
        send(parse(READ), describeStatement(), bind([pid]), execute(), sync),
      'of a statement that is described first, and run when the client has read that': async (
        pid,
      ) => {
        send(parse(READ), describeStatement(), flush);
        await client.until('T');
        send(bind([pid]), execute(), sync);
      },
      'of a statement with a name, in one go': (pid) =>
        send(parse(READ, 's'), bind([pid], { statement: 's' }), describePortal(), execute(), sync),
      'of a statement that was prepared before other statements': async (pid) => {
        await ask(parse(READ, 's'), sync);
        await client.query('SELECT 1');
        send(bind([pid], { statement: 's' }), describePortal(), execute(), sync);
      },
      'of a statement that was described before, and is not again': async (pid) => {
        await ask(parse(READ, 's'), describeStatement('s'), sync);
        await client.query('SELECT 1');
        send(bind([pid], { statement: 's' }), execute(), sync);
      },
      'of one that was prepared beside many others': async (pid) => {
        await ask(parse(READ, 's'), sync);
        await ask(parse('SELECT 1', 't'), parse('SELECT 2'), sync);
        await ask(bind([]), describePortal(), execute(), sync);
        send(bind([pid], { statement: 's' }), describePortal(), execute(), sync);
      },
      'of a statement that is executed before it is synchronised': async (pid) => {
        send(parse(READ), bind([pid]), describePortal(), execute(), flush);
        await client.until('D');
        send(sync);
      },
      'inside a transaction block': async (pid) => {
        await client.query('BEGIN');
        send(parse(READ), bind([pid]), describePortal(), execute(), sync);
      },
      'with formats that are not named': (pid) =>
        send(parse(READ), bind([pid], { formats: [] }), describePortal(), execute(), sync),
      'with the type of its parameter named': (pid) =>
        send(parse(READ, '', [23]), bind([pid]), describePortal(), execute(), sync),
      'of a launch of a parameter': () =>
        send(
          parse('SELECT * FROM pg_background_result(pg_background_launch($1)) AS (x text)'),
          bind([ROWS_BEFORE_GATE]),
          describePortal(),
          execute(),
          sync,
        ),
      'without parameters': (pid) =>
        send(parse(READ.replace('$1', pid)), bind([]), describePortal(), execute(), sync),
    };
    for (const [what, form] of Object.entries(forms)) {
      it(what, async () => {
        const pid = what.includes('launch') ? '' : await launched();
        await form(pid);
        if (!what.includes('synchronised')) await client.until('D');
        await gate.untilWaiting(1);
        await gate.open();
        const rest = await client.until('Z');
        expect(rowsIn(rest)).to.equal(100);
        expect(tagsOf(rest)).to.deep.equal(['SELECT 101']);
        expect((await client.query('SELECT 1')).length).to.equal(4);
      });
    }

    it('when they are read by a handle with a cookie', async () => {
      const [, row] = await client.query(
        `SELECT pid || ' ' || cookie FROM pg_background_launch_v2('${ROWS_BEFORE_GATE.replaceAll("'", "''")}')`,
      );
      const handle = row?.body.subarray(6).toString().split(' ') ?? [];
      send(
        parse('SELECT * FROM pg_background_result_v2($1, $2) AS (x text)'),
        bind(handle),
        describePortal(),
        execute(),
        sync,
      );
      await client.until('D');
      await gate.open();
      expect(tagsOf(await client.until('Z'))).to.deep.equal(['SELECT 101']);
    });

    it('in whatever pieces the messages come', async () => {
      const pid = await launched();
      const all = Buffer.concat([parse(READ), bind([pid]), describePortal(), execute(), sync]);
      for (const byte of all) {
        client.socket.write(Buffer.from([byte]));
        await new Promise(setImmediate);
      }
      await client.until('D');
      await gate.open();
      expect(tagsOf(await client.until('Z'))).to.deep.equal(['SELECT 101']);
    });

    it('of a statement that has failed before', async () => {
      const failing = await launched('SELECT (1/0)::text');
      const first = await ask(
        parse(READ, 's'),
        bind([failing], { statement: 's' }),
        describePortal(),
        execute(),
        sync,
      );
      expect(codeOf(first)).to.equal('22012');
      const pid = await launched();
      send(bind([pid], { statement: 's' }), execute(), sync);
      await client.until('D');
      await gate.open();
      expect(tagsOf(await client.until('Z'))).to.deep.equal(['SELECT 101']);
    });

    it('each time that a statement is run', async () => {
      await ask(parse(READ, 's'), describeStatement('s'), sync);
      for (let time = 0; time < 3; time++) {
        await gate.close();
        const pid = await launched();
        send(bind([pid], { statement: 's' }), execute(), sync);
        await client.until('D');
        await gate.open();
        expect(tagsOf(await client.until('Z'))).to.deep.equal(['SELECT 101']);
      }
    });
  });

  describe('come when the worker has ended', () => {
    interface Way {
      readonly before?: () => Promise<unknown>;
      readonly send: (pid: string) => unknown;
      /** The types of all messages of the answer. */
      readonly answer?: RegExp;
      /** Rows of other statements, which come before. */
      readonly othersBefore?: number;
      readonly firstRow?: RegExp;
    }
    const WHOLE = /^12TD{101}CZ$/;
    const REFUSED = /^12TEZ$/;
    const whole = (pid: string, text = READ, types: number[] = []) =>
      Buffer.concat([parse(text, '', types), bind([pid]), describePortal(), execute(), sync]);
    const plain = (...args: Parameters<typeof whole>) => send(whole(...args));
    const run = (pid: string) =>
      send(bind([pid], { statement: 's' }), describePortal(), execute(), sync);
    let numberOid = 0;

    const ways: Record<string, Way> = {
      'in binary': {
        send: (pid) =>
          send(parse(READ), bind([pid], { formats: [1] }), describePortal(), execute(), sync),
      },
      'with one column in binary, whatever its statement was described as': {
        before: () => ask(parse(READ, 's'), describeStatement('s'), sync),
        send: (pid) => send(bind([pid], { statement: 's', formats: [1] }), execute(), sync),
        answer: /^2D{101}CZ$/,
      },
      'a hundred at a time': {
        send: (pid) =>
          send(parse(READ), bind([pid]), describePortal(), execute(100), execute(100), sync),
        answer: /^12TD{100}sDCZ$/,
      },
      'a hundred, and no more': {
        send: (pid) => send(parse(READ), bind([pid]), describePortal(), execute(100), sync),
        answer: /^12TD{100}sZ$/,
      },
      'by a portal with a name': {
        send: (pid) =>
          send(
            parse(READ),
            bind([pid], { portal: 'p' }),
            describePortal('p'),
            execute(0, 'p'),
            sync,
          ),
      },
      'without a description': {
        send: (pid) => send(parse(READ), bind([pid]), execute(), sync),
        answer: /^12D{101}CZ$/,
      },
      'when another statement follows before the Sync': {
        send: (pid) =>
          send(
            parse(READ),
            bind([pid]),
            describePortal(),
            execute(),
            parse('SELECT 1'),
            bind([]),
            execute(),
            sync,
          ),
        answer: /^12TD{101}C12DCZ$/,
      },
      'when another statement follows behind the Sync': {
        send: (pid) => send(whole(pid), serialize.query('SELECT 1')),
        answer: /^12TD{101}CZTDCZ$/,
      },
      'when another statement stands before': {
        send: (pid) =>
          send(
            parse('SELECT 1'),
            bind([]),
            execute(),
            parse(READ),
            bind([pid]),
            describePortal(),
            execute(),
            sync,
          ),
        answer: /^12DC12TD{101}CZ$/,
        othersBefore: 1,
      },
      'when another question before is not answered yet': {
        send: (pid) => send(serialize.query('SELECT 1'), whole(pid)),
        answer: /^TDCZ12TD{101}CZ$/,
        othersBefore: 1,
      },
      'when it is executed twice': {
        send: (pid) => send(parse(READ), bind([pid]), describePortal(), execute(), execute(), sync),
        answer: /^12TD{101}CCZ$/,
      },
      'with a parameter whose type is a domain': {
        before: async () => {
          const [, row] = await client.query(`SELECT 'number'::regtype::oid`);
          numberOid = Number(row?.body.subarray(6).toString());
        },
        send: (pid) => plain(pid, READ, [numberOid]),
      },
      'of an expression': {
        send: (pid) => plain(pid, `SELECT x || '' FROM pg_background_result($1) AS (x text)`),
      },
      'of an argument that is an expression': {
        send: (pid) => plain(pid, READ.replace('$1', '$1 + 0')),
      },
      'of a function that reads them': { send: (pid) => plain(pid, 'SELECT * FROM reads($1)') },
      "of another's function of the same name": {
        before: () => client.query('SET search_path = elsewhere, public'),
        send: (pid) => plain(pid),
        firstRow: /x!$/,
      },
      'into a domain': { send: (pid) => plain(pid, READ.replace('text', 'word')), answer: REFUSED },
      'into another type': {
        send: (pid) => plain(pid, READ.replace('text', 'varchar')),
        answer: REFUSED,
      },
      'into a type with a modifier': {
        send: (pid) => plain(pid, READ.replace('text', 'varchar(2000)')),
        answer: REFUSED,
      },
      'to a client with another encoding': {
        before: () => client.query('SET client_encoding = LATIN1'),
        send: (pid) => plain(pid),
      },
      'of a text of more than 1 kB': {
        send: (pid) => plain(pid, `${READ} -- ${'x'.repeat(1024)}`),
      },
      'of a name that means another statement by now': {
        before: async () => {
          await ask(parse(READ, 's'), describeStatement('s'), sync);
          await ask(serialize.close({ type: 'S', name: 's' }), sync);
          await ask(parse(`SELECT x || '!' FROM reads($1)`, 's'), sync);
        },
        send: run,
        answer: /^2TD{101}CZ$/,
        firstRow: /x!$/,
      },
      'of a name that a function has given to another statement': {
        before: async () => {
          await ask(parse(READ, 's'), describeStatement('s'), sync);
          await client.query('SELECT makes_again()');
        },
        send: run,
        answer: /^2TD{101}CZ$/,
        firstRow: /x!$/,
      },
      'of a name that another statement had already': {
        before: async () => {
          await ask(parse(`SELECT x || '!' FROM reads($1)`, 's'), describeStatement('s'), sync);
          expect(codeOf(await ask(parse(READ, 's'), sync))).to.equal('42P05');
        },
        send: run,
        answer: /^2TD{101}CZ$/,
        firstRow: /x!$/,
      },
    };

    for (const [what, way] of Object.entries(ways)) {
      const { before, othersBefore = 0, answer = WHOLE, firstRow = /./ } = way;
      it(what, async () => {
        const pid = await launched();
        await before?.();
        const start = client.messages.length;
        way.send(pid);
        await expectRowsBefore(start, othersBefore);
        await gate.open();
        await client.query('SELECT 1 AS last');
        await client.end();
        const own = client.messages.slice(start, -4);
        expect(typesOf(own)).to.match(answer);
        if (answer === REFUSED) expect(codeOf(own)).to.equal('42804');
        else expect(own.find(({ type }) => type === 'D')?.body.toString()).to.match(firstRow);
      });
    }
  });

  describe('go to nobody else: of', () => {
    const INT = 'SELECT * FROM pg_background_result($1) AS (n int)';
    const gatedNumbers = `${WAIT_AT_GATE}; SELECT generate_series(1, 3)`;
    const valuesIn = (messages: readonly RawMessage[]) =>
      messages
        .filter(({ type }) => type === 'D')
        .map(({ body }) => body.subarray(6).toString('hex'));
    /** As long as this runs, what is sent behind it is on its way, and not begun. */
    const slow = [parse('SELECT pg_sleep(0.1)'), bind([]), execute()];
    const inBinary = ['00000001', '00000002', '00000003'];

    it('a portal in binary that is executed in front of one in text, in pipeline mode', async () => {
      await ask(parse(INT, 's'), describeStatement('s'), sync);
      const [one, two] = [await launched(gatedNumbers), await launched('SELECT 9')];
      const binary = [bind([one], { statement: 's', formats: [1] }), execute()];
      // Before the answer to its Sync comes, the next question is on its way.
      send(parse('SELECT 1'), bind([]), execute(), sync, ...slow, ...binary);
      await client.until('Z');
      send(bind([two], { statement: 's' }), execute(), sync);
      await gate.untilWaiting(1);
      await gate.open();
      expect(valuesIn(await client.until('Z')).slice(1)).to.deep.equal([...inBinary, '39']);
    });

    it('an expression that is executed in front of a simple Query', async () => {
      const [one, two] = [await launched(gatedNumbers), await launched('SELECT 9')];
      send(
        serialize.query('SELECT 1'),
        ...slow,
        parse('SELECT n + 10 FROM pg_background_result($1) AS (n int)'),
        bind([one]),
        execute(),
      );
      await client.until('Z');
      send(serialize.query(INT.replace('$1', two)));
      await gate.untilWaiting(1);
      await gate.open();
      const values = valuesIn(await client.until('Z'));
      expect(values.slice(1, 4)).to.deep.equal(['3131', '3132', '3133']);
    });

    it('what stands behind a COPY that was sent in one go', async () => {
      await client.query('CREATE TEMP TABLE t (a int)');
      await ask(parse(INT, 's'), describeStatement('s'), sync);
      const [one, two] = [await launched(gatedNumbers), await launched('SELECT 9')];
      send(
        ...slow,
        parse('COPY t FROM STDIN'),
        bind([]),
        execute(),
        serialize.copyData(Buffer.from('1\n')),
        serialize.copyDone(),
        sync,
        bind([one], { statement: 's', formats: [1] }),
        execute(),
        sync,
      );
      await client.until('Z');
      send(bind([two], { statement: 's' }), execute(), sync);
      await gate.untilWaiting(1);
      await gate.open();
      expect(valuesIn(await client.until('Z'))).to.deep.equal(inBinary);
    });

    for (const [how, call] of [
      [
        'calls',
        `count(*) FROM pg_background_result(pg_background_launch('SELECT ''injected''::text')) AS (x text)`,
      ],
      [
        'forges a call of',
        `pgbackground.call('pg_background_result', json_build_object('step', 'describe', 'isDirect', true, 'statement', '${READ}',
           'pid', pg_background_launch('SELECT ''injected''::text'), 'extraFloatDigits', '1'))`,
      ],
    ] as const) {
      it(`a domain of the parameter, whose check ${how} the same functions`, async () => {
        const session = await proxy.connect();
        await session.query(`DROP SCHEMA IF EXISTS domains CASCADE; CREATE SCHEMA domains;
          CREATE FUNCTION domains.checks(pid int) RETURNS boolean LANGUAGE plpgsql SET search_path = public AS $x$
            BEGIN IF pid > 0 THEN PERFORM ${call}; END IF; RETURN true; END $x$;
          CREATE DOMAIN domains.number AS int CHECK (domains.checks(value));
          CREATE FUNCTION domains.pg_background_result(pid domains.number) RETURNS SETOF record LANGUAGE sql AS $x$
            SELECT 'nothing'::text $x$`);
        // The server finds out the type of the parameter, and keeps it though it then means another function.
        await client.query('SET search_path = domains');
        await ask(parse(READ, 's'), describeStatement('s'), sync);
        await client.query('SET search_path = public');
        const pid = await launched(`SELECT 'mine'::text`);
        const answer = await ask(bind([pid], { statement: 's' }), execute(), sync);
        expect(answer.map(({ body }) => body.toString()).join()).not.to.include('injected');
      });
    }
  });

  it('are counted once where a portal that has given them is executed again', async () => {
    const pid = await launched();
    send(parse(READ), bind([pid]), describePortal(), execute(), flush);
    await client.until('D');
    send(execute(), sync);
    await gate.open();
    const rest = await client.until('Z');
    expect(typesOf(rest)).to.match(/^D{100}CCZ$/);
    expect(tagsOf(rest)).to.deep.equal(['SELECT 101', 'SELECT 0']);
  });

  it('are followed by what was sent while they came', async () => {
    const pid = await launched();
    send(parse(READ), bind([pid]), describePortal(), execute(), sync);
    await client.until('D');
    send(
      parse('SELECT 1'),
      bind([]),
      describePortal(),
      execute(),
      sync,
      serialize.query('SELECT 2'),
    );
    await gate.open();
    expect(typesOf(await client.until('Z'))).to.match(/^D{100}CZ$/);
    expect(typesOf(await client.until('Z'))).to.equal('12TDCZ');
    expect(typesOf(await client.until('Z'))).to.equal('TDCZ');
  });

  it('are followed by an error that comes behind them, and the next Sync ends that', async () => {
    const pid = await launched(
      `SELECT (1/(1000-g)::int)::text || repeat('x', 1000) FROM generate_series(1, 2000) g`,
    );
    const answer = await ask(parse(READ), bind([pid]), describePortal(), execute(), sync);
    expect(typesOf(answer)).to.match(/^12TD*EZ$/);
    expect(codeOf(answer)).to.equal('22012');
    expect(typesOf(await ask(bind([pid]), execute(), sync))).to.equal('2EZ');
    expect(typesOf(await client.query('SELECT 1'))).to.equal('TDCZ');
  });

  it('stop when the reader is cancelled', async () => {
    const pid = await launched();
    send(parse(READ), bind([pid]), describePortal(), execute(), sync);
    await client.until('D');
    await (await proxy.database.direct()).query('SELECT pg_cancel_backend($1)', [client.pid]);
    const answer = await client.until('Z');
    expect(typesOf(answer)).to.match(/^D*EZ$/);
    expect(codeOf(answer)).to.equal('57014');
  });

  it('are the same as those of the statement itself, by a driver', async () => {
    const session = await proxy.connect();
    const each = `SELECT g, g::numeric / 7 AS n, md5(g::text) AS t, g % 2 = 0 AS b, now() - now() + g * interval '1 s' AS i
                    FROM generate_series(1, 3000) AS g`;
    const read =
      'SELECT * FROM pg_background_result($1) AS (g int, n numeric, t text, b bool, i interval)';
    const { rows: direct } = await session.query(each);
    for (const name of [undefined, 'named', 'named']) {
      const { rows } = await session.query('SELECT pg_background_launch($1) AS pid', [each]);
      const { pid } = rows[0] as { pid: number };
      const result = await session.query({
        text: read,
        values: [pid],
        ...(name !== undefined && { name }),
      });
      expect(result.rows).to.deep.equal(direct);
      expect(result.rowCount).to.equal(3000);
    }
  });
});
