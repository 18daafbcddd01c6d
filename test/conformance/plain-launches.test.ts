/*
 * A session that sends one launch with its result after the other asks the proxy once for each, and names no
 * settings. Nobody should see a difference but in time, and nothing that changes a setting may go unnoticed.
 */
import { expect } from 'chai';
import { serialize } from 'pg-protocol';
import { eventually } from '../support/eventually.ts';
import { Gate, MANY_ROWS, ROWS_BEFORE_GATE } from '../support/gate.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';
import { fieldsOf, RawClient, type RawMessage } from '../support/wire.ts';

const SHOWN = `SELECT current_setting('work_mem')`;
const quoted = (sql: string) => sql.replaceAll("'", "''");
const READING = 'SELECT * FROM pg_background_result(pg_background_launch($1)) AS (x text)';
const reading = (sql: string, columns = 'x text') =>
  `SELECT * FROM pg_background_result(pg_background_launch('${quoted(sql)}')) AS (${columns})`;

describe('plain launches in a row', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    // Long: what is asked is counted.
    proxy = await TestProxy.startInstalled({
      launchPatienceMs: 60_000,
      unchangedSettingsMs: 60_000,
    });
    const direct = await proxy.database.direct();
    await direct.query(`CREATE FUNCTION sets(n int) RETURNS bool LANGUAGE plpgsql AS $$
        BEGIN PERFORM set_config('work_mem', n || 'MB', false); RETURN true; END $$;
      CREATE DOMAIN setting AS int CHECK (sets(VALUE));
      CREATE SCHEMA elsewhere;
      CREATE FUNCTION elsewhere.pg_background_result(pid int) RETURNS SETOF record LANGUAGE plpgsql AS $$ BEGIN
        PERFORM sets(13); RETURN QUERY SELECT * FROM public.pg_background_result(pid) AS (x text); END $$;
      CREATE ROLE plain_app LOGIN;
      GRANT pgbackground_executor TO plain_app;
      CREATE FUNCTION secret_of_owner(OUT pid int, OUT word text) LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        pid := pg_background_launch('SELECT ''the word''');
        SELECT x INTO word FROM pg_background_result(pid) AS (x text); END $$`);
  });
  beforeEach(async () => {
    client = await proxy.connect();
    await makeRow();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const direct = await proxy.database.direct();
    await direct.query('DROP OWNED BY plain_app; DROP ROLE plain_app');
    await proxy.stop();
  });

  const plain = (sql = SHOWN, columns?: string) => client.rows(reading(sql, columns));
  const prepared = (sql = SHOWN) => client.rows(READING, [sql]);
  /** So many that the session counts as one that sends nothing else. */
  const makeRow = async () => {
    for (let time = 0; time < 3; time++) expect(await plain()).to.deep.equal([['4MB']]);
  };

  let countedLaunches = 0;

  /** How often the functions of the extension were called in sessions that count, once all launches there are: backends tell late. */
  async function countCalls() {
    const direct = await proxy.database.direct();
    let found = new Map<string, number>();
    await eventually(async () => {
      const { rows } = await direct.query<{ name: string; calls: string }>(
        `SELECT funcname AS name, calls FROM pg_stat_user_functions WHERE schemaname = 'pgbackground'`,
      );
      found = new Map(rows.map(({ name, calls }) => [name, Number(calls)]));
      expect(found.get('launch') ?? 0).to.equal(countedLaunches);
    });
    return { questions: found.get('call') ?? 0, looks: found.get('settings_digest') ?? 0 };
  }

  /** How often they are called by plain launches of these, in a session of their own, which asks for them in this way. */
  async function callsOf(
    launched: readonly string[],
    ask = (by: TestClient, sql: string): Promise<unknown> => by.rows(reading(sql)),
  ) {
    const before = await countCalls();
    const counted = await proxy.connect({ options: '-c track_functions=all' });
    const [[pid] = []] = await counted.rows('SELECT pg_backend_pid()');
    for (const sql of launched) await ask(counted, sql);
    await counted.end();
    // Its backend tells the last of what it has counted before it is gone, and not all at once.
    const direct = await proxy.database.direct();
    await eventually(async () => {
      const { rows } = await direct.query('SELECT FROM pg_stat_activity WHERE pid = $1', [pid]);
      expect(rows, 'the backend is gone').to.have.length(0);
    });
    countedLaunches += launched.length;
    const { questions, looks } = await countCalls();
    return { questions: questions - before.questions, looks: looks - before.looks };
  }

  const ROW = [SHOWN, SHOWN, SHOWN] as const;
  const LONG = `${MANY_ROWS} UNION ALL SELECT '' || pg_sleep(0.05)`;
  const waysToAsk: Readonly<Record<string, (by: TestClient, sql: string) => Promise<unknown>>> = {
    'by simple queries': (by, sql) => by.rows(reading(sql)),
    'by the unnamed statement': (by, sql) => by.rows(READING, [sql]),
    'by a prepared statement': (by, sql) =>
      by.query({ name: 'read', text: READING, values: [sql] }),
    'in all these ways in turn': (() => {
      let turn = 0;
      return (by: TestClient, sql: string) =>
        turn++ % 2 === 0 ? by.rows(reading(sql)) : by.rows(READING, [sql]);
    })(),
  };
  for (const [how, ask] of Object.entries(waysToAsk)) {
    it(`ask once each, and do not look through the settings, ${how}`, async () => {
      const three = await callsOf(ROW, ask);
      const eight = await callsOf([...ROW, SHOWN, SHOWN, SHOWN, SHOWN, SHOWN], ask);
      expect(eight).to.deep.equal({ questions: three.questions + 5, looks: three.looks });
    });

    it(`ask once also where the worker goes on behind its first rows, ${how}`, async () => {
      const three = await callsOf(ROW, ask);
      const four = await callsOf([...ROW, LONG], ask);
      expect(four).to.deep.equal({ questions: three.questions + 1, looks: three.looks });
    });
  }

  describe('give', () => {
    const results: readonly [what: string, sql: string, columns: string, rows: unknown[][]][] = [
      ['a row', 'SELECT 1', 'x int', [[1]]],
      ['no row', 'SELECT 1 WHERE false', 'x int', []],
      ['many rows', 'SELECT g FROM generate_series(1, 5) AS g', 'x int', [[1], [2], [3], [4], [5]]],
      ['columns and nulls', `SELECT 1, NULL, 'ä'`, 'a int, b text, c text', [[1, null, 'ä']]],
      ['the rows of the last statement', 'SELECT 1; SELECT 2', 'x int', [[2]]],
      ['command tags', 'CREATE TEMP TABLE tagged (n int)', 'x text', [['CREATE TABLE']]],
      ['a type that is read as text', 'SELECT 1::int8', 'x text', [['1']]],
      ['a domain as its base type', `SELECT 3::setting`, 'x int', [[3]]],
      ['more than a packet', `SELECT repeat('x', 9000)`, 'x text', [['x'.repeat(9000)]]],
      ['what takes longer', `SELECT 1 FROM pg_sleep(0.05)`, 'x int', [[1]]],
    ];
    for (const [what, sql, columns, rows] of results) {
      it(what, async () => {
        for (let time = 0; time < 3; time++) expect(await plain(sql, columns)).to.deep.equal(rows);
        expect(await plain()).to.deep.equal([['4MB']]);
      });
    }

    it('the count of their rows in the tag', async () => {
      const raw = await RawClient.login(proxy.port, {
        user: 'postgres',
        database: proxy.database.name,
      });
      const tags: (string | undefined)[] = [];
      for (let time = 0; time < 4; time++) {
        const answer = await raw.query(reading('SELECT generate_series(1, 3)', 'x int'));
        expect(answer.map(({ type }) => type).join('')).to.equal('TDDDCZ');
        tags.push(answer.find(({ type }) => type === 'C')?.body.toString());
      }
      raw.socket.destroy();
      expect(new Set(tags)).to.deep.equal(new Set(['SELECT 3\0']));
    });

    it('the error of a worker, and go on', async () => {
      const error = await client.error(reading('SELECT 1/0', 'x int'));
      expect(error.code).to.equal('22012');
      expect(await plain('SELECT 1', 'x int')).to.deep.equal([[1]]);
    });

    it('the refusal of a wrong column list, and keep the result', async () => {
      const error = await client.error(reading('SELECT 1, 2', 'x int'));
      expect(error.code).to.equal('42804');
      const listed = 'SELECT count(*)::int FROM pg_background_list_v2() AS (pid int)';
      expect(await client.value(listed)).to.equal(1);
    });

    it('the notices of a worker', async () => {
      await plain(`DO $$ BEGIN RAISE NOTICE 'from afar'; END $$`);
      expect(client.notices.map(({ message }) => message)).to.include('from afar');
    });

    it('in a transaction block what they give outside', async () => {
      await client.query('BEGIN');
      await makeRow();
      await client.query('COMMIT');
      await makeRow();
    });

    it('no handle to a later statement', async () => {
      const listed = 'SELECT count(*)::int FROM pg_background_list_v2() AS (pid int)';
      expect(await client.value(listed)).to.equal(0);
      const stats = await client.rows(
        'SELECT workers_launched::int, workers_completed::int FROM pg_background_stats_v2()',
      );
      expect(stats).to.deep.equal([[3, 3]]);
    });
  });

  describe('give, in the call that launches,', () => {
    let gate: Gate;
    let raw: RawClient;

    beforeEach(async () => {
      gate = new Gate(await proxy.database.direct());
      await gate.close();
      raw = await RawClient.login(proxy.port, { user: 'postgres', database: proxy.database.name });
      for (let time = 0; time < 3; time++) await raw.query(reading(SHOWN));
    });
    afterEach(async () => {
      await gate.open();
      raw.socket.destroy();
    });

    const begin = async (sql: string) => {
      raw.socket.write(serialize.query(reading(sql)));
      await raw.until('D');
    };
    const cancel = async () =>
      (await proxy.database.direct()).query('SELECT pg_cancel_backend($1)', [raw.pid]);
    const handles = async () => {
      const [, row] = await raw.query('SELECT count(*) FROM pg_background_list_v2() AS (pid int)');
      return Number(row?.body.subarray(6).toString());
    };
    const typesOf = (messages: readonly { type: string }[]) =>
      messages.map(({ type }) => type).join('');

    it('the first rows of a worker that goes on', async () => {
      await begin(ROWS_BEFORE_GATE);
      await gate.open();
      const answer = await raw.until('Z');
      expect(typesOf(answer)).to.match(/^D+CZ$/);
      expect(answer.at(-2)?.body.toString()).to.equal('SELECT 101\0');
    });

    it('more rows than a packet holds', async () => {
      const answer = await raw.query(
        reading(`SELECT repeat('x', 1000) FROM generate_series(1, 5000)`),
      );
      expect(typesOf(answer)).to.match(/^TD{5000}CZ$/);
      expect(answer.at(-2)?.body.toString()).to.equal('SELECT 5000\0');
    });

    it('an error behind rows, which ends handle and result', async () => {
      await begin(
        `${ROWS_BEFORE_GATE} UNION ALL SELECT '' || 1/(g-g) FROM generate_series(1, 1) AS g`,
      );
      await gate.open();
      const answer = await raw.until('Z');
      expect(typesOf(answer)).to.match(/^D{100}EZ$/);
      const error = fieldsOf(answer.at(-2) as RawMessage);
      expect(error).to.include({ C: '22012', M: 'division by zero' });
      expect(error['W']).to.match(/background worker, pid \d+/);
      expect(await handles()).to.equal(0);
    });

    it('the notices between rows', async () => {
      await raw.query(`CREATE OR REPLACE FUNCTION says(n int) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN IF n % 100 = 0 THEN RAISE NOTICE 'at %', n; END IF; RETURN repeat('x', 1000); END $$`);
      for (let time = 0; time < 3; time++) await raw.query(reading(SHOWN));
      await begin(`${ROWS_BEFORE_GATE} UNION ALL SELECT says(n) FROM generate_series(1, 300) AS n`);
      await gate.open();
      expect(typesOf(await raw.until('Z'))).to.match(/^D{199}(ND{100}){2}NDCZ$/);
    });

    it('nothing behind an error when they are cancelled, and the worker goes on', async () => {
      await raw.query('CREATE TABLE IF NOT EXISTS went_on (n int)');
      for (let time = 0; time < 3; time++) await raw.query(reading(SHOWN));
      await begin(`INSERT INTO went_on VALUES (1); ${ROWS_BEFORE_GATE}`);
      await cancel();
      const answer = await raw.until('Z');
      expect(typesOf(answer)).to.match(/^D*EZ$/);
      expect(fieldsOf(answer.at(-2) as RawMessage)['C']).to.equal('57014');
      expect(await handles()).to.equal(0);
      await gate.open();
      const direct = await proxy.database.direct();
      await eventually(async () => {
        const { rows } = await direct.query('TABLE went_on');
        expect(rows).to.have.length(1);
      });
    });

    it('nothing behind an error when their time is over', async () => {
      await raw.query('CREATE TABLE IF NOT EXISTS untimed (n int)');
      await raw.query(`SET statement_timeout = '3s'`);
      for (let time = 0; time < 3; time++) await raw.query(reading(SHOWN));
      raw.socket.write(serialize.query(reading(`SET statement_timeout = 0; ${ROWS_BEFORE_GATE}`)));
      const answer = await raw.until('Z');
      expect(typesOf(answer)).to.match(/^T?D*EZ$/);
      expect(fieldsOf(answer.at(-2) as RawMessage)['C']).to.equal('57014');
      expect(await handles()).to.equal(0);
    });

    it('the rows of a worker that is terminated, and why', async () => {
      await begin(ROWS_BEFORE_GATE);
      await gate.untilWaiting(1);
      const direct = await proxy.database.direct();
      await direct.query(
        `SELECT pg_terminate_backend(pid) FROM pg_locks
          WHERE locktype = 'advisory' AND NOT granted AND pid <> $1
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
        [raw.pid],
      );
      const answer = await raw.until('Z');
      expect(typesOf(answer)).to.match(/^D*EZ$/);
      expect(fieldsOf(answer.at(-2) as RawMessage)['C']).to.equal('57P01');
      expect(await handles()).to.equal(0);
    });

    it('what was asked behind them its own answer', async () => {
      raw.socket.write(
        Buffer.concat([
          serialize.query(reading(ROWS_BEFORE_GATE)),
          serialize.query(`SELECT 'behind'`),
          serialize.query(reading(SHOWN)),
        ]),
      );
      await gate.untilWaiting(1);
      await gate.open();
      expect(typesOf(await raw.until('Z'))).to.equal(`T${'D'.repeat(101)}CZ`);
      expect(typesOf(await raw.until('Z'))).to.equal('TDCZ');
      expect(typesOf(await raw.until('Z'))).to.equal('TDCZ');
    });

    it('what the next one gives when the client has gone in the midst of rows', async () => {
      await begin(ROWS_BEFORE_GATE);
      raw.socket.destroy();
      await gate.open();
      expect(await plain()).to.deep.equal([['4MB']]);
    });
  });

  it('give the same where workers take longer than a launch waits', async () => {
    const hasty = await TestProxy.inFrontOf(proxy.database, { launchPatienceMs: 0 });
    try {
      const by = await hasty.connect();
      for (let time = 0; time < 5; time++) {
        expect(await by.rows(reading(SHOWN))).to.deep.equal([['4MB']]);
        expect(await by.rows(READING, [SHOWN])).to.deep.equal([['4MB']]);
      }
      expect(await by.rows(reading(MANY_ROWS))).to.have.length(100);
      const error = await by.error(reading('SELECT 1/0', 'x int'));
      expect(error.code).to.equal('22012');
    } finally {
      await hasty.stop();
    }
  });

  describe('see a setting', () => {
    const changes: Readonly<Record<string, string>> = {
      'that SET has changed': `SET work_mem = '9MB'`,
      'that a SELECT has changed': `SELECT set_config('work_mem', '9MB', false)`,
      'that a block has changed': `DO $$ BEGIN PERFORM set_config('work_mem', '9MB', false); END $$`,
      'that a function has changed': 'SELECT sets(9)',
    };
    for (const [what, change] of Object.entries(changes)) {
      it(what, async () => {
        await client.query(change);
        for (let time = 0; time < 3; time++) expect(await plain()).to.deep.equal([['9MB']]);
        await client.query('RESET work_mem');
        await makeRow();
      });

      it(`${what}, by prepared statements`, async () => {
        for (let time = 0; time < 3; time++) expect(await prepared()).to.deep.equal([['4MB']]);
        await client.query(change);
        for (let time = 0; time < 3; time++) expect(await prepared()).to.deep.equal([['9MB']]);
        await client.query('RESET work_mem');
        expect(await prepared()).to.deep.equal([['4MB']]);
      });
    }

    it('that a statement changes to which SQL has given the name of a plain one', async () => {
      const raw = await RawClient.login(proxy.port, {
        user: 'postgres',
        database: proxy.database.name,
      });
      const ask = async (...messages: Buffer[]) => {
        raw.socket.write(Buffer.concat([...messages, serialize.sync()]));
        const rows = (await raw.until('Z')).filter(({ type }) => type === 'D');
        return rows.map(({ body }) => body.toString('latin1', 6));
      };
      const parse = (name: string) => serialize.parse({ name, text: READING, types: [] });
      const run = (statement: string) =>
        ask(
          serialize.bind({ statement, values: [SHOWN] }),
          serialize.describe({ type: 'P', name: '' }),
          serialize.execute({ portal: '', rows: 0 }),
        );
      await ask(parse('mine'));
      await ask(parse('stolen'));
      await raw.query(`DO $x$ BEGIN EXECUTE 'DEALLOCATE stolen';
        EXECUTE 'PREPARE stolen (text) AS SELECT r.x || left(s, 0) AS x FROM set_config(''work_mem'', ''9MB'', false) AS s,
          LATERAL pg_background_result(pg_background_launch($1 || left(s, 0))) AS r (x text)'; END $x$`);
      for (let time = 0; time < 3; time++) expect(await run('mine')).to.deep.equal(['4MB']);
      expect(await run('stolen')).to.deep.equal(['9MB']);
      expect(await run('mine')).to.deep.equal(['9MB']);
      await raw.end();
    });

    const changesBetween: Readonly<Record<string, (client: RawClient, plain: Buffer) => number>> = {
      'behind a plain one, before that is answered': (raw, plain) => {
        raw.socket.write(Buffer.concat([plain, serialize.query(`SET work_mem = '9MB'`)]));
        return 2;
      },
      'by another statement before the same Sync': (raw, plain) => {
        const withoutSync = plain.subarray(0, -serialize.sync().length);
        raw.socket.write(
          Buffer.concat([
            withoutSync,
            serialize.parse({ name: '', text: `SET work_mem = '9MB'`, types: [] }),
            serialize.bind({}),
            serialize.execute({ portal: '', rows: 0 }),
            serialize.sync(),
          ]),
        );
        return 1;
      },
    };
    for (const [what, between] of Object.entries(changesBetween)) {
      it(`that is changed ${what}`, async () => {
        const raw = await RawClient.login(proxy.port, {
          user: 'postgres',
          database: proxy.database.name,
        });
        const whole = Buffer.concat([
          serialize.parse({ name: '', text: READING, types: [] }),
          serialize.bind({ values: [SHOWN] }),
          serialize.describe({ type: 'P', name: '' }),
          serialize.execute({ portal: '', rows: 0 }),
          serialize.sync(),
        ]);
        const answer = async () =>
          (await raw.until('Z')).find(({ type }) => type === 'D')?.body.toString('latin1', 6);
        for (let time = 0; time < 3; time++) {
          raw.socket.write(whole);
          expect(await answer()).to.equal('4MB');
        }
        for (let left = between(raw, whole); left > 0; left--) await raw.until('Z');
        raw.socket.write(whole);
        expect(await answer()).to.equal('9MB');
        await raw.end();
      });
    }

    it('that was changed by the extended protocol', async () => {
      await client.query(`SELECT set_config('work_mem', $1, false)`, ['9MB']);
      expect(await plain()).to.deep.equal([['9MB']]);
      await client.query(`SELECT set_config('work_mem', $1, false)`, ['10MB']);
      expect(await prepared()).to.deep.equal([['10MB']]);
    });

    it('that a transaction has, and no longer', async () => {
      await client.query(`BEGIN; SET LOCAL work_mem = '9MB'`);
      for (let time = 0; time < 3; time++) expect(await plain()).to.deep.equal([['9MB']]);
      await client.query('COMMIT');
      await makeRow();
    });

    it('that a function of the same name has changed', async () => {
      await client.query('SET search_path = elsewhere, public');
      await plain();
      for (let time = 0; time < 3; time++) expect(await plain()).to.deep.equal([['13MB']]);
    });

    it('that is changed between any two of them', async () => {
      for (let n = 5; n < 12; n++) {
        await client.query(`SET work_mem = '${n}MB'`);
        for (let time = 0; time <= n % 4; time++)
          expect(await plain(), `${n}`).to.deep.equal([[`${n}MB`]]);
      }
    });

    it('that reading a domain has changed', async () => {
      // Refused as ever, and rolled back; caught, it is not.
      const refused = await client.error(reading('SELECT 9', 'x setting'));
      expect(refused.code).to.equal('42804');
      await client.query('CREATE DOMAIN pg_temp.int4 AS int CHECK (sets(VALUE))');
      await makeRow();
      const hidden = await client.error(reading('SELECT 9', 'x int4'));
      expect(hidden.code).to.equal('42804');
      await makeRow();
    });

    it('of another role, after SET ROLE', async () => {
      await client.query('SET ROLE plain_app');
      for (let time = 0; time < 3; time++)
        expect(await plain('SELECT current_user')).to.deep.equal([['plain_app']]);
      await client.query('RESET ROLE');
      expect(await plain('SELECT current_user')).to.deep.equal([['postgres']]);
    });
  });

  it('cannot be pretended to a function that runs as another role', async () => {
    const direct = await proxy.database.direct();
    const attacker = await proxy.connect({ user: 'plain_app' });
    const call = 'SELECT pid, word FROM secret_of_owner()';
    const refused = await attacker.error(call);
    expect(refused.code, 'no credentials for the owner are stored here').to.equal('42501');
    // As the owner itself, where the same text would make the result vanish if it were believed.
    await direct.query('ALTER FUNCTION secret_of_owner() OWNER TO plain_app');
    const [[pid] = []] = await attacker.rows(call);
    await attacker.query(`SELECT set_config('pgbg_proxy.streamed', $1, false)`, [
      `${String(pid)} x`,
    ]);
    expect(await attacker.rows(call)).to.deep.equal([[pid, 'the word']]);
  });
});
