import { expect } from 'chai';
import { inBackground, launch } from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { TestProxy } from '../support/proxy.ts';

describe('the pool of a role and database', () => {
  let proxy: TestProxy;

  const startWith = async (settings: Parameters<typeof TestProxy.startInstalled>[0]) =>
    (proxy = await TestProxy.startInstalled(settings));
  afterEach(async () => {
    await proxy.expectNothingLeft();
    await proxy.stop();
  });

  /** The backends that wait for workers; when they began. */
  async function idle(): Promise<string[]> {
    const { rows } = await (
      await proxy.database.direct()
    ).query<{ began: string }>(
      `SELECT pid || ' ' || backend_start AS began FROM pg_stat_activity WHERE datname = current_database()
          AND application_name = 'pg-background-proxy worker' AND state = 'idle' ORDER BY 1`,
    );
    return rows.map(({ began }) => began);
  }
  const becomes = (count: number) => eventually(async () => expectCount(await idle(), count));
  const expectCount = (list: readonly unknown[], count: number) =>
    void expect(list, 'idle connections').to.have.length(count);

  it('keeps as many connections ready as min_pool_size says, from the first launch on', async () => {
    await startWith({ minPoolSize: 3 });
    const client = await proxy.connect();
    expect(await idle()).to.have.length(0);
    await inBackground(client, 'SELECT 1', 'n int');
    await becomes(4); // with the one that the session has used
  });

  it('keeps none ready with a min_pool_size of 0', async () => {
    await startWith({ minPoolSize: 0 });
    await inBackground(await proxy.connect(), 'SELECT 1', 'n int');
    await becomes(1);
  });

  it('keeps no more idle than max_pool_size says, and rather those that are ready for any', async () => {
    await startWith({ minPoolSize: 1, maxPoolSize: 2 });
    const client = await proxy.connect();
    const pids = [];
    for (let n = 0; n < 5; n++) pids.push(await launch(client, 'SELECT pg_sleep(0.05)'));
    for (const pid of pids)
      await client.query(`SELECT * FROM pg_background_result(${pid}) AS (x text)`);
    await becomes(2);
    const before = await idle();
    // One is nobody's: another session launches with it.
    const other = await proxy.connect();
    const [[pid] = []] = await inBackground(other, 'SELECT pg_backend_pid()', 'pid int');
    expect(before.map((each) => Number(each.split(' ')[0]))).to.include(pid);
  });

  it('keeps nothing with a max_pool_size of 0, and launches all the same', async () => {
    await startWith({ minPoolSize: 0, maxPoolSize: 0 });
    const client = await proxy.connect();
    for (let n = 0; n < 3; n++)
      expect(await inBackground(client, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
    await becomes(0);
  });

  it('closes what was idle for the server_idle_timeout, but for those that are ready for any', async () => {
    await startWith({ minPoolSize: 1, serverIdleTimeoutMs: 100 });
    const client = await proxy.connect();
    await inBackground(client, 'SELECT 1', 'n int');
    await becomes(1);
    expect(await inBackground(client, 'SELECT 2', 'n int')).to.deep.equal([[2]]);
  });

  it('replaces what is older than the server_lifetime while nobody asks', async () => {
    await startWith({ minPoolSize: 1, serverLifetimeMs: 200 });
    await inBackground(await proxy.connect(), 'SELECT 1', 'n int');
    await becomes(1);
    const [first] = await idle();
    await eventually(async () => {
      const [now] = await idle();
      expect(now).to.be.a('string');
      expect(now).not.to.equal(first);
    });
  });

  it('lets a session use its own connection again', async () => {
    await startWith({});
    const client = await proxy.connect();
    const own = async () => (await inBackground(client, 'SELECT pg_backend_pid()', 'pid int'))[0];
    const first = await own();
    await becomes(2);
    expect(await own()).to.deep.equal(first);
  });
});
