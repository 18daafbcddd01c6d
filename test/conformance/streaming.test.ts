/*
 * Where a result goes to the client while it comes, and where it takes the way through the function that
 * returns it. Nobody should see a difference but in time.
 */
import { expect } from 'chai';
import { serialize } from 'pg-protocol';
import { eventually } from '../support/eventually.ts';
import { Gate, MANY_ROWS, ROWS_BEFORE_GATE, WAIT_AT_GATE } from '../support/gate.ts';
import { TestProxy } from '../support/proxy.ts';
import { ProxySockets } from '../support/proxy-sockets.ts';
import { fieldsOf, RawClient, type RawMessage } from '../support/wire.ts';

const quoted = (sql: string) => sql.replaceAll("'", "''");
const tagOf = (messages: readonly RawMessage[]) =>
  messages
    .find(({ type }) => type === 'C')
    ?.body.toString()
    .replace('\0', '');
const errorOf = (messages: readonly RawMessage[]) => {
  const error = messages.find(({ type }) => type === 'E');
  return error && fieldsOf(error)['M'];
};
const rowsOf = (messages: readonly RawMessage[]) =>
  messages.filter(({ type }) => type === 'D').map(({ body }) => body.toString('latin1'));

describe('the rows of a worker', () => {
  let proxy: TestProxy;
  let gate: Gate;
  let client: RawClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (
      await proxy.connect()
    ).query(`CREATE SCHEMA elsewhere; CREATE DOMAIN word AS text;
      CREATE FUNCTION reads(pid int) RETURNS SETOF text LANGUAGE plpgsql AS $$
        BEGIN RETURN QUERY SELECT x || '!' FROM pg_background_result(pid) AS (x text); END $$;
      CREATE FUNCTION elsewhere.pg_background_result(pid int) RETURNS SETOF record LANGUAGE sql AS $$
        SELECT x || '!' FROM public.pg_background_result($1) AS (x text) $$;
      CREATE SCHEMA careful; CREATE SCHEMA careful_sql; CREATE SCHEMA launches;
      CREATE FUNCTION careful.pg_background_result(pid int) RETURNS SETOF record LANGUAGE plpgsql SET search_path = public AS $$
        BEGIN RETURN QUERY SELECT x || '!' FROM pg_background_result($1) AS (x text); END $$;
      CREATE FUNCTION careful_sql.pg_background_result(pid int) RETURNS SETOF record LANGUAGE sql SECURITY DEFINER
        SET search_path = public AS $$ SELECT x || '!' FROM pg_background_result($1) AS (x text) $$;
      CREATE FUNCTION launches.pg_background_launch(sql text) RETURNS int LANGUAGE plpgsql SET search_path = public AS $$
        BEGIN PERFORM count(*) FROM pg_background_result(pg_background_launch('SELECT ''hidden''::text')) AS (x text);
              RETURN pg_background_launch(sql); END $$;
      CREATE FUNCTION elsewhere.pg_background_launch(sql text) RETURNS int LANGUAGE sql AS $$
        SELECT public.pg_background_launch($1) $$`);
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
  const reading = (sql: string, columns = 'x text') =>
    `SELECT * FROM pg_background_result(pg_background_launch('${quoted(sql)}')) AS (${columns})`;
  /** Until the server can send no more of what this SQL gives. */
  const untilServerWaits = async (sql: string) => {
    const admin = await proxy.database.direct();
    await eventually(async () => {
      const { rows } = await admin.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'ClientWrite' AND query = $1`,
        [sql],
      );
      expect(rows).to.have.length(1);
    });
  };
  const launched = async (by = client) => {
    const [, row] = await by.query(`SELECT pg_background_launch('${quoted(ROWS_BEFORE_GATE)}')`);
    return Number(row?.body.subarray(6).toString());
  };

  describe('come before the worker has ended', () => {
    const forms: Record<string, (pid: number) => string> = {
      'SELECT * … AS (…)': (pid) => `SELECT * FROM pg_background_result(${pid}) AS (x text)`,
      'with an alias, and other names': (pid) =>
        `select * from pg_background_result(${pid}) as r (whatever text);`,
    };
    for (const [what, form] of Object.entries(forms)) {
      it(`of a plain ${what}`, async () => {
        const pid = await launched();
        client.socket.write(serialize.query(form(pid)));
        await client.until('D');
        await gate.untilWaiting(1);
        await gate.open();
        const rest = await client.until('Z');
        expect(rowsOf(rest)).to.have.length(100);
        expect(tagOf(rest)).to.equal('SELECT 101');
      });
    }

    it('of a handle with a cookie', async () => {
      const [, row] = await client.query(
        `SELECT pid || ', ' || cookie FROM pg_background_launch_v2('${quoted(ROWS_BEFORE_GATE)}')`,
      );
      const handle = row?.body.subarray(6).toString() ?? '';
      client.socket.write(
        serialize.query(`SELECT * FROM pg_background_result_v2(${handle}) AS (x text)`),
      );
      await client.until('D');
      await gate.open();
      expect(tagOf(await client.until('Z'))).to.equal('SELECT 101');
    });

    it('of a launch in the same statement', async () => {
      client.socket.write(serialize.query(reading(ROWS_BEFORE_GATE)));
      await client.until('D');
      await gate.open();
      expect(tagOf(await client.until('Z'))).to.equal('SELECT 101');
    });

    it('of the last statement of several, in a transaction', async () => {
      await client.query('BEGIN');
      client.socket.write(
        serialize.query(reading(`SELECT 'other'; CREATE TEMP TABLE t (); ${ROWS_BEFORE_GATE}`)),
      );
      await client.until('D');
      await gate.open();
      expect(tagOf(await client.until('Z'))).to.equal('SELECT 101');
    });
  });

  describe('come when the worker has ended', () => {
    const forms: Record<string, (pid: number) => string> = {
      'a DO block': (pid) =>
        `DO $$ BEGIN PERFORM * FROM pg_background_result(${pid}) AS (x text); END $$`,
      'a function': (pid) => `SELECT * FROM reads(${pid})`,
      "another's function of the same name": (pid) =>
        `SELECT * FROM elsewhere.pg_background_result(${pid}) AS (x text)`,
      "another's function of the same name, by the search_path": (pid) =>
        `SELECT * FROM pg_background_result(${pid}) AS (x text)`,
      'an expression': (pid) => `SELECT x || '' FROM pg_background_result(${pid}) AS (x text)`,
      'some of the columns': (pid) => `SELECT x FROM pg_background_result(${pid}) AS (x text)`,
      'a condition': (pid) =>
        `SELECT * FROM pg_background_result(${pid}) AS (x text) WHERE x IS NOT NULL`,
      'a limit': (pid) => `SELECT * FROM pg_background_result(${pid}) AS (x text) LIMIT 200`,
      'an order': (pid) => `SELECT * FROM pg_background_result(${pid}) AS (x text) ORDER BY 1`,
      'a join': (pid) =>
        `SELECT * FROM pg_background_result(${pid}) AS (x text), generate_series(1, 1) AS n`,
      'a CTE': (pid) =>
        `WITH r AS (SELECT * FROM pg_background_result(${pid}) AS (x text)) SELECT * FROM r`,
      'a table that is made': (pid) =>
        `CREATE TEMP TABLE made AS SELECT * FROM pg_background_result(${pid}) AS (x text)`,
      'an INSERT': (pid) =>
        `CREATE TEMP TABLE kept (x text); INSERT INTO kept SELECT * FROM pg_background_result(${pid}) AS (x text)`,
      'COPY (…) TO STDOUT': (pid) =>
        `COPY (SELECT * FROM pg_background_result(${pid}) AS (x text)) TO STDOUT`,
      'two statements': (pid) =>
        `SELECT * FROM pg_background_result(${pid}) AS (x text); SELECT 'more'`,
      'a domain': (pid) => `SELECT * FROM pg_background_result(${pid}) AS (x word)`,
      'a domain that pg_temp hides a type with': (pid) =>
        `SELECT * FROM pg_background_result(${pid}) AS (x text)`,
      'another type': (pid) => `SELECT * FROM pg_background_result(${pid}) AS (x varchar)`,
      EXPLAIN: (pid) => `EXPLAIN (ANALYZE) SELECT * FROM pg_background_result(${pid}) AS (x text)`,
    };
    for (const [what, form] of Object.entries(forms)) {
      it(`of ${what}`, async () => {
        const pid = await launched();
        if (what.endsWith('search_path')) await client.query('SET search_path = elsewhere, public');
        if (what.includes('pg_temp'))
          await client.query('CREATE DOMAIN pg_temp.text AS pg_catalog.text');
        const statement = client.query(form(pid));
        await gate.openOnceWaiting(client.pid, statement);
        const answer = await statement;
        const rows = answer.filter(({ type }) => type === 'D');
        if (what.startsWith("another's")) expect(rows[0]?.body.toString()).to.match(/x!$/);
        if (what === 'another type' || what.startsWith('a domain'))
          expect(fieldsOf(answer[1] as RawMessage)['C']).to.equal('42804');
      });

      it(`of ${what}, and nothing before`, async () => {
        const pid = await launched();
        if (what.endsWith('search_path')) await client.query('SET search_path = elsewhere, public');
        if (what.includes('pg_temp'))
          await client.query('CREATE DOMAIN pg_temp.text AS pg_catalog.text');
        client.socket.write(serialize.query(form(pid)));
        await gate.untilWaiting(1);
        // Others are served meanwhile, so what was on its way has come.
        const other = await login();
        await other.query('SELECT pg_sleep(0.02)');
        await other.end();
        expect(client.messages.filter(({ type }) => type === 'D' || type === 'd').length).to.equal(
          1,
        );
        await gate.open();
        await client.until('Z');
      });
    }

    for (const schema of ['careful', 'careful_sql']) {
      it(`of another's function of the same name, which sets a search_path of its own: ${schema}`, async () => {
        const pid = await launched();
        await client.query(`SET search_path = ${schema}, public`);
        client.socket.write(
          serialize.query(`SELECT * FROM pg_background_result(${pid}) AS (x text)`),
        );
        const answer = client.until('Z');
        await gate.openOnceWaiting(client.pid, answer);
        const rows = rowsOf(await answer);
        expect(rows).to.have.length(101);
        for (const row of rows) expect(row).to.match(/x*!$/);
      });
    }

    it('of a session with another encoding, whose client gets its own', async () => {
      const other = await login();
      await other.query('SET client_encoding TO LATIN1');
      const answer = await other.query(
        reading(`SELECT repeat(chr(233), 1000) FROM generate_series(1, 100)`),
      );
      expect(rowsOf(answer)[99]).to.match(/\xe9{1000}$/);
      await other.end();
    });

    it('of SQL that has raised a notice, which comes first', async () => {
      const sql = `DO $x$ BEGIN RAISE NOTICE 'first'; END $x$; ${MANY_ROWS}`;
      const types = (await client.query(reading(sql))).map(({ type }) => type).join('');
      expect(types).to.match(/^TND{100}CZ$/);
    });
  });

  it('of a result that a launch of others has read are not sent', async () => {
    await client.query('SET search_path = launches, public');
    for (let again = 0; again < 3; again++) {
      const answer = await client.query(reading(`SELECT 'mine'::text`));
      expect(rowsOf(answer).join()).to.match(/^\0\x01\0\0\0\x04mine$/);
      expect(tagOf(answer)).to.equal('SELECT 1');
    }
  });

  it('are not sent behind an error, however long the statement takes to end', async () => {
    await client.query('BEGIN');
    await client.query(
      `DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE 'CREATE TEMP TABLE many_' || n || ' ()'; END LOOP; END $$`,
    );
    const [, row] = await client.query(
      `SELECT pg_background_launch('${quoted(`${WAIT_AT_GATE}; SELECT 'late'::text`)}')`,
    );
    const pid = Number(row?.body.subarray(6).toString());
    client.socket.write(serialize.query(`SELECT * FROM pg_background_result(${pid}) AS (x text)`));
    await gate.untilWaiting(1);
    await (await proxy.database.direct()).query('SELECT pg_cancel_backend($1)', [client.pid]);
    await client.until('E');
    await gate.open();
    expect((await client.until('Z')).map(({ type }) => type)).to.deep.equal(['Z']);
  });

  it('are the same as those of the statement itself, whatever their types are', async () => {
    const each = `SELECT g, g::int8, g::int2, g::text, g::varchar(9), g::char(9), g::numeric / 7, (g / 7.0)::float4, g::float8 / 7,
      g % 2 = 0, date '2000-01-01' + g, timestamp '2000-01-01' + g * interval '1 s', timestamptz '2000-01-01' + g * interval '1 s',
      g * interval '1 min', md5(g::text)::uuid, json_build_object('a', g), jsonb_build_array(g), ARRAY[g, NULL], g::bit(9),
      decode(md5(g::text), 'hex'), g::money, NULL::text, point(g, g), 'pg_class'::regclass
      FROM generate_series(1, 500) AS g`;
    const columns = `a int, b int8, c int2, d text, e varchar(9), f char(9), g numeric, h float4, i float8, j bool, k date,
      l timestamp, m timestamptz, n interval, o uuid, p json, q jsonb, r int[], s bit(9), t bytea, u money, v text, w point, x regclass`;
    for (const settings of [
      '',
      `SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'iso_8601'; SET TimeZone = 'Asia/Tokyo'`,
      'SET extra_float_digits = -3; SET bytea_output = escape',
    ]) {
      await client.query(settings);
      const direct = rowsOf(await client.query(each));
      const answer = await client.query(reading(each, columns));
      expect(rowsOf(answer), errorOf(answer)).to.deep.equal(direct);
    }
  });

  for (const [what, types, columns] of [
    [
      'dates',
      `date '2000-02-01', timestamp '2000-02-01', interval '1 day 1 min'`,
      'a date, b timestamp, c interval',
    ],
    ['times of a zone', `timestamptz '2000-02-01'`, 'a timestamptz'],
    ['floats', '0.1::float8, (1/3.0)::float4', 'a float8, b float4'],
    ['numbers and texts', `1, 'x', 1.5, true`, 'a int, b text, c numeric, d bool'],
  ] as const) {
    it(`are the same when there are many of ${what}, under any settings`, async () => {
      const each = `SELECT ${types} FROM generate_series(1, 3000)`;
      for (const settings of [
        '',
        `SET DateStyle = 'SQL, DMY'`,
        `SET IntervalStyle = 'iso_8601'; SET TimeZone = 'Asia/Tokyo'`,
        'SET extra_float_digits = -3',
      ]) {
        await client.query(settings);
        const direct = rowsOf(await client.query(each));
        const answer = await client.query(reading(each, columns));
        expect(rowsOf(answer), errorOf(answer)).to.deep.equal(direct);
      }
    });
  }

  it('are written as the session writes them, whatever the SQL has set for itself', async () => {
    const many = `SELECT date '2000-02-01' FROM generate_series(1, 3000)`;
    const direct = rowsOf(await client.query(many));
    const sql = `SET DateStyle = 'German'; ${many}`;
    expect(rowsOf(await client.query(reading(sql, 'a date')))).to.deep.equal(direct);
  });

  it('are followed by an error that comes behind them, which ends handle and result', async () => {
    const pid = Number(
      (
        await client.query(
          `SELECT pg_background_launch('SELECT 1/(1000-g)::int, repeat(''x'', 1000) FROM generate_series(1, 2000) g')`,
        )
      )[1]?.body
        .subarray(6)
        .toString(),
    );
    const read = `SELECT * FROM pg_background_result(${pid}) AS (n int, x text)`;
    const answer = await client.query(read);
    const error = fieldsOf(answer.find(({ type }) => type === 'E') as RawMessage);
    expect(error['C']).to.equal('22012');
    expect(error['W']).to.include(`background worker, pid ${pid}`);
    expect(answer.map(({ type }) => type).join('')).to.match(/^TD*EZ$/);
    const again = await client.query(read);
    expect(fieldsOf(again.find(({ type }) => type === 'E') as RawMessage)['C']).to.equal('42704');
  });

  it('have between them the notices that were raised between them', async () => {
    await client.query(`CREATE OR REPLACE FUNCTION says(n int) RETURNS text LANGUAGE plpgsql AS $$
      BEGIN IF n % 1000 = 0 THEN RAISE NOTICE 'at %', n USING HINT = 'a hint'; END IF; RETURN repeat('x', 1000); END $$`);
    await client.query(`SELECT pg_background_launch('SELECT 1')`);
    client.socket.write(
      serialize.query(
        reading(`SELECT repeat('x', 1000) FROM generate_series(1, 50) UNION ALL SELECT '' || pg_advisory_xact_lock_shared('4711')
          UNION ALL SELECT says(n) FROM generate_series(1, 3000) n`),
      ),
    );
    await client.until('D');
    await gate.open();
    const answer = await client.until('Z');
    const types = answer.map(({ type }) => type).join('');
    expect(types).to.match(/^D+ND+ND+ND*CZ$/);
    const notice = fieldsOf(answer.find(({ type }) => type === 'N') as RawMessage);
    expect(notice).to.include({ S: 'NOTICE', V: 'NOTICE', C: '00000', M: 'at 1000', H: 'a hint' });
    expect(notice['W']).to.match(
      /^PL\/pgSQL function says\(integer\) line \d+ at RAISE\nbackground worker, pid \d+$/,
    );
  });

  it('stop when the reader is cancelled, and handle and result are gone', async () => {
    const pid = await launched();
    const read = `SELECT * FROM pg_background_result(${pid}) AS (x text)`;
    client.socket.write(serialize.query(read));
    await client.until('D');
    await (await proxy.database.direct()).query('SELECT pg_cancel_backend($1)', [client.pid]);
    const answer = await client.until('Z');
    expect(answer.map(({ type }) => type).join('')).to.match(/^D*EZ$/);
    expect(fieldsOf(answer.at(-2) as RawMessage)['C']).to.equal('57014');
    await gate.open();
    const again = await client.query(read);
    expect(fieldsOf(again.find(({ type }) => type === 'E') as RawMessage)['C']).to.equal('42704');
    expect(rowsOf(await client.query(reading('SELECT 1', 'n int')))).to.have.length(1);
  });

  it('do not hold up the worker when a reader that has stopped reading is cancelled', async () => {
    const sql = `SELECT repeat('x', 500) FROM generate_series(1, 200000)`;
    client.socket.pause();
    client.socket.write(serialize.query(reading(sql)));
    await untilServerWaits(sql);
    expect(proxy.engine.runningWorkers).to.equal(1);
    await (await proxy.database.direct()).query('SELECT pg_cancel_backend($1)', [client.pid]);
    await eventually(() => {
      expect(proxy.engine.runningWorkers).to.equal(0);
      return Promise.resolve();
    });
  });

  it('are not lost when the reader is cancelled before the first', async () => {
    const sql = `${WAIT_AT_GATE}; ${MANY_ROWS}`;
    const [, row] = await client.query(`SELECT pg_background_launch('${quoted(sql)}')`);
    const pid = Number(row?.body.subarray(6).toString());
    const read = `SELECT * FROM pg_background_result(${pid}) AS (x text)`;
    const cancelled = client.query(read);
    await gate.untilWaiting(1);
    const admin = await proxy.database.direct();
    await eventually(async () => {
      const { rows } = await admin.query(
        'SELECT pg_cancel_backend($1) FROM pg_stat_activity WHERE pid = $1 AND query LIKE $2',
        [client.pid, '%pg_background_result%'],
      );
      expect(rows).to.have.length(1);
    });
    expect(
      fieldsOf((await cancelled).find(({ type }) => type === 'E') as RawMessage)['C'],
    ).to.equal('57014');
    await gate.open();
    expect(rowsOf(await client.query(read))).to.have.length(100);
  });

  it('wait for a client that reads slowly, and keep the server waiting', async () => {
    const count = 200_000;
    const sql = `SELECT repeat('x', 500) FROM generate_series(1, ${count})`;
    client.socket.pause();
    client.socket.write(serialize.query(reading(sql)));
    await untilServerWaits(sql);
    let bytes = 0;
    let tail = '';
    client.socket.removeAllListeners('data');
    client.socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      tail = (tail + chunk.toString('latin1')).slice(-100);
    });
    client.socket.resume();
    await eventually(() => {
      expect(tail).to.match(new RegExp(`C\\0\\0\\0.SELECT ${count}\\0Z`));
      return Promise.resolve();
    });
    expect(bytes).to.be.above(count * 500);
  });

  it('do not keep the function from being heard while their reader has stopped', async () => {
    const sockets = new ProxySockets();
    try {
      const reader = await login();
      await reader.query('SET log_lock_waits = on; SET client_min_messages = log');
      const observer = await proxy.database.direct();
      const { rows } = await observer.query<{ port: number }>(
        'SELECT client_port AS port FROM pg_stat_activity WHERE pid = $1',
        [reader.pid],
      );
      const server = sockets.withLocalPort(rows[0]?.port ?? 0);
      const sql = `SELECT repeat('x', 500) FROM generate_series(1, 60000)`;
      // The next one asks but once.
      for (let time = 0; time < 3; time++) await reader.query(reading('SELECT 1', 'n int'));
      reader.socket.pause();
      reader.socket.write(serialize.query(reading(sql)));
      await eventually(async () => {
        const { rows } = await observer.query(
          `SELECT FROM pg_locks WHERE pid = $1 AND locktype = 'advisory' AND NOT granted`,
          [reader.pid],
        );
        expect(rows, 'the function sleeps on its lock').to.have.length(1);
      });
      const before = server.bytesRead;
      await untilServerWaits(sql);
      // After a second on the lock the server says so.
      await eventually(() => {
        expect(server.bytesRead).to.be.above(before);
        return Promise.resolve();
      });
      expect(server.isPaused(), 'the session of the function is not read').to.equal(false);
      reader.socket.resume();
      const answer = await reader.until('Z');
      expect(tagOf(answer)).to.equal('SELECT 60000');
      await reader.end();
    } finally {
      sockets.close();
    }
  });

  it('come before a call of the worker itself, which fails when their reader has stopped for long', async () => {
    await client.query(`CREATE FUNCTION launches_at(n int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
      IF n % 1000 = 0 THEN RETURN (SELECT x FROM pg_background_result(pg_background_launch('SELECT 1')) AS (x text)); END IF;
      RETURN 'x'; END $$`);
    const sql = `SELECT repeat('x', 1000) || launches_at(n) FROM generate_series(1, 60000) AS n`;
    client.socket.pause();
    client.socket.write(serialize.query(reading(sql)));
    const observer = await proxy.database.direct();
    await eventually(async () => {
      const { rows } = await observer.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND query = $1 AND state = 'idle'`,
        [sql],
      );
      expect(rows, 'the worker has failed').to.have.length(1);
    });
    client.socket.resume();
    const answer = await client.until('Z');
    expect(answer.map(({ type }) => type).join('')).to.match(/^TD+EZ$/);
    expect(fieldsOf(answer.at(-2) as RawMessage)).to.include({
      C: '53000',
      D: 'The proxy did not answer within 5 seconds.',
    });
  });

  it('leave no handle behind when their reader is cancelled as the worker fails', async () => {
    const admin = await proxy.database.direct();
    for (const plainBefore of [0, 3]) {
      for (let time = 0; time < 5; time++) {
        for (let plain = 0; plain < plainBefore; plain++)
          await client.query(reading('SELECT 1', 'n int'));
        await gate.close();
        client.socket.write(
          serialize.query(
            reading(
              `${ROWS_BEFORE_GATE} UNION ALL SELECT '' || 1/(g-g) FROM generate_series(1, 1) AS g`,
            ),
          ),
        );
        await client.until('D');
        await Promise.all([gate.open(), admin.query('SELECT pg_cancel_backend($1)', [client.pid])]);
        expect(errorOf(await client.until('Z'))).to.match(/division by zero|canceling statement/);
        const [, left] = await client.query(
          'SELECT count(*) FROM pg_background_list_v2() AS (pid int)',
        );
        expect(left?.body.toString('latin1', 6), `${plainBefore} plain before`).to.equal('0');
      }
    }
  });

  it('go to nobody when the client is gone, and the worker ends all the same', async () => {
    await client.query('CREATE TABLE IF NOT EXISTS done (at int)');
    client.socket.write(
      serialize.query(
        reading(
          `INSERT INTO done VALUES (1); SELECT repeat('x', 500) FROM generate_series(1, 100000)`,
        ),
      ),
    );
    await client.until('D');
    client.socket.destroy();
    const observer = await proxy.database.direct();
    await eventually(async () => {
      const { rows } = await observer.query('TABLE done');
      expect(rows).to.have.length(1);
    });
  });
});
