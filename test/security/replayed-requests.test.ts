/*
 * Attacks on the callback channel with requests that are genuine, though not here or not any more:
 * of another session, of a worker, or played again.
 */
import { expect } from 'chai';
import { launch, readResult } from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import {
  expectNothingStarted,
  launchOf,
  play,
  sign,
  textOf,
  takenBy,
  withPart,
  type Request,
} from '../support/forgery.ts';
import { Gate } from '../support/gate.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

/** What each forged request would run. */
const TAKE = 'INSERT INTO taken VALUES (current_user)';

describe('a request that was genuine elsewhere or before', () => {
  let proxy: TestProxy;
  let member: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    await direct.query(`CREATE ROLE replay_member LOGIN; GRANT pgbackground_executor TO replay_member;
      CREATE TABLE taken (by text); GRANT INSERT ON taken TO PUBLIC`);
  });
  beforeEach(async () => {
    member = await proxy.connect({ user: 'replay_member' });
    await (await proxy.database.direct()).query('TRUNCATE taken');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const direct = await proxy.database.direct();
    await direct.query('DROP OWNED BY replay_member; DROP ROLE replay_member');
    await proxy.stop();
  });

  const nothingStarted = (client = member) => expectNothingStarted(proxy, client);

  it("starts nothing when it was signed in another session, for that session's token", async () => {
    const other = await proxy.connect({ user: 'replay_member' });
    const { logged } = await play(proxy, member, await sign(other, launchOf(TAKE)));
    await nothingStarted();
    expect(logged).to.deep.equal(['callback dropped: a request of another session']);
  });

  it('starts nothing when another session has signed it with the token of this one', async () => {
    const other = await proxy.connect({ user: 'replay_member' });
    const token = await member.value('SHOW pgbg_proxy.session');
    await other.query(`SELECT set_config('pgbg_proxy.session', $1, false)`, [token]);
    const { logged } = await play(proxy, member, await sign(other, launchOf(TAKE)));
    expect(logged).to.deep.equal(['callback dropped: a request of another backend']);
    const own = await play(proxy, other, await sign(other, launchOf(TAKE)));
    expect(own.logged).to.deep.equal(['callback dropped: a request of another session']);
    await nothingStarted();
  });

  it('starts nothing when it is played again', async () => {
    const genuine = await sign(member, launchOf('SELECT 2'));
    expect((await play(proxy, member, genuine)).isAnswered).to.equal(true);
    expect((await play(proxy, member, genuine)).logged).to.deep.equal([
      'callback dropped: a request that is not newer than the last',
    ]);
    expect(await member.value('SELECT workers_launched FROM pg_background_stats_v2()')).to.equal(
      '1',
    );
  });

  it('starts nothing when it is older than the last', async () => {
    const held = await sign(member, launchOf(TAKE));
    await nothingStarted();
    expect((await play(proxy, member, held)).logged).to.deep.equal([
      'callback dropped: a request that is not newer than the last',
    ]);
    expect(await takenBy(proxy)).to.deep.equal([]);
  });
  describe('inside a worker', () => {
    for (const [what, forge] of [
      ['is dropped when the session of the worker has signed it', (r: Request) => r],
      [
        "is dropped when it names the worker's backend",
        (r: Request, pid: number) => withPart(r, 'pid', String(pid)),
      ],
    ] as const) {
      it(what, async () => {
        const gate = new Gate(await proxy.database.direct());
        await gate.close();
        const before = proxy.log.length;
        // The pid is known when the worker runs: it raises what it then finds in a table.
        const direct = await proxy.database.direct();
        await direct.query(
          'CREATE TABLE order_book (text text); GRANT SELECT ON order_book TO PUBLIC',
        );
        const pid = await launch(
          member,
          `DO $$ DECLARE forged text; BEGIN PERFORM pg_advisory_xact_lock_shared(4711);
             forged := (SELECT o.text FROM order_book AS o);
             RAISE INFO USING ERRCODE = 'PGBG0', MESSAGE = forged; PERFORM pg_advisory_xact_lock_shared(4712); END $$`,
        );
        await gate.untilWaiting(1);
        const request = forge(await sign(member, launchOf(TAKE)), pid);
        await direct.query('INSERT INTO order_book VALUES ($1)', [textOf(request)]);
        await direct.query('SELECT pg_advisory_lock(4712)');
        await gate.open();
        await eventually(() => {
          expect(proxy.log.slice(before)).to.deep.equal([
            'callback dropped: a request of another session',
          ]);
          return Promise.resolve();
        });
        await direct.query('SELECT pg_advisory_unlock(4712); DROP TABLE order_book');
        expect(await readResult(member, pid)).to.deep.equal([['DO']]);
        expect(member.notices).to.deep.equal([]);
        expect(await takenBy(proxy)).to.deep.equal([]);
      });
    }
  });
});
