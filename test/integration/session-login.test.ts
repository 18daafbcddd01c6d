import { expect } from 'chai';
import { connect } from 'node:net';
import { serialize } from 'pg-protocol';
import { eventually } from '../support/eventually.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';
import { RawClient } from '../support/wire.ts';

describe('the start of a session', () => {
  let proxy: TestProxy;
  let client: TestClient;
  const parameters = (user = 'postgres') => ({ user, database: proxy.database.name });

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (await proxy.connect()).query('CREATE ROLE app LOGIN');
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    await (await proxy.connect()).query('DROP ROLE app');
    await proxy.stop();
  });

  it('is told in the messages of the server, with one ReadyForQuery', async () => {
    const raw = await RawClient.login(proxy.port, parameters());
    const types = raw.messages.map(({ type }) => type).join('');
    expect(types).to.match(/^RS+KZ$/);
    await raw.query('SELECT 1');
    await raw.end();
  });

  it('leaves no transaction behind', async () => {
    const raw = await RawClient.login(proxy.port, parameters());
    const [row] = await client.rows(
      'SELECT state, xact_start FROM pg_stat_activity WHERE pid = $1',
      [raw.pid],
    );
    expect(row).to.deep.equal(['idle', null]);
    await raw.end();
  });

  it('lets a client send its first query at once, and answers it behind the start', async () => {
    const raw = await RawClient.connect(proxy.port);
    raw.listen();
    raw.socket.write(
      Buffer.concat([serialize.startup(parameters()), serialize.query(`SELECT 'first'`)]),
    );
    await raw.until('Z');
    const answer = await raw.until('Z');
    expect(answer.map(({ type }) => type)).to.deep.equal(['T', 'D', 'C', 'Z']);
    expect(answer[1]?.body.toString()).to.match(/first$/);
    await raw.end();
  });

  it('ends with the client that goes away in the middle of it', async () => {
    for (let i = 0; i < 5; i++) {
      const socket = connect({ host: '127.0.0.1', port: proxy.port });
      await new Promise((resolve) => socket.once('connect', resolve));
      socket.write(serialize.startup(parameters()));
      socket.destroy();
    }
  });

  it('names the backend that the session has, also after a second start', async () => {
    await client.query('ALTER ROLE app SET pg_background.max_workers = 3');
    for (let session = 0; session < 2; session++) {
      const raw = await RawClient.login(proxy.port, parameters('app'));
      const [, row] = await raw.query('SELECT pg_backend_pid()::text');
      expect(row?.body.toString('latin1', 6)).to.equal(String(raw.pid));
      await raw.end();
    }
    await client.query('ALTER ROLE app RESET ALL');
  });

  it('needs one connection only, also for a second start', async () => {
    await client.query(
      'ALTER ROLE app SET pg_background.max_workers = 3; ALTER ROLE app CONNECTION LIMIT 1',
    );
    const app = await proxy.connect({ user: 'app' });
    expect(await app.value('SHOW pg_background.max_workers')).to.equal('3');
    await app.end();
    await eventually(async () => {
      const again = await proxy.connect({ user: 'app' });
      expect(await again.value('SHOW pg_background.max_workers')).to.equal('3');
    });
    await client.query('ALTER ROLE app RESET ALL; ALTER ROLE app CONNECTION LIMIT -1');
  });

  it('goes on when the role may not read what others have set', async () => {
    await client.query(
      'CREATE ROLE blind LOGIN; REVOKE SELECT ON pg_catalog.pg_db_role_setting FROM PUBLIC',
    );
    const blind = await proxy.connect({ user: 'blind' });
    expect(await blind.value('SHOW pg_background.max_workers')).to.equal('16');
    await blind.query('BEGIN; SELECT 1; COMMIT');
    await client.query('GRANT SELECT ON pg_catalog.pg_db_role_setting TO PUBLIC; DROP ROLE blind');
  });

  it('is not held up by what the role has set for its transactions', async () => {
    await client.query(`ALTER ROLE app SET default_transaction_isolation = 'serializable';
      ALTER ROLE app SET default_transaction_read_only = on;
      ALTER ROLE app SET default_transaction_deferrable = on`);
    const writer = await proxy.connect();
    await writer.query('BEGIN ISOLATION LEVEL SERIALIZABLE; CREATE TABLE in_the_way (a int)');
    const app = await proxy.connect({ user: 'app' });
    expect(await app.value('SHOW transaction_deferrable')).to.equal('on');
    await writer.query('ROLLBACK');
    await client.query('ALTER ROLE app RESET ALL');
  });

  it('gives defaults to no session where the C extension is installed', async () => {
    // As far as the catalogs tell: the extension itself is not needed for that.
    await client.query(`SET allow_system_table_mods = on;
      INSERT INTO pg_catalog.pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
      VALUES (99999, 'pg_background', 10, 2200, true, '1.8')`);
    const other = await proxy.connect();
    expect(await other.value(`SELECT current_setting('pg_background.max_workers', true)`)).to.equal(
      null,
    );
    await client.query('DELETE FROM pg_catalog.pg_extension WHERE oid = 99999');
    expect(await (await proxy.connect()).value('SHOW pg_background.max_workers')).to.equal('16');
  });
});
