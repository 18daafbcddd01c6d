import { expect } from 'chai';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const SETTINGS = [
  ['pg_background.max_workers', '16', '3'],
  ['pg_background.default_queue_size', '64kB', '256kB'],
  ['pg_background.worker_timeout', '0', '5min'],
] as const;

/** The settings of pg_background, which no server knows, and custom settings in workers. */
describe('the settings pg_background.*', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled({ customSettings: ['app.listed'] });
    await (
      await proxy.connect()
    ).query('CREATE ROLE app LOGIN; GRANT pgbackground_executor TO app');
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    await (await proxy.connect()).query('DROP ROLE app');
    await proxy.stop();
  });

  const show = (name: string, by = client) => by.value(`SHOW ${name}`);

  for (const [name, fallback, other] of SETTINGS) {
    describe(name, () => {
      it('has its default before the first call', async () => {
        expect(await show(name)).to.equal(fallback);
        expect(await client.value('SELECT current_setting($1)', [name])).to.equal(fallback);
      });

      it('shows what was SET, and its default again after RESET', async () => {
        await client.query(`SET ${name} = '${other}'`);
        expect(await show(name)).to.equal(other);
        await client.query(`RESET ${name}`);
        expect(await show(name)).to.equal(fallback);
      });

      it('is back at its default after RESET ALL and DISCARD ALL', async () => {
        for (const statement of ['RESET ALL', 'DISCARD ALL']) {
          await client.query(`SET ${name} = '${other}'`);
          await client.query(statement);
          expect(await show(name), statement).to.equal(fallback);
        }
      });

      it('is SET LOCAL for one transaction', async () => {
        await client.query(`BEGIN; SET LOCAL ${name} = '${other}'`);
        expect(await show(name)).to.equal(other);
        await client.query('COMMIT');
        expect(await show(name)).to.equal(fallback);
      });

      it('goes back with a transaction that is rolled back', async () => {
        await client.query(`BEGIN; SET ${name} = '${other}'; ROLLBACK`);
        expect(await show(name)).to.equal(fallback);
      });

      it('is what ALTER ROLE … SET says, in all new sessions, and after RESET', async () => {
        await client.query(`ALTER ROLE app SET ${name} = '${other}'`);
        for (let session = 0; session < 2; session++) {
          const app = await proxy.connect({ user: 'app' });
          expect(await show(name, app)).to.equal(other);
          await app.query(`SET ${name} = '${fallback}'; RESET ${name}`);
          expect(await show(name, app)).to.equal(other);
        }
        await client.query(`ALTER ROLE app RESET ${name}`);
        expect(await show(name, await proxy.connect({ user: 'app' }))).to.equal(fallback);
      });

      it('is what ALTER DATABASE … SET says', async () => {
        const { name: database } = proxy.database;
        await client.query(`ALTER DATABASE ${database} SET ${name} = '${other}'`);
        expect(await show(name, await proxy.connect())).to.equal(other);
        await client.query(`ALTER DATABASE ${database} RESET ${name}`);
        expect(await show(name, await proxy.connect())).to.equal(fallback);
      });

      it('is what ALTER ROLE … IN DATABASE … SET says there, and nowhere else', async () => {
        await client.query(`ALTER ROLE app IN DATABASE postgres SET ${name} = '${other}'`);
        const elsewhere = await proxy.connect({ user: 'app', database: 'postgres' });
        expect(await show(name, elsewhere)).to.equal(other);
        expect(await show(name, await proxy.connect({ user: 'app' }))).to.equal(fallback);
        await client.query(`ALTER ROLE app IN DATABASE postgres RESET ${name}`);
        await elsewhere.end();
      });

      it('is what the client says in its startup packet', async () => {
        const spoken = await proxy.connect({ options: `-c ${name}=${other}` });
        expect(await show(name, spoken)).to.equal(other);
      });

      it('is inherited by workers', async () => {
        await client.query(`SET ${name} = '${other}'`);
        expect(
          await client.rows(
            `SELECT * FROM pg_background_result(pg_background_launch('SHOW ${name}')) AS (value text)`,
          ),
        ).to.deep.equal([[other]]);
      });
    });
  }

  describe('a value', () => {
    const launch = `SELECT pg_background_launch('SELECT 1')`;
    const refused = [
      [
        'max_workers',
        '0',
        '0 is outside the valid range for parameter "pg_background.max_workers" (1 .. 1000)',
      ],
      [
        'max_workers',
        '1001',
        '1001 is outside the valid range for parameter "pg_background.max_workers" (1 .. 1000)',
      ],
      [
        'default_queue_size',
        '10',
        '10 B is outside the valid range for parameter "pg_background.default_queue_size" (64 B .. 268435456 B)',
      ],
      [
        'default_queue_size',
        '257MB',
        '269484032 B is outside the valid range for parameter "pg_background.default_queue_size" (64 B .. 268435456 B)',
      ],
      [
        'worker_timeout',
        '-1',
        '-1 ms is outside the valid range for parameter "pg_background.worker_timeout" (0 ms .. 2147483647 ms)',
      ],
      ['max_workers', 'many', 'invalid value for parameter "pg_background.max_workers": "many"'],
      [
        'worker_timeout',
        '5 parsecs',
        'invalid value for parameter "pg_background.worker_timeout": "5 parsecs"',
      ],
    ] as const;
    for (const [name, value, message] of refused) {
      it(`${value} of ${name} is refused when it is used`, async () => {
        await client.query(`SET pg_background.${name} = '${value}'`);
        expect(await client.error(launch)).to.include({ code: '22023', message });
        await client.query(`RESET pg_background.${name}`);
        expect(await client.value(launch)).to.be.a('number');
      });
    }

    for (const [value, bytes] of [
      ['128', 128],
      ['256kB', 262144],
      ['256KB', 262144],
      ['1MB', 1048576],
    ] as const) {
      it(`${value} of default_queue_size is ${bytes} bytes`, async () => {
        await client.query(`SET pg_background.default_queue_size = '${value}'`);
        await client.query(launch);
        expect(
          await client.value(
            'SELECT queue_size FROM pg_background_list_v2() AS (pid int, cookie bigint, at timestamptz, by oid, queue_size int)',
          ),
        ).to.equal(bytes);
      });
    }

    it('of max_workers is told by pg_background_stats_v2', async () => {
      await client.query('SET pg_background.max_workers = 7');
      expect(await client.value('SELECT max_workers FROM pg_background_stats_v2()')).to.equal(7);
    });

    it('of worker_timeout may have a unit', async () => {
      await client.query(`SET pg_background.worker_timeout = '0.05s'`);
      expect(
        await client.error(
          `SELECT * FROM pg_background_result(pg_background_launch('SELECT pg_sleep(60)')) AS (r text)`,
        ),
      ).to.include({ code: '57014', message: 'canceling statement due to statement timeout' });
    });
  });

  describe('a custom setting', () => {
    const inWorker = (sql: string, by = client) =>
      by.rows(`SELECT * FROM pg_background_result(pg_background_launch($1)) AS (value text)`, [
        sql,
      ]);

    it('is inherited when the SQL names it in quotes', async () => {
      await client.query(`SET my.tenant = 'it''s 42'`);
      expect(await inWorker(`SELECT current_setting('my.tenant')`)).to.deep.equal([["it's 42"]]);
    });

    it('is inherited when the SQL shows it', async () => {
      await client.query(`SET my.tenant = '42'`);
      expect(await inWorker('SHOW my.tenant')).to.deep.equal([['42']]);
    });

    it('is inherited as SET LOCAL left it', async () => {
      await client.query(`SET my.tenant = '1'; BEGIN; SET LOCAL my.tenant = '2'`);
      expect(await inWorker(`SELECT current_setting('my.tenant')`)).to.deep.equal([['2']]);
      await client.query('COMMIT');
    });

    const hidden = (name: string) =>
      `SELECT current_setting(reverse('${[...name].reverse().join('')}'), true)`;

    it('is inherited wherever it is used when the operator lists it', async () => {
      await client.query(`SET app.listed = '42'`);
      expect(await inWorker(hidden('app.listed'))).to.deep.equal([['42']]);
    });

    it('is inherited wherever it is used when it was in the startup packet', async () => {
      const spoken = await proxy.connect({ options: '-c my.tenant=42' });
      await spoken.query(`SET my.tenant = '43'`);
      expect(await inWorker(hidden('my.tenant'), spoken)).to.deep.equal([['43']]);
    });

    it('does not reach the next worker, where it was never set', async () => {
      await client.query(`SET app.listed = '42'`);
      await inWorker('SELECT 1');
      await client.end();
      client = await proxy.connect();
      expect(await inWorker(hidden('app.listed'))).to.deep.equal([[null]]);
    });
  });
});
