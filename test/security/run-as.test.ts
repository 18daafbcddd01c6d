// Workers of SECURITY DEFINER functions: they are the owner from the login on, or they are not.
import { expect } from 'chai';
import pg from 'pg';
import { AuthProxies, type RunningProxy } from '../support/auth-proxies.ts';
import { AuthServer } from '../support/auth-server.ts';
import { rejectionOf } from '../support/rejection.ts';

const WHO = `SELECT session_user || '' as '' || current_user`;

describe('run_as', () => {
  let server: AuthServer;
  let proxies: AuthProxies;
  let proxy: RunningProxy;
  const clients: pg.Client[] = [];

  const odd = 'o:d\\d "owner"';
  const roles: Readonly<Record<string, string>> = {
    app: 'app secret',
    boss: 'boss secret',
    owner: 'owner secret',
    [odd]: 's:e\\c#r*et',
    unstored: 'unstored secret',
    mistyped: 'mistyped secret',
  };

  before(async () => {
    server = await AuthServer.start(['host all all 127.0.0.1/32 scram-sha-256']);
    for (const [name, password] of Object.entries(roles))
      await server.createRole({
        name,
        password,
        options: name === 'boss' ? 'SUPERUSER' : '',
      });
    await server.admin.query('CREATE ROLE team; GRANT team TO app');
    proxies = await AuthProxies.create(server);
    await proxies.install(...Object.keys(roles), 'team');
    const file = await proxies.file(
      'run-as.txt',
      '# who runs what',
      '',
      'app:owner:owner secret',
      String.raw`app:o\:d\\d "owner":s\:e\\c#r*et`,
      'app:mistyped:another secret',
      'other:unstored:unstored secret',
      'app:app:never used, for sessions bring their own',
    );
    proxy = await proxies.start({ options: ['--run-as-file', file] });
    const installer = new pg.Client({
      ...{ host: server.host, port: server.port, user: 'postgres', database: 'app' },
    });
    await installer.connect();
    await installer.query('CREATE TABLE ran (who text); GRANT ALL ON ran TO PUBLIC');
    for (const [index, owner] of Object.keys(roles).entries()) {
      for (const [name, sql] of [
        ['who', WHO],
        ['reset', `RESET ROLE; SET ROLE NONE; ${WHO}`],
        ['leave', `INSERT INTO public.ran SELECT current_user`],
      ] as const) {
        await installer.query(`
          CREATE FUNCTION ${name}_${index}() RETURNS text LANGUAGE sql SECURITY DEFINER
            SET search_path = public, pg_temp AS $body$
            SELECT who FROM pg_background_result(pg_background_launch('${sql}')) AS (who text) $body$;
          ALTER FUNCTION ${name}_${index}() OWNER TO ${pg.escapeIdentifier(owner)}`);
      }
    }
    await installer.end();
  });
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.end()));
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  async function connect(user: string, way = proxy): Promise<pg.Client> {
    const client = new pg.Client(way.login(user, roles[user] ?? ''));
    client.on('error', () => {});
    await client.connect();
    clients.push(client);
    return client;
  }
  const functionOf = (owner: string, name: 'who' | 'reset' | 'leave') =>
    `SELECT public.${name}_${Object.keys(roles).indexOf(owner)}() AS who`;
  const whoRuns = async (client: pg.Client, sql: string) =>
    (await client.query<{ who: string }>(sql)).rows[0]?.who;

  it('logs the worker in as the owner of the function, whoever calls it', async () => {
    for (const caller of ['app', 'boss']) {
      const client = await connect(caller);
      for (const owner of ['owner', odd]) {
        expect(await whoRuns(client, functionOf(owner, 'who'))).to.equal(`${owner} as ${owner}`);
      }
    }
  });

  it('gives the SQL of a function nothing to go back to', async () => {
    for (const caller of ['app', 'boss']) {
      expect(await whoRuns(await connect(caller), functionOf('owner', 'reset'))).to.equal(
        'owner as owner',
      );
    }
  });

  it('takes the credential of the session where that is the owner itself', async () => {
    expect(await whoRuns(await connect('app'), functionOf('app', 'who'))).to.equal('app as app');
  });

  for (const [what, owner] of [
    ['has none for a role', 'unstored'],
    ['has none for a superuser', 'boss'],
  ] as const) {
    it(`fails with a hint where it ${what}, and runs nothing as anybody else`, async () => {
      for (const caller of ['app', 'owner']) {
        const client = await connect(caller);
        for (const name of ['who', 'reset', 'leave'] as const) {
          const error = (await rejectionOf(
            client.query(functionOf(owner, name)),
          )) as pg.DatabaseError;
          expect(error.code).to.equal('42501');
          expect(error.hint).to.match(/run.as/);
        }
      }
      expect(await ran()).to.deep.equal([]);
    });
  }

  it('never lets a superuser who calls the function of another run its SQL', async () => {
    const error = (await rejectionOf(
      (await connect('boss')).query(functionOf('unstored', 'leave')),
    )) as pg.DatabaseError;
    expect(error.code).to.equal('42501');
    expect(await ran()).to.deep.equal([]);
  });

  it('tells that the server has refused a stored password', async () => {
    const error = (await rejectionOf(
      (await connect('app')).query(functionOf('mistyped', 'leave')),
    )) as pg.DatabaseError;
    expect(error.code).to.equal('28P01');
    expect(`${error.message} ${error.detail}`).to.include(
      'password authentication failed for user "mistyped"',
    );
    expect(error.hint).to.match(/run_as file/);
    expect(`${error.message} ${error.detail} ${error.hint}`).not.to.include('another secret');
    expect(await ran()).to.deep.equal([]);
  });

  it('is not asked for a role that SET ROLE has chosen', async () => {
    const client = await connect('app');
    await client.query('SET ROLE team');
    const { rows } = await client.query(
      `SELECT who FROM pg_background_result(pg_background_launch('${WHO}')) AS (who text)`,
    );
    expect(rows).to.deep.equal([{ who: 'app as team' }]);
  });

  it('has nothing without a file, and no function runs as another', async () => {
    const without = await proxies.start();
    for (const caller of ['app', 'boss']) {
      const error = (await rejectionOf(
        (await connect(caller, without)).query(functionOf('owner', 'leave')),
      )) as pg.DatabaseError;
      expect(error.code).to.equal('42501');
      expect(error.hint).to.match(/run.as/);
    }
    expect(await ran()).to.deep.equal([]);
    await Promise.all(clients.splice(0).map((client) => client.end()));
    await without.process.stop();
  });

  for (const [what, line] of [
    ['a star', '*:owner:secret of the line'],
    ['a star as role', 'app:*:secret of the line'],
    ['too little', 'app:owner'],
    ['an empty password', 'app:owner:'],
  ] as const) {
    it(`refuses a file with ${what}, and names the line without what it says`, async () => {
      const file = await proxies.file('bad.txt', '# one', line);
      const process = proxies.launch({ options: ['--run-as-file', file] });
      expect(await process.ended).to.equal(1);
      expect(process.stderr).to.match(/^error: --run-as-file.*line 2/m);
      expect(process.stderr).not.to.include('secret of the line');
    });
  }

  async function ran(): Promise<unknown[]> {
    const client = new pg.Client({
      ...{ host: server.host, port: server.port, user: 'postgres', database: 'app' },
    });
    await client.connect();
    const { rows } = await client.query('SELECT who FROM ran');
    await client.end();
    return rows;
  }
});

