import { expect } from 'chai';
import { LIST_COLUMNS } from '../support/api-functions.ts';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import {
  callOf,
  launchV2,
  listedOf,
  stateOf,
  submitV2,
  tagsOf,
  untilState,
  waitFor,
} from '../support/handles.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

/** Specifies what pg_background_list_v2 tells about the workers of a session, and in which columns. */
describe('pg_background_list_v2', () => {
  let proxy: TestProxy;
  let client: TestClient;
  let gate: Gate;

  before(async () => {
    proxy = await TestProxy.startInstalled();
  });
  beforeEach(async () => {
    client = await proxy.connect();
    gate = new Gate(await proxy.database.direct());
    await gate.close();
  });
  afterEach(async () => {
    await gate.open();
    await proxy.expectNothingLeft();
  });
  after(() => proxy.stop());

  const list = (columns = LIST_COLUMNS, select = '*') =>
    `SELECT ${select} FROM pg_background_list_v2() AS (${columns})`;

  describe('its rows', () => {
    it('are none in a session that has launched nothing', async () => {
      expect(await client.rows(list())).to.deep.equal([]);
    });

    it('are one for each handle', async () => {
      const handles = [
        await launchV2(client, 'SELECT 1'),
        await launchV2(client, WAIT_AT_GATE),
        await launchV2(client, 'SELECT 1/0'),
      ];
      expect(await client.rows(list(LIST_COLUMNS, 'pid, cookie'))).to.have.deep.members(handles);
    });

    it('stay when workers have ended, until their result is read', async () => {
      const handle = await launchV2(client, 'SELECT 1');
      await waitFor(client, handle);
      expect(await stateOf(client, handle)).to.equal('stopped');
      expect(await tagsOf(client, handle)).to.deep.equal([['1']]);
      expect(await client.rows(list())).to.deep.equal([]);
    });

    it('go when the error of a worker is read', async () => {
      const handle = await launchV2(client, 'SELECT 1/0');
      await tagsOf(client, handle).catch(() => undefined);
      expect(await client.rows(list())).to.deep.equal([]);
    });

    it('are those of this session only', async () => {
      await launchV2(client, 'SELECT 1');
      const other = await proxy.connect();
      expect(await other.rows(list())).to.deep.equal([]);
    });

    it('include submitted workers that have ended', async () => {
      const handle = await submitV2(client, 'SELECT 1');
      await waitFor(client, handle);
      expect(await stateOf(client, handle)).to.equal('stopped');
    });
  });

  describe('its columns', () => {
    it('tell all about a worker that runs', async () => {
      const [before] = await client.rows('SELECT clock_timestamp()');
      const handle = await launchV2(client, WAIT_AT_GATE);
      const [row] = await client.rows(
        `${list()} WHERE launched_at BETWEEN $1 AND clock_timestamp()`,
        before,
      );
      expect(row?.toSpliced(2, 1)).to.deep.equal([
        ...handle,
        await client.value('SELECT current_user::regrole::oid'),
        65536,
        'running',
        WAIT_AT_GATE,
        null,
        false,
      ]);
    });

    it('give a worker of pg_background_launch the cookie 0', async () => {
      const pid = await client.value(`SELECT pg_background_launch('SELECT 1')`);
      expect(await client.rows(list(LIST_COLUMNS, 'pid, cookie'))).to.deep.equal([[pid, '0']]);
    });

    const queueSizes: readonly (readonly [setting: string, argument: number, shown: number])[] = [
      ['DEFAULT', 0, 65536],
      ['DEFAULT', -1, 65536],
      ['DEFAULT', 64, 64],
      ['1000', 0, 1000],
      ["'256kB'", 0, 262144],
      ['1000', 5000, 5000],
    ];
    for (const [setting, argument, shown] of queueSizes) {
      it(`show ${shown} for queue_size ${argument} where the default is ${setting}`, async () => {
        await client.query(`SET pg_background.default_queue_size = ${setting}`);
        await client.query(`SELECT pg_background_launch_v2('SELECT 1', ${argument})`);
        expect(await client.value(list(LIST_COLUMNS, 'queue_size'))).to.equal(shown);
      });
    }

    it('name the role that was current at the launch', async () => {
      const direct = await proxy.database.direct();
      await direct.query('CREATE ROLE list_worker; GRANT pgbackground_executor TO list_worker');
      try {
        await client.query('SET ROLE list_worker');
        const handle = await launchV2(client, 'SELECT 1');
        await client.query('RESET ROLE');
        expect(await listedOf(client, handle, 'user_id::regrole::text')).to.deep.equal([
          'list_worker',
        ]);
        await waitFor(client, handle);
      } finally {
        await proxy.disconnectAll();
        await direct.query('DROP ROLE list_worker');
      }
    });

    it('give times that do not depend on the time zone of the session', async () => {
      await launchV2(client, 'SELECT 1');
      const epoch = () => client.value(list(LIST_COLUMNS, 'extract(epoch FROM launched_at)'));
      await client.query(`SET TimeZone = 'UTC'`);
      const inUtc = await epoch();
      await client.query(`SET TimeZone = 'Asia/Kathmandu'`);
      expect(await epoch()).to.equal(inUtc);
    });
  });

  describe('the state of a worker', () => {
    const ends: readonly (readonly [state: string, sql: string, lastError: string | null])[] = [
      ['stopped', 'SELECT 1', null],
      ['stopped', `DO $$ BEGIN RAISE WARNING 'careful'; END $$`, null],
      ['error', 'SELECT 1/0', 'division by zero'],
      ['error', 'SELEC', 'syntax error at or near "SELEC"'],
      ['error', 'BEGIN', 'transaction control statements are not allowed in pg_background'],
    ];
    for (const [state, sql, lastError] of ends) {
      it(`is ${state} after ${sql}, without a look at the result`, async () => {
        const handle = await launchV2(client, sql);
        await waitFor(client, handle);
        expect(await listedOf(client, handle, 'state, last_error, consumed')).to.deep.equal([
          state,
          lastError,
          false,
        ]);
      });
    }

    it('is running, then canceled after pg_background_cancel_v2', async () => {
      const handle = await launchV2(client, WAIT_AT_GATE);
      expect(await stateOf(client, handle)).to.equal('running');
      await client.query(callOf('cancel_v2'), [...handle]);
      await untilState(client, handle, 'canceled');
    });

    it('is one of the clean-up loop of the manual when the worker has ended', async () => {
      const handles = [await launchV2(client, 'SELECT 1'), await launchV2(client, 'SELECT 1/0')];
      for (const handle of handles) await waitFor(client, handle);
      await client.query(
        `SELECT pg_background_detach_v2(pid, cookie)
           FROM pg_background_list_v2() AS (${LIST_COLUMNS}) WHERE state IN ('stopped', 'canceled', 'error')`,
      );
      expect(await client.rows(list())).to.deep.equal([]);
    });
  });

  describe('sql_preview', () => {
    const texts: readonly (readonly [title: string, sql: string, preview: string])[] = [
      ['is the SQL as it stands', '  SELECT\n\t1 -- ü  ', '  SELECT\n\t1 -- ü  '],
      ['holds 120 bytes', `--${'x'.repeat(118)}`, `--${'x'.repeat(118)}`],
      ['is cut at 120 bytes', `--${'x'.repeat(119)}`, `--${'x'.repeat(118)}`],
      ['holds a last character that fits', `--${'x'.repeat(116)}éé`, `--${'x'.repeat(116)}é`],
      ['cuts no character in two', `--${'x'.repeat(117)}éé`, `--${'x'.repeat(117)}`],
      ['cuts no long character in two', `--${'x'.repeat(115)}😀`, `--${'x'.repeat(115)}`],
    ];
    for (const [title, sql, preview] of texts) {
      it(title, async () => {
        const handle = await launchV2(client, sql);
        expect(await listedOf(client, handle, 'sql_preview')).to.deep.equal([preview]);
      });
    }
  });

  describe('last_error', () => {
    const failWith = (message: string) => `DO $$ BEGIN RAISE EXCEPTION '${message}'; END $$`;
    const errorAfter = async (message: string) => {
      const handle = await launchV2(client, failWith(message));
      await waitFor(client, handle);
      return (await listedOf(client, handle, 'last_error'))?.[0];
    };

    it('is the message of the error', async () => {
      expect(await errorAfter('it was not to be, déjà vu')).to.equal('it was not to be, déjà vu');
    });

    it('is cut with three dots within 512 bytes', async () => {
      expect(await errorAfter('x'.repeat(400))).to.equal('x'.repeat(400));
      const cut = String(await errorAfter('x'.repeat(600)));
      expect(cut).to.match(/^x+\.\.\.$/);
      expect(cut.length).to.be.within(500, 512);
    });

    it('cuts no character in two', async () => {
      for (const start of ['', 'x']) {
        expect(await errorAfter(start + 'é'.repeat(400))).to.match(/^x?é+\.\.\.$/);
      }
    });

    it('is NULL while the worker has only raised notices', async () => {
      const handle = await launchV2(
        client,
        `DO $$ BEGIN RAISE NOTICE 'hello'; END $$; ${WAIT_AT_GATE}`,
      );
      await gate.untilWaiting(1);
      expect(await listedOf(client, handle, 'last_error')).to.deep.equal([null]);
    });
  });

  describe('its column definition list', () => {
    const columns = LIST_COLUMNS.split(', ');
    for (let length = 1; length <= columns.length; length++) {
      it(`may be the first ${length} of nine columns`, async () => {
        await launchV2(client, 'SELECT 1');
        const [row] = await client.rows(list(columns.slice(0, length).join(', ')));
        expect(row).to.have.length(length);
      });
    }

    for (const [index, column] of columns.entries()) {
      it(`may give as text, as the server would write it: ${column}`, async () => {
        await launchV2(client, WAIT_AT_GATE);
        const name = column.split(' ')[0];
        const changed = columns.with(index, `${name} text`).join(', ');
        expect(await client.value(list(changed, name))).to.equal(
          (await client.value(list(LIST_COLUMNS, `format('%s', ${name})`))) || null,
        );
      });
    }

    it('may have other names', async () => {
      const [pid] = await launchV2(client, 'SELECT 1');
      expect(await client.rows(list('a int, b bigint'))).to.have.nested.property('[0][0]', pid);
    });

    const wrong = [
      'pid bigint',
      'pid int, cookie int',
      'cookie bigint, pid int',
      'pid int, cookie bigint, launched_at timestamp',
      'pid int, cookie bigint, launched_at text, user_id int',
      'pid varchar',
      `${LIST_COLUMNS}, more int`,
      `${LIST_COLUMNS}, more text`,
    ];
    for (const columnList of wrong) {
      it(`may not be (${columnList.replace(LIST_COLUMNS, 'all nine')})`, async () => {
        const handle = await launchV2(client, 'SELECT 1');
        expect((await client.error(list(columnList))).code).to.equal('42804');
        expect(await client.rows(list(LIST_COLUMNS, 'pid, cookie'))).to.deep.equal([handle]);
      });
    }

    it('must be there', async () => {
      expect((await client.error('SELECT * FROM pg_background_list_v2()')).code).to.equal('42601');
    });
  });

  describe('in a query', () => {
    it('can be filtered, sorted, counted and joined', async () => {
      await launchV2(client, WAIT_AT_GATE);
      await launchV2(client, 'SELECT 2');
      expect(
        await client.rows(
          `SELECT count(*)::int, count(a.pid)::int FROM pg_background_list_v2() AS l(${LIST_COLUMNS})
             LEFT JOIN pg_stat_activity a ON a.pid = l.pid AND a.query = l.sql_preview AND a.state = 'active'`,
        ),
      ).to.deep.equal([[2, 1]]);
    });

    it('can stand in a view', async () => {
      await client.query(`CREATE TEMP VIEW workers AS ${list()}`);
      await launchV2(client, WAIT_AT_GATE);
      expect(await client.rows('SELECT state FROM workers ORDER BY launched_at')).to.deep.equal([
        ['running'],
      ]);
    });
  });
});
