// Several processes behave as one: each rule here holds across them.
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { serialize } from 'pg-protocol';
import { inBackground, launch } from '../support/background.ts';
import { createDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { isAlive, ProxyGroup } from '../support/process-group.ts';
import type { TestClient } from '../support/proxy.ts';
import { rejectionOf } from '../support/rejection.ts';
import { RawClient } from '../support/wire.ts';

describe('the command pg-background-proxy with --workers', function () {
  this.timeout(60_000);
  let database: TestDatabase;
  let folder: string;
  let group: ProxyGroup;

  before(async () => {
    database = await createDatabase();
    folder = await mkdtemp(join(tmpdir(), 'pgbg-processes-'));
    group = new ProxyGroup(database, ['--workers', '1']);
    await (await group.connect()).client.query('CREATE EXTENSION pg_background');
    await group.stop();
  });
  afterEach(() => group.stop());
  after(async () => {
    await rm(folder, { recursive: true, force: true });
    await database.drop();
  });

  function start(...options: readonly string[]): ProxyGroup {
    group = new ProxyGroup(database, options);
    return group;
  }

  /** Connections other than ours at the server. */
  async function backends(): Promise<unknown[]> {
    const { rows } = await (
      await database.direct()
    ).query(
      `SELECT pid, query FROM pg_stat_activity
        WHERE datname = current_database() AND application_name <> 'direct' AND backend_type = 'client backend'`,
    );
    return rows;
  }

  describe('start', () => {
    it('forks nothing for one', async () => {
      start('--workers', '1');
      const { servedBy } = await group.connect();
      expect(servedBy).to.equal(group.process.child.pid);
      expect(group.servingPids).to.deep.equal([]);
    });

    it('says once that all are ready, and spreads the sessions over them', async () => {
      start('--workers', '3');
      const sessions = [await group.connect(), await group.connect(), await group.connect()];
      expect(sessions.map(({ servedBy }) => servedBy)).to.have.members(group.servingPids);
      for (const { client } of sessions)
        expect(await inBackground(client, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
      expect(group.process.stdout.match(/^ready: /gm)).to.have.length(1);
    });

    it('tells in each line of the log which process it is of', async () => {
      start('--workers', '2');
      await group.connectTwo();
      expect(group.log).to.not.deep.equal([]);
      for (const line of group.log)
        expect([group.process.child.pid, ...group.servingPids]).to.include(line.pid);
    });

    it('serves on a Unix socket too', async () => {
      start('--workers', '2', '--unix-socket-dir', folder);
      await group.port();
      const [name] = await readdir(folder);
      expect(name).to.equal(`.s.PGSQL.${await group.port()}`);
      const sessions = [
        await group.connect({ host: folder }),
        await group.connect({ host: folder }),
      ];
      expect(sessions.map(({ servedBy }) => servedBy)).to.have.members(group.servingPids);
      for (const { client } of sessions) expect(await client.value('SELECT 1')).to.equal(1);
    });

    it('fails once, with code 1, when the port is taken', async () => {
      const blocker = createServer().listen(0, '127.0.0.1');
      await new Promise((resolve) => blocker.once('listening', resolve));
      const { port } = blocker.address() as AddressInfo;
      try {
        start('--workers', '2', '--listen', `127.0.0.1:${port}`);
        expect(await group.process.ended).to.equal(1);
        expect(group.process.stderr).to.equal(
          `error: --listen 127.0.0.1:${port}: the port is taken\n`,
        );
      } finally {
        blocker.close();
      }
    });

    it('fails once, with code 1, for an option that only the processes look into', async () => {
      start('--workers', '2', '--run-as-file', join(folder, 'missing'));
      expect(await group.process.ended).to.equal(1);
      expect(group.process.stderr).to.match(/^error: --run-as-file: ENOENT[^\n]*\n$/);
    });
  });

  describe('stop', () => {
    it('waits for the workers of all, says how many there are, and they commit', async () => {
      start('--workers', '2');
      const observer = await database.direct();
      await observer.query('CREATE TABLE finished (a int); SELECT pg_advisory_lock(1)');
      const sessions = await group.connectTwo();
      for (const [at, { client }] of sessions.entries())
        await launch(
          client,
          `SELECT pg_advisory_lock_shared(1); INSERT INTO finished VALUES (${at})`,
        );
      group.process.child.kill('SIGTERM');
      await eventually(
        async () =>
          void expect(group.process.stderr).to.include('waiting for 2 background workers'),
      );
      await observer.query('SELECT pg_advisory_unlock(1)');
      expect(await group.process.ended).to.equal(0);
      const { rows } = await observer.query('SELECT a FROM finished ORDER BY a');
      expect(rows).to.deep.equal([{ a: 0 }, { a: 1 }]);
      await observer.query('DROP TABLE finished');
    });

    it('waits no longer when it is asked again', async () => {
      start('--workers', '2');
      for (const { client } of await group.connectTwo())
        await launch(client, 'SELECT pg_sleep(600)');
      await eventually(async () => {
        const left = await backends();
        if (left.length > 0) group.process.child.kill('SIGINT');
        expect(left).to.deep.equal([]);
      });
      expect(await group.process.ended).to.equal(0);
    });

    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      it(`leaves ${signal} to the first process`, async () => {
        start('--workers', '2');
        const { client, servedBy } = await group.connect();
        process.kill(servedBy, signal);
        expect(await client.value('SELECT pg_sleep(0)')).to.equal('');
        expect(await group.process.stop()).to.equal(0);
        expect(group.log.map(({ msg }) => msg).join()).to.not.include('died');
      });
    }

    it('ends all, and their workers, when the first process is killed', async () => {
      start('--workers', '2');
      const sessions = await group.connectTwo();
      for (const { client } of sessions) await launch(client, 'SELECT pg_sleep(600)');
      const pids = group.servingPids;
      await group.process.stop('SIGKILL');
      await eventually(async () => void expect(pids.filter(isAlive)).to.deep.equal([]));
      await eventually(async () => void expect(await backends()).to.deep.equal([]));
    });
  });

  describe('a process that dies', () => {
    it('takes its own clients with it, and is replaced', async () => {
      start('--workers', '2');
      const [lost, kept] = await group.connectTwo();
      const closed = new Promise<void>((resolve) => lost.client.on('end', () => resolve()));
      process.kill(lost.servedBy, 'SIGKILL');
      await closed;
      expect(await kept.client.value('SELECT 1')).to.equal(1);
      await eventually(
        async () =>
          void expect(group.servingPids.filter((pid) => pid !== lost.servedBy)).to.have.length(2),
      );
      const next = [await group.connect(), await group.connect()];
      for (const { client } of next) expect(await client.value('SELECT 1')).to.equal(1);
      expect(group.log.filter(({ msg }) => msg.includes('has died'))).to.have.length(1);
      expect(await group.process.stop()).to.equal(0);
    });

    it('lets clients wait when it was the last', async () => {
      start('--workers', '2');
      await group.port();
      const before = group.servingPids;
      for (const pid of before) process.kill(pid, 'SIGKILL');
      await eventually(async () => void expect(before.filter(isAlive)).to.deep.equal([]));
      const { servedBy } = await group.connect();
      expect(before).to.not.include(servedBy);
    });

    it('ends the proxy, with an error, when none can take its place', async () => {
      const file = join(folder, 'run-as');
      await writeFile(file, '', { mode: 0o600 });
      start('--workers', '2', '--run-as-file', file);
      const { servedBy } = await group.connect();
      await rm(file);
      process.kill(servedBy, 'SIGKILL');
      expect(await group.process.ended).to.equal(1);
      expect(group.process.stderr).to.match(
        /^error: serving processes do not start any more: --run-as-file: ENOENT/m,
      );
    });
  });

  describe('a limit', () => {
    it('of clients is that of all together', async () => {
      start('--workers', '2', '--max-client-conn', '3');
      const clients = [await group.connect(), await group.connect(), await group.connect()];
      for (let turn = 0; turn < 3; turn++)
        expect(await rejectionOf(group.connect())).to.have.property('code', '53300');
      await clients[1]?.client.end();
      let next: TestClient | undefined;
      await eventually(async () => {
        next = (await group.connect()).client;
      });
      expect(await next?.value('SELECT 1')).to.equal(1);
      expect(await rejectionOf(group.connect())).to.have.property('code', '53300');
    });

    it('of clients counts those no more whose process has died', async () => {
      start('--workers', '2', '--max-client-conn', '2');
      const [lost] = await group.connectTwo();
      process.kill(lost.servedBy, 'SIGKILL');
      await eventually(async () => void (await group.connect()));
    });

    it('of logins is that of all together, and others wait', async () => {
      start('--workers', '2', '--max-logins', '1', '--auth-type', 'passthrough');
      const port = await group.port();
      const arrive = async () => {
        const client = await RawClient.connect(port);
        client.listen();
        client.socket.write(serialize.startup({ user: 'postgres', database: database.name }));
        return client;
      };
      const first = await arrive();
      await first.until('R');
      const second = await arrive();
      const third = await arrive();
      const observed = await Promise.race([
        second.until('R').then(() => 'second'),
        third.until('R').then(() => 'third'),
        // Anything that the first process does for somebody who comes later.
        cancelNothing(port).then(() => 'nobody'),
      ]);
      expect(observed).to.equal('nobody');
      first.socket.destroy();
      await Promise.race([second.until('R'), third.until('R')]);
      second.socket.destroy();
      third.socket.destroy();
    });
  });

  it('cancels a statement that another process repeats', async () => {
    start('--workers', '2');
    const blocker = await database.direct();
    await blocker.query(`CREATE TABLE built (a int);
      CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(42); END';
      CREATE EVENT TRIGGER hold ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION hold();
      SELECT pg_advisory_lock(42)`);
    const [{ client, servedBy }] = await group.connectTwo();
    const { processID } = client as unknown as { processID: number };
    const waiting = rejectionOf(
      client.query(
        `SELECT * FROM pg_background_result(pg_background_launch('CREATE INDEX CONCURRENTLY ON built (a)')) AS (r text)`,
      ),
    );
    await eventually(async () => {
      const { rows } = await blocker.query(
        `SELECT state FROM pg_stat_activity WHERE pid = $1 AND query LIKE '%pg_background_result%'`,
        [processID],
      );
      expect(rows).to.deep.equal([{ state: 'idle' }]);
    });
    // They take turns: the request is to come to the process that does not serve the session.
    const port = await group.port();
    const { servedBy: next } = await group.connect();
    if (next !== servedBy) await group.connect();
    await cancel(client, port);
    expect(await waiting).to.include({
      code: '57014',
      message: 'canceling statement due to user request',
    });
    await blocker.query(
      'SELECT pg_advisory_unlock(42); DROP EVENT TRIGGER hold; DROP FUNCTION hold',
    );
  });

  it('makes way in all processes for who wants a database for himself', async () => {
    start('--workers', '2');
    const [one, other] = await group.connectTwo();
    expect(await inBackground(other.client, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
    expect(await backends()).to.have.length.above(2);
    await one.client.query('DROP DATABASE IF EXISTS nowhere');
    await eventually(async () => void expect(await backends()).to.have.length(2));
  });

  it('finds a deadlock through sessions of two processes', async () => {
    start('--workers', '2');
    const [one, other] = await group.connectTwo();
    await one.client.query('BEGIN; SELECT pg_advisory_xact_lock(1)');
    await other.client.query('BEGIN; SELECT pg_advisory_xact_lock(2)');
    const wait = (client: TestClient, key: number) =>
      client
        .query(
          `SELECT * FROM pg_background_result(pg_background_launch('SELECT pg_advisory_lock(${key})')) AS (r text)`,
        )
        .then(
          () => 'ended',
          (error: { code: string }) => error.code,
        );
    const first = wait(one.client, 2);
    const observer = await database.direct();
    await eventually(async () => {
      const { rows } = await observer.query(
        `SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND NOT granted`,
      );
      expect(rows).to.have.length(1);
    });
    const second = wait(other.client, 1);
    // The younger gives way; its locks go with its transaction, and the older gets its result.
    expect(await second).to.equal('40P01');
    await other.client.query('ROLLBACK');
    expect(await first).to.equal('ended');
    await one.client.query('ROLLBACK');
  });
});

/** A CancelRequest, as drivers send it. */
async function cancel(client: TestClient, port: number): Promise<void> {
  const { processID, secretKey } = client as unknown as { processID: number; secretKey: number };
  await sendAlone(port, serialize.cancel(processID, secretKey));
}

/** A CancelRequest that means nobody, to its end. */
async function cancelNothing(port: number): Promise<void> {
  await sendAlone(port, serialize.cancel(1, 1));
}

async function sendAlone(port: number, packet: Buffer): Promise<void> {
  const socket = connect({ host: '127.0.0.1', port });
  socket.end(packet);
  await new Promise((resolve) => socket.resume().on('close', resolve));
}
