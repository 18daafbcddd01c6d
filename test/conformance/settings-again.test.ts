/*
 * A session's settings are sent to the proxy once, and its connections keep them: here they change between
 * two launches in every way there is, and the later worker must have what the session has then.
 */
import { expect } from 'chai';
import { inBackground } from '../support/background.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const SHOWN = `SELECT current_setting('work_mem')`;

describe('a worker of a session that has launched before has the setting', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (
      await proxy.connect()
    ).query(`CREATE ROLE again_app; GRANT pgbackground_executor TO again_app;
      CREATE FUNCTION sets() RETURNS void LANGUAGE plpgsql AS $$
        BEGIN PERFORM set_config('work_mem', '11MB', false); END $$;
      CREATE FUNCTION with_its_own() RETURNS int LANGUAGE plpgsql SET work_mem = '12MB' AS $$
        BEGIN RETURN pg_background_launch('${SHOWN.replaceAll("'", "''")}'); END $$`);
  });
  beforeEach(async () => {
    client = await proxy.connect();
    // Twice: with one connection, and with the one that comes back from the pool.
    for (let time = 0; time < 2; time++) expect(await shown()).to.equal('4MB');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    await (await proxy.connect()).query('DROP OWNED BY again_app; DROP ROLE again_app');
    await proxy.stop();
  });

  const shown = async (sql = SHOWN) => (await inBackground(client, sql))[0]?.[0];

  it('that SET has given it', async () => {
    await client.query(`SET work_mem = '10MB'`);
    expect(await shown()).to.equal('10MB');
    expect(await shown()).to.equal('10MB');
  });

  it('that RESET has brought back', async () => {
    await client.query(`SET work_mem = '10MB'`);
    expect(await shown()).to.equal('10MB');
    await client.query('RESET work_mem');
    expect(await shown()).to.equal('4MB');
  });

  it('that RESET ALL and DISCARD ALL have brought back', async () => {
    for (const statement of ['RESET ALL', 'DISCARD ALL']) {
      await client.query(`SET work_mem = '10MB'`);
      expect(await shown()).to.equal('10MB');
      await client.query(statement);
      expect(await shown(), statement).to.equal('4MB');
    }
  });

  it('that a transaction has, and no longer', async () => {
    await client.query(`BEGIN; SET LOCAL work_mem = '10MB'`);
    expect(await shown()).to.equal('10MB');
    await client.query('COMMIT');
    expect(await shown()).to.equal('4MB');
  });

  it('that was rolled back, to a savepoint and wholly', async () => {
    await client.query(`BEGIN; SET work_mem = '9MB'; SAVEPOINT s; SET work_mem = '10MB'`);
    expect(await shown()).to.equal('10MB');
    await client.query('ROLLBACK TO s');
    expect(await shown()).to.equal('9MB');
    await client.query('ROLLBACK');
    expect(await shown()).to.equal('4MB');
  });

  it('that a function has set', async () => {
    await client.query('SELECT sets()');
    expect(await shown()).to.equal('11MB');
  });

  it('that the calling function has for itself', async () => {
    const call = 'SELECT * FROM pg_background_result(with_its_own()) AS (x text)';
    expect(await client.rows(call)).to.deep.equal([['12MB']]);
    expect(await shown()).to.equal('4MB');
  });

  it('that changes between two launches of one block', async () => {
    await client.query(`CREATE TEMP TABLE launched (n int, pid int); DO $$ BEGIN
      FOR n IN 1..3 LOOP
        PERFORM set_config('work_mem', n || 'MB', true);
        INSERT INTO launched VALUES (n, pg_background_launch('${SHOWN.replaceAll("'", "''")}'));
      END LOOP; END $$`);
    for (let n = 1; n <= 3; n++) {
      const read = `SELECT r.x FROM launched, pg_background_result(pid) AS r (x text) WHERE n = ${n}`;
      expect(await client.rows(read)).to.deep.equal([[`${n}MB`]]);
    }
  });

  it('that has no place in pg_settings before its module is loaded', async () => {
    await client.query(`LOAD 'auto_explain'; SET auto_explain.log_min_duration = '5min'`);
    const sql = `LOAD 'auto_explain'; SELECT current_setting('auto_explain.log_min_duration')`;
    expect(await shown(sql)).to.equal('5min');
    await client.query(`SET auto_explain.log_min_duration = '6min'`);
    expect(await shown(sql)).to.equal('6min');
  });

  it('that another role has, after SET ROLE', async () => {
    await client.query(`SET ROLE again_app; SET work_mem = '10MB'`);
    expect(await shown()).to.equal('10MB');
    await client.query('RESET ROLE');
    expect(await shown()).to.equal('10MB');
    await client.query('RESET work_mem');
    expect(await shown()).to.equal('4MB');
  });

  it('of the session, not what the SQL of an earlier worker has set', async () => {
    await inBackground(client, `SET work_mem = '10MB'; SELECT 1`, 'x int');
    expect(await shown()).to.equal('4MB');
  });

  it('that it had some settings ago', async () => {
    for (const size of ['5MB', '6MB', '7MB', '8MB', '9MB', '10MB', '5MB', '6MB']) {
      await client.query(`SET work_mem = '${size}'`);
      expect(await shown()).to.equal(size);
    }
  });

  it('of a transaction whose launch was rolled back', async () => {
    await client.query(`BEGIN; SET work_mem = '10MB'`);
    expect(await shown()).to.equal('10MB');
    await client.query('ROLLBACK');
    await client.query(`SET work_mem = '10MB'`);
    expect(await shown()).to.equal('10MB');
  });
});
