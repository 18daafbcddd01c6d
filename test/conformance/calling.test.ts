/*
 * Calling the functions of pg_background: arguments by name, what a NULL argument does, and what
 * columns a call has on the wire.
 */
import { expect } from 'chai';
import { heldPids, launch, launchHandle, LIST_COLUMNS } from '../support/background.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';
import { columnsOf, valuesOf } from '../support/row-messages.ts';
import { RawClient, type RawMessage } from '../support/wire.ts';

describe('a call of pg_background', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (await proxy.connect()).query('CREATE ROLE calling_user');
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    await (await proxy.connect()).query('DROP ROLE calling_user');
    await proxy.stop();
  });

  describe('named arguments', () => {
    for (const launcher of ['launch', 'launch_v2', 'submit_v2']) {
      it(`sql and queue_size are taken by pg_background_${launcher}`, async () => {
        await client.query(
          `SELECT pg_background_${launcher}(queue_size => 4711, sql => 'SELECT 1')`,
        );
        expect(
          await client.rows(
            `SELECT queue_size, sql_preview FROM pg_background_list_v2() AS (${LIST_COLUMNS})`,
          ),
        ).to.deep.equal([[4711, 'SELECT 1']]);
      });
    }

    it('pid is taken by pg_background_result', async () => {
      const pid = await launch(client, 'SELECT 1');
      expect(
        await client.rows('SELECT * FROM pg_background_result(pid => $1) AS (n int)', [pid]),
      ).to.deep.equal([[1]]);
    });

    it('pid is taken by pg_background_detach', async () => {
      const pid = await launch(client, 'SELECT 1');
      await client.query('SELECT pg_background_detach(pid => $1)', [pid]);
      expect(await heldPids(client)).to.deep.equal([]);
    });

    for (const [call, expected] of [
      ['SELECT * FROM pg_background_result_v2(cookie => $2, pid => $1) AS (n text)', ['']],
      ['SELECT pg_background_detach_v2(cookie => $2, pid => $1)', ['']],
      ['SELECT pg_background_cancel_v2(cookie => $2, pid => $1)', ['']],
      ['SELECT pg_background_cancel_v2_grace(grace_ms => 0, cookie => $2, pid => $1)', ['']],
      ['SELECT pg_background_wait_v2(cookie => $2, pid => $1)', ['']],
      [
        'SELECT pg_background_wait_v2_timeout(timeout_ms => 60000, cookie => $2, pid => $1)',
        [true],
      ],
      ['SELECT * FROM pg_background_get_progress_v2(cookie => $2, pid => $1)', [7, 'seven']],
    ] as const) {
      it(`are taken by ${call}`, async () => {
        const handle = await launchHandle(
          client,
          `SELECT pg_background_progress(msg => 'seven', pct => 7)`,
        );
        await client.query('SELECT pg_background_wait_v2($1, $2)', [...handle]);
        expect(await client.rows(call, [...handle])).to.deep.equal([expected]);
      });
    }

    for (const helper of ['grant', 'revoke']) {
      it(`are taken by ${helper}_pg_background_privileges`, async () => {
        expect(
          await client.value(
            `SELECT ${helper}_pg_background_privileges(print_commands => false, user_name => 'calling_user')`,
          ),
        ).to.equal(true);
        await client.query(`SELECT revoke_pg_background_privileges('calling_user')`);
      });
    }
  });

  describe('a NULL argument', () => {
    for (const call of [
      `pg_background_launch(NULL)`,
      `pg_background_launch(NULL, 65536)`,
      `pg_background_launch('SELECT 1', NULL)`,
      `pg_background_launch_v2(NULL)`,
      `pg_background_launch_v2('SELECT 1', NULL)`,
      `pg_background_submit_v2(NULL)`,
      `pg_background_submit_v2('SELECT 1', queue_size => NULL)`,
    ]) {
      it(`makes the call give NULL and launch nothing: ${call}`, async () => {
        expect(await client.rows(`SELECT ${call}`)).to.deep.equal([[null]]);
        expect(
          await client.value('SELECT workers_launched FROM pg_background_stats_v2()'),
        ).to.equal('0');
      });
    }

    for (const launcher of ['launch_v2', 'submit_v2']) {
      it(`makes pg_background_${launcher} in FROM give one row of NULLs`, async () => {
        expect(await client.rows(`SELECT * FROM pg_background_${launcher}(NULL)`)).to.deep.equal([
          [null, null],
        ]);
      });
    }

    it('makes pg_background_result give no rows', async () => {
      expect(
        await client.rows('SELECT * FROM pg_background_result(NULL) AS (n int)'),
      ).to.deep.equal([]);
    });

    it('makes pg_background_result_v2 give no rows and keep the result', async () => {
      const [pid, cookie] = await launchHandle(client, 'SELECT 1');
      const read = (...handle: unknown[]) =>
        client.rows('SELECT * FROM pg_background_result_v2($1, $2) AS (n int)', handle);
      expect(await read(pid, null)).to.deep.equal([]);
      expect(await read(null, cookie)).to.deep.equal([]);
      expect(await read(pid, cookie)).to.deep.equal([[1]]);
    });

    it('makes pg_background_detach give NULL', async () => {
      expect(await client.rows('SELECT pg_background_detach(NULL)')).to.deep.equal([[null]]);
    });

    for (const call of [
      'pg_background_detach_v2($1, NULL * $2::int8)',
      'pg_background_cancel_v2($1, NULL * $2::int8)',
      'pg_background_cancel_v2(NULL * $1::int4, $2)',
      'pg_background_cancel_v2_grace($1, $2, NULL)',
      'pg_background_wait_v2($1, NULL * $2::int8)',
      'pg_background_wait_v2_timeout($1, $2, NULL)',
    ]) {
      it(`makes the call give NULL and leave the worker alone: ${call}`, async () => {
        const handle = await launchHandle(client, 'SELECT pg_sleep(60)');
        expect(await client.rows(`SELECT ${call}`, [...handle])).to.deep.equal([[null]]);
        expect(
          await client.rows(`SELECT pid, state FROM pg_background_list_v2() AS (${LIST_COLUMNS})`),
        ).to.deep.equal([[handle[0], 'running']]);
        await client.query('SELECT pg_background_cancel_v2($1, $2)', [...handle]);
      });
    }

    for (const call of [
      'pg_background_get_progress_v2(NULL, NULL)',
      'pg_background_get_progress_v2(NULL, 1)',
      'pg_background_get_progress_v2(1, NULL)',
    ]) {
      it(`makes the call give NULL: ${call}`, async () => {
        expect(await client.rows(`SELECT ${call}`)).to.deep.equal([[null]]);
        expect(await client.rows(`SELECT * FROM ${call}`)).to.deep.equal([[null, null]]);
      });
    }

    for (const [call, expected] of [
      [`pg_background_progress(NULL, 'begun')`, [0, 'begun']],
      [`pg_background_progress(5, NULL)`, [5, '']],
      [`pg_background_progress(6)`, [6, '']],
    ] as const) {
      it(`is stored as 0 or as an empty text by ${call}`, async () => {
        const handle = await launchHandle(client, `SELECT ${call}`);
        await client.query('SELECT pg_background_wait_v2($1, $2)', [...handle]);
        expect(
          await client.rows('SELECT * FROM pg_background_get_progress_v2($1, $2)', [...handle]),
        ).to.deep.equal([expected]);
      });
    }
  });

  describe('on the wire', () => {
    const INT4 = 23;
    const INT8 = 20;
    const VOID = 2278;
    const BOOL = 16;
    const TEXT = 25;
    const FLOAT8 = 701;
    let raw: RawClient;

    beforeEach(async () => {
      raw = await RawClient.login(proxy.port, { user: 'postgres', database: proxy.database.name });
    });
    afterEach(() => raw.end());

    /** Runs a query that must give one row, and gives what came for it. */
    async function ask(sql: string): Promise<RawMessage[]> {
      const answer = await raw.query(sql);
      expect(answer.map(({ type }) => type).join('')).to.equal('TDCZ');
      return answer;
    }

    const typeOid = (name: string) => client.value('SELECT $1::regtype::oid::int8::int4', [name]);

    it('pg_background_launch gives one int4 column of its name', async () => {
      const answer = await ask(`SELECT pg_background_launch('SELECT 1')`);
      expect(columnsOf(answer)).to.deep.equal([{ name: 'pg_background_launch', type: INT4 }]);
      expect(valuesOf(answer)[0]).to.match(/^[1-9][0-9]*$/);
    });

    for (const name of ['pg_background_launch_v2', 'pg_background_submit_v2']) {
      it(`${name} gives one column of the composite type in the select list`, async () => {
        const answer = await ask(`SELECT ${name}('SELECT 1')`);
        expect(columnsOf(answer)).to.deep.equal([
          { name, type: await typeOid('pg_background_handle') },
        ]);
        expect(valuesOf(answer)[0]).to.match(/^\([1-9][0-9]*,-?[1-9][0-9]*\)$/);
      });

      it(`${name} gives the columns pid and cookie in FROM`, async () => {
        const answer = await ask(`SELECT * FROM ${name}('SELECT 1')`);
        expect(columnsOf(answer)).to.deep.equal([
          { name: 'pid', type: INT4 },
          { name: 'cookie', type: INT8 },
        ]);
        expect(valuesOf(answer)[0]).to.match(/^[1-9][0-9]*$/);
        expect(valuesOf(answer)[1]).to.match(/^-?[1-9][0-9]*$/);
      });
    }

    for (const [name, more] of [
      ['pg_background_detach_v2', ''],
      ['pg_background_cancel_v2', ''],
      ['pg_background_cancel_v2_grace', ', 0'],
      ['pg_background_wait_v2', ''],
    ] as const) {
      it(`${name} gives an empty string of type void`, async () => {
        const [pid, cookie] = valuesOf(
          await ask(`SELECT * FROM pg_background_launch_v2('SELECT 1')`),
        );
        const answer = await ask(`SELECT ${name}(${pid}, ${cookie}${more})`);
        expect(columnsOf(answer)).to.deep.equal([{ name, type: VOID }]);
        expect(valuesOf(answer)).to.deep.equal(['']);
      });
    }

    it('pg_background_detach gives an empty string of type void', async () => {
      const [pid] = valuesOf(await ask(`SELECT pg_background_launch('SELECT 1')`));
      const answer = await ask(`SELECT pg_background_detach(${pid})`);
      expect(columnsOf(answer)).to.deep.equal([{ name: 'pg_background_detach', type: VOID }]);
      expect(valuesOf(answer)).to.deep.equal(['']);
    });

    it('pg_background_wait_v2_timeout gives a bool', async () => {
      const [pid, cookie] = valuesOf(
        await ask(`SELECT * FROM pg_background_launch_v2('SELECT 1')`),
      );
      const answer = await ask(`SELECT pg_background_wait_v2_timeout(${pid}, ${cookie}, 60000)`);
      expect(columnsOf(answer)).to.deep.equal([
        { name: 'pg_background_wait_v2_timeout', type: BOOL },
      ]);
      expect(valuesOf(answer)).to.deep.equal(['t']);
    });

    it('pg_background_result gives the columns of its column definition list', async () => {
      const answer = await ask(
        `SELECT * FROM pg_background_result(pg_background_launch('SELECT 1, 2::bigint')) AS (a int, "B" bigint)`,
      );
      expect(columnsOf(answer)).to.deep.equal([
        { name: 'a', type: INT4 },
        { name: 'B', type: INT8 },
      ]);
      expect(valuesOf(answer)).to.deep.equal(['1', '2']);
    });

    for (const [call, type, fields] of [
      [
        'pg_background_stats_v2()',
        'pg_background_stats',
        [
          ['workers_launched', INT8],
          ['workers_completed', INT8],
          ['workers_failed', INT8],
          ['workers_canceled', INT8],
          ['workers_active', INT4],
          ['avg_execution_ms', FLOAT8],
          ['max_workers', INT4],
        ],
      ],
      [
        'pg_background_get_progress_v2(1, 1)',
        'pg_background_progress',
        [
          ['progress_pct', INT4],
          ['progress_msg', TEXT],
        ],
      ],
    ] as const) {
      it(`${call} gives one column of type ${type} in the select list, and its fields in FROM`, async () => {
        const name = call.slice(0, call.indexOf('('));
        expect(columnsOf(await ask(`SELECT ${call}`))).to.deep.equal([
          { name, type: await typeOid(type) },
        ]);
        expect(columnsOf(await ask(`SELECT * FROM ${call}`))).to.deep.equal(
          fields.map(([field, oid]) => ({ name: field, type: oid })),
        );
      });
    }
  });
});
