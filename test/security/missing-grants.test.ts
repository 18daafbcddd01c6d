/*
 * Attacks by a role that lacks one of the things that a caller needs: USAGE on the schema, SELECT on
 * the views that sign, EXECUTE on a function. What it has left must not be enough.
 */
import { expect } from 'chai';
import { LIST_COLUMNS, inBackground } from '../support/background.ts';
import { launchOf, partOf, payloadOf, play, sign, signing } from '../support/forgery.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const ROLES = ['lacking_one', 'lacking_all'];
const TAKE = 'INSERT INTO taken VALUES (current_user)';

/** The functions that ask the proxy, in the order of the letters in a signature, and what they take. */
const functions: readonly (readonly [name: string, args: string])[] = [
  ['pg_background_launch', 'text, int'],
  ['pg_background_result', 'int'],
  ['pg_background_detach', 'int'],
  ['pg_background_launch_v2', 'text, int'],
  ['pg_background_submit_v2', 'text, int'],
  ['pg_background_result_v2', 'int, bigint'],
  ['pg_background_detach_v2', 'int, bigint'],
  ['pg_background_cancel_v2', 'int, bigint'],
  ['pg_background_cancel_v2_grace', 'int, bigint, int'],
  ['pg_background_wait_v2', 'int, bigint'],
  ['pg_background_wait_v2_timeout', 'int, bigint, int'],
  ['pg_background_list_v2', ''],
  ['pg_background_stats_v2', ''],
  ['pg_background_progress', 'int, text'],
  ['pg_background_get_progress_v2', 'int, bigint'],
];
const launchers = functions.map(([name]) => name).filter((name) => /launch|submit/.test(name));

