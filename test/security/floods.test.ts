/*
 * Attacks on the proxy by mere quantity: its memory, its log, or the turn of other sessions.
 */
import { expect } from 'chai';
import { serialize } from 'pg-protocol';
import { inBackground } from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { newHeader, payloadOf, signing } from '../support/forgery.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';
import { ProxySockets } from '../support/proxy-sockets.ts';
import { RawClient } from '../support/wire.ts';

const MB = 1024 * 1024;

describe('a flood', () => {
  let proxy: TestProxy;
  let guest: TestClient;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (await proxy.database.direct()).query('CREATE ROLE flooding_guest LOGIN');
  });
  beforeEach(async () => {
    client = await proxy.connect();
    guest = await proxy.connect({ user: 'flooding_guest' });
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    await (await proxy.database.direct()).query('DROP ROLE flooding_guest');
    await proxy.stop();
  });

  /** Runs a loop of RAISE and expects that none of the 400 MB stays, and that everybody goes on. */
  async function expectToStand(raise: string): Promise<void> {
    const before = process.memoryUsage().rss;
    await guest.query(`DO $$ BEGIN FOR i IN 1..4000 LOOP ${raise} END LOOP; END $$`);
    expect(process.memoryUsage().rss - before).to.be.below(200 * MB);
    expect(await guest.value('SELECT 1')).to.equal(1);
    expect(await inBackground(client, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
  }

  const context = `concat('v1,free,', gen_random_uuid(), ',', pg_backend_pid(), ',', i,
    ',67756573,1,ttttttttttttttt,', current_setting('pgbg_proxy.session'))`;
  const header = `CASE WHEN i % 2 = 0 THEN '-' ELSE concat(repeat('A', 16), ',', repeat('0', 64), ',0,1') END`;

  it('of forged requests leaves nothing in memory, and the next call is answered', async () => {
    const before = proxy.log.length;
    await expectToStand(`RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = concat('R ', ${context}, ' ', ${header}, ' ',
      repeat('A', 100000), ' ', repeat('0', 64));`);
    // The vehicle has reached the proxy, and has not filled its log.
    const logged = proxy.log.slice(before).filter((line) => line.startsWith('callback dropped'));
    expect(logged.length).to.be.within(1, 40);
  });

  it('of callbacks that are none leaves nothing in memory, and the next call is answered', async () => {
    const before = proxy.log.length;
    await expectToStand(
      `RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = repeat(chr(65 + i % 26), 100000);`,
    );
    const logged = proxy.log.slice(before);
    expect(new Set(logged)).to.deep.equal(
      new Set(['callback dropped: a message that is none of ours']),
    );
    expect(logged.length).to.be.within(16, 40);
  });

  it('of notices comes through to the client that asked for it, and stays nowhere', async () => {
    let bytes = 0;
    guest.removeAllListeners('notice');
    guest.on('notice', ({ message }) => void (bytes += message?.length ?? 0));
    await expectToStand(`RAISE NOTICE '%', repeat('n', 100000);`);
    expect(bytes).to.equal(4000 * 100_000);
  });

  it('of one callback that never ends is dropped while it comes in', async () => {
    const before = proxy.log.length;
    await guest.query(
      `DO $$ BEGIN RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = repeat('R', 70 * 1024 * 1024); END $$`,
    );
    expect(guest.notices).to.deep.equal([]);
    expect(proxy.log.slice(before).length).to.be.at.most(1);
    expect(await guest.value('SELECT 1')).to.equal(1);
    expect(await inBackground(client, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
  });

  // As long as a function waits for an answer the proxy hears it, though nobody reads what comes with it.
  it('of notices behind a request that stays open waits for a client that does not read', async () => {
    const sockets = new ProxySockets();
    const raw = await RawClient.login(proxy.port, {
      user: 'postgres',
      database: proxy.database.name,
    });
    try {
      const query = async (sql: string) => {
        const row = (await raw.query(sql)).find(({ type }) => type === 'D');
        return row?.body.subarray(6).toString() ?? '';
      };
      const [pid, cookie] = (
        await query(
          `SELECT pid || ' ' || cookie FROM pg_background_launch_v2('SELECT pg_sleep(600)')`,
        )
      ).split(' ');
      const request = await query(
        signing().replaceAll(
          '$1',
          `'${newHeader()} ${payloadOf('pg_background_wait_v2', { pid: Number(pid), cookie })}'`,
        ),
      );
      const direct = await proxy.database.direct();
      const toClient = sockets.peerOf(raw.socket);
      raw.socket.pause();
      raw.socket.write(
        serialize.query(`DO $$ BEGIN RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = '${request}';
          FOR i IN 1..600 LOOP RAISE NOTICE '%', repeat('n', 100000); END LOOP; END $$`),
      );
      await eventually(async () => {
        const { rows } = await direct.query(
          `SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'ClientWrite'`,
          [raw.pid],
        );
        expect(rows, 'the server waits').to.have.length(1);
        expect(toClient?.writableLength, 'kept for the client').to.be.within(4 * MB, 5 * MB);
      });
      raw.socket.resume();
      const answer = await raw.until('Z');
      expect(answer.map(({ type }) => type).join('')).to.equal(`${'N'.repeat(600)}CZ`);
      await query(
        'SELECT pg_background_cancel_v2(pid, cookie) FROM pg_background_list_v2() AS (pid int, cookie bigint)',
      );
      await raw.end();
    } finally {
      raw.socket.destroy();
      sockets.close();
    }
  });
});