describe('trusted_owners', () => {
  let server: AuthServer;
  let proxies: AuthProxies;

  before(async () => {
    server = await AuthServer.start(['host all all 127.0.0.1/32 scram-sha-256']);
    await server.createRole({ name: 'holder', password: 'holder secret' });
    await server.createRole({ name: 'boss', password: 'boss secret', options: 'SUPERUSER' });
    await server.admin.query('CREATE DATABASE held OWNER holder');
    proxies = await AuthProxies.create(server);
    // The role that executors are in exists once for all databases.
    await proxies.install();
    const first = await proxies.start();
    const client = new pg.Client(first.login('holder', 'holder secret', { database: 'held' }));
    await client.connect();
    await client.query('CREATE EXTENSION pg_background');
    await client.end();
    await first.process.stop();
  });
  after(async () => {
    await proxies?.stop();
    await server?.stop();
  });

  async function launchAs(user: string, ...options: string[]): Promise<unknown> {
    const proxy = await proxies.start({ options });
    const client = new pg.Client(proxy.login(user, `${user} secret`, { database: 'held' }));
    await client.connect();
    try {
      const { rows } = await client.query<{ who: string }>(
        `SELECT who FROM pg_background_result(pg_background_launch('${WHO}')) AS (who text)`,
      );
      return rows[0]?.who;
    } catch (error) {
      return (error as pg.DatabaseError).code;
    } finally {
      await client.end();
      await proxy.process.stop();
    }
  }

  it('are nobody unless they are named: a superuser runs nothing in the extension of another', async () => {
    expect(await launchAs('boss')).to.equal('42501');
    expect(await launchAs('boss', '--trusted-owners', 'somebody,Holder')).to.equal('42501');
  });

  it('are trusted by superusers when they are named', async () => {
    expect(await launchAs('boss', '--trusted-owners', 'somebody,holder')).to.equal('boss as boss');
  });

  it('use their own extension in any case', async () => {
    expect(await launchAs('holder')).to.equal('holder as holder');
  });
});