describe('a role without all the grants', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    await direct.query(`CREATE ROLE lacking_one LOGIN; CREATE ROLE lacking_all LOGIN;
      CREATE TABLE taken (by text); GRANT INSERT ON taken TO PUBLIC`);
  });
  beforeEach(async () => {
    const direct = await proxy.database.direct();
    await direct.query(`SELECT grant_pg_background_privileges('lacking_one')`);
    client = await proxy.connect({ user: 'lacking_one' });
  });
  afterEach(async () => {
    const direct = await proxy.database.direct();
    await direct.query(`SELECT revoke_pg_background_privileges('lacking_one')`);
    await proxy.expectNothingLeft();
  });
  after(async () => {
    const direct = await proxy.database.direct();
    await direct.query(`DROP OWNED BY ${ROLES.join(', ')}; DROP ROLE ${ROLES.join(', ')}`);
    await proxy.stop();
  });

  const admin = async (sql: string) => (await proxy.database.direct()).query(sql);
  async function expectNothingTaken(): Promise<void> {
    expect((await admin('TABLE taken')).rows).to.deep.equal([]);
    expect(proxy.engine.runningWorkers).to.equal(0);
  }

  it('needs no more than them, or these tests would show nothing', async () => {
    expect(
      (await play(proxy, client, await sign(client, launchOf('SELECT 1')))).isAnswered,
    ).to.equal(true);
    expect(await inBackground(client, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
  });

  for (const name of launchers) {
    it(`launches nothing without SELECT on the views: ${name}`, async () => {
      await admin(
        'REVOKE SELECT ON pgbackground.free_signature, pgbackground.bound_signature FROM lacking_one',
      );
      for (const call of [`SELECT ${name}($1)`, `SELECT pgbackground.launch('${name}', $1, 0)`]) {
        expect(await client.error(call, [TAKE])).to.include({ code: '42501' });
      }
      for (const view of ['free_signature', 'bound_signature'] as const) {
        expect(await client.error(signing(view), ['x'])).to.include({
          code: '42501',
          message: `permission denied for view ${view}`,
        });
      }
      await expectNothingTaken();
    });

    it(`launches nothing without USAGE on schema pgbackground: ${name}`, async () => {
      await admin('REVOKE USAGE ON SCHEMA pgbackground FROM lacking_one');
      expect(await client.error(`SELECT ${name}($1)`, [TAKE])).to.include({
        code: '42501',
        message: 'permission denied for schema pgbackground',
      });
      expect(await client.error(signing(), ['x'])).to.include({ code: '42501' });
      await expectNothingTaken();
    });
  }

  for (const [place, [name, args]] of functions.entries()) {
    it(`cannot sign for a function without EXECUTE on it: ${name}`, async () => {
      await admin(`REVOKE EXECUTE ON FUNCTION ${name}(${args}) FROM lacking_one`);
      const request = await sign(client, payloadOf(name, { sql: TAKE, pid: 1, cookie: '1' }));
      // It lacks this one, and nothing else.
      expect(partOf(request, 'privileges')).to.equal(
        't'.repeat(15).replace(/t/g, (t, at) => (at === place ? 'f' : t)),
      );
      expect((await play(proxy, client, request)).logged).to.deep.equal([
        'callback dropped: a request without the privilege',
      ]);
      await expectNothingTaken();
      if (name === 'pg_background_stats_v2') return;
      expect(await client.value('SELECT workers_launched FROM pg_background_stats_v2()')).to.equal(
        '0',
      );
    });
  }

  it("is not helped by the private functions of another's verb", async () => {
    await admin(
      'REVOKE EXECUTE ON FUNCTION pg_background_launch(text, int), pg_background_list_v2() FROM lacking_one',
    );
    const before = proxy.log.length;
    // The proxy is silent, and the function would give up after its own time.
    await client.query(`SET statement_timeout = '300ms'`);
    expect(
      await client.error(`SELECT pgbackground.launch('pg_background_launch', $1, 0)`, [TAKE]),
    ).to.include({ code: '57014' });
    expect(
      await client.error(`SELECT pgbackground.call('pg_background_list_v2', '{}')`),
    ).to.include({
      code: '57014',
    });
    expect(proxy.log.slice(before)).to.deep.equal(
      Array(2).fill('callback dropped: a request without the privilege'),
    );
    await client.query('RESET statement_timeout');
    await expectNothingTaken();
    expect(
      (await client.error(`SELECT * FROM pg_background_list_v2() AS (${LIST_COLUMNS})`)).code,
    ).to.equal('42501');
  });

  it('launches nothing by pg_read_all_data, which may read the views', async () => {
    await admin('GRANT pg_read_all_data TO lacking_all');
    const reader = await proxy.connect({ user: 'lacking_all' });
    const request = await sign(reader, launchOf(TAKE));
    expect(partOf(request, 'privileges')).to.equal('f'.repeat(15));
    expect((await play(proxy, reader, request)).logged).to.deep.equal([
      'callback dropped: a request without the privilege',
    ]);
    await expectNothingTaken();
    await admin('REVOKE pg_read_all_data FROM lacking_all');
  });

  it('launches nothing after a REVOKE with what it has signed before, once its time is over', async () => {
    const strict = await TestProxy.inFrontOf(proxy.database, { requestLifetimeMs: 100 });
    try {
      const signer = await strict.connect({ user: 'lacking_one' });
      const signed = await sign(signer, launchOf(TAKE));
      await admin(`SELECT revoke_pg_background_privileges('lacking_one')`);
      expect(await signer.error(`SELECT pg_background_launch($1)`, [TAKE])).to.include({
        code: '42501',
      });
      expect(await signer.error(signing(), ['x'])).to.include({ code: '42501' });
      expect(partOf(signed, 'privileges')).to.equal('t'.repeat(15));
      await signer.query('SELECT pg_sleep(0.2)');
      expect((await play(strict, signer, signed)).isAnswered, 'is answered').to.equal(false);
      expect(strict.log.at(-1)).to.include('signed too long ago');
      await expectNothingTaken();
    } finally {
      await strict.stop();
    }
  });
});
