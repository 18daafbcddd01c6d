// A role's name is another's now, while sessions of both live: names log in, and must not mix them up.
import { expect } from 'chai';
import pg from 'pg';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer } from '../support/auth-server.ts';

const LAUNCH_REPORT = `SELECT pg_background_launch($$
  RESET ROLE;
  INSERT INTO public.seen SELECT a.usesysid FROM pg_stat_get_activity(pg_backend_pid()) AS a$$)`;

describe('a role that was given the name of another', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let proxy: RunningProxy;
  let admin: pg.Client;
  const clients: pg.Client[] = [];

  before(async () => {
    server = await AuthServer.start(['host all all 127.0.0.1/32 scram-sha-256']);
    for (const name of ['web', 'ops', 'web_next', 'ops_next'])
      await server.createRole({
        name,
        password: `secret of ${name}`,
        options: name === 'web_next' || name === 'ops' ? 'SUPERUSER' : '',
      });
    proxies = await AuthProxies.create(server);
    await proxies.install('web', 'ops_next');
    proxy = await proxies.start();
    admin = await connect({ user: 'postgres', database: server.database, port: server.port });
    await admin.query('CREATE TABLE public.seen (role oid)');
    await admin.query('GRANT INSERT ON public.seen TO PUBLIC');
  });
  beforeEach(() => admin.query('TRUNCATE public.seen'));
  after(async () => {
    await Promise.all(clients.map((client) => client.end()));
    await proxies?.stop();
    await server?.stop();
  });

  async function connect(config: pg.ClientConfig): Promise<pg.Client> {
    const client = new pg.Client({ host: '127.0.0.1', ...config });
    client.on('error', () => {});
    await client.connect();
    clients.push(client);
    return client;
  }

  /** The role that a session has logged in as, whatever it is called. */
  async function roleOf(client: pg.Client): Promise<number> {
    const { rows } = await client.query<{ oid: number }>(
      'SELECT usesysid::int AS oid FROM pg_stat_activity WHERE pid = pg_backend_pid()',
    );
    return rows[0]?.oid ?? 0;
  }

  /** The roles that background SQL of a session has run as, once nothing of it runs any more. */
  async function rolesOfWorkers(client: pg.Client): Promise<number[]> {
    await client.query(LAUNCH_REPORT).catch(() => {});
    for (;;) {
      const { rows } = await admin.query(
        `SELECT FROM pg_stat_activity WHERE state <> 'idle' AND application_name LIKE '%worker'`,
      );
      if (rows.length === 0) break;
    }
    const { rows } = await admin.query<{ role: number }>('SELECT role::int FROM public.seen');
    return rows.map(({ role }) => role);
  }

  async function swap(name: string): Promise<void> {
    await server.admin.query(`ALTER ROLE ${name} RENAME TO ${name}_before`);
    await server.admin.query(`ALTER ROLE ${name}_next RENAME TO ${name}`);
  }

  it('does not run what sessions launch that had the name before', async () => {
    const before = await connect(proxy.login('web', 'secret of web'));
    await swap('web');
    // A superuser: the proxy logs workers in by his password now.
    const after = await connect(proxy.login('web', 'secret of web_next'));
    expect(await rolesOfWorkers(before)).not.to.include(await roleOf(after));
  });

  it('does not run it on connections of the one before', async () => {
    const before = await connect(proxy.login('ops', 'secret of ops'));
    expect(await rolesOfWorkers(before)).to.deep.equal([await roleOf(before)]);
    await admin.query('TRUNCATE public.seen');
    await swap('ops');
    const after = await connect(proxy.login('ops', 'secret of ops_next'));
    expect(await rolesOfWorkers(after)).not.to.include(await roleOf(before));
  });
});
