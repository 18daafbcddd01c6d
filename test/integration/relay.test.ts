import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { expect } from 'chai';
import pg from 'pg';
import { serialize } from 'pg-protocol';
import { eventually } from '../support/eventually.ts';
import { firstPacket, startupParameters } from '../support/messages.ts';
import { rejectionOf } from '../support/rejection.ts';
import { TestProxy } from '../support/proxy.ts';
import { testedVersion } from '../support/server.ts';
import { fieldsOf, RawClient } from '../support/wire.ts';

describe('the relay', () => {
  let proxy: TestProxy;

  before(async () => {
    proxy = await TestProxy.start();
  });
  afterEach(async () => {
    for (const client of opened.splice(0)) client.socket.destroy();
    await proxy.expectNothingLeft();
  });
  after(() => proxy.stop());

  const opened: RawClient[] = [];
  async function login(): Promise<RawClient> {
    const client = await RawClient.login(proxy.port, {
      user: 'postgres',
      database: proxy.database.name,
    });
    opened.push(client);
    return client;
  }

  it('answers a simple query as the server does, message by message', async () => {
    const sql = `SELECT 1 AS a, NULL, 'é'; CREATE TEMP TABLE x (a int); INSERT INTO x VALUES (1); SELECT 1/0`;
    const through = await login();
    const direct = await RawClient.login(proxy.database.port, {
      user: 'postgres',
      database: proxy.database.name,
    });
    expect(await through.query(sql)).to.deep.equal(await direct.query(sql));
    await Promise.all([through.end(), direct.end()]);
  });

  it('answers the extended protocol, row limits and pipelines as the server does', async () => {
    const bytes = Buffer.concat([
      serialize.parse({ name: 's', text: 'SELECT g FROM generate_series(1, $1) g', types: [23] }),
      serialize.describe({ type: 'S', name: 's' }),
      serialize.bind({ portal: 'p', statement: 's', values: ['5'] }),
      serialize.execute({ portal: 'p', rows: 2 }),
      serialize.execute({ portal: 'p', rows: 0 }),
      serialize.sync(),
      serialize.parse({ name: '', text: 'SELECT nonsense', types: [] }),
      serialize.bind({ portal: '', statement: '', values: [] }),
      serialize.sync(),
      serialize.query('SELECT 3'),
    ]);
    const answers: unknown[] = [];
    for (const port of [proxy.port, proxy.database.port]) {
      const client = await RawClient.login(port, {
        user: 'postgres',
        database: proxy.database.name,
      });
      client.socket.write(bytes);
      answers.push([await client.until('Z'), await client.until('Z'), await client.until('Z')]);
      await client.end();
    }
    expect(answers[0]).to.deep.equal(answers[1]);
  });

  it('adds nothing to what the server says at the start of a session', async () => {
    const through = await login();
    const direct = await RawClient.login(proxy.database.port, {
      user: 'postgres',
      database: proxy.database.name,
    });
    const withoutKey = ({ messages }: RawClient) => messages.filter(({ type }) => type !== 'K');
    expect(withoutKey(through)).to.deep.equal(withoutKey(direct));
    await Promise.all([through.end(), direct.end()]);
  });

  it('gives the client the process ID of its own backend', async () => {
    const client = await login();
    const key = client.messages.find(({ type }) => type === 'K');
    const [, row] = await client.query('SELECT pg_backend_pid()');
    expect(String(key?.body.readInt32BE(0))).to.equal(row?.body.toString('utf8', 6));
    await client.end();
  });

  it('passes COPY in both directions', async () => {
    const client = await proxy.connect();
    await client.query('CREATE TEMP TABLE copied (a int, b text)');
    const raw = await login();
    await raw.query('CREATE TEMP TABLE copied (a int, b text)');
    raw.socket.write(serialize.query('COPY copied FROM STDIN'));
    await raw.until('G');
    for (let i = 0; i < 1000; i++)
      raw.socket.write(serialize.copyData(Buffer.from(`${i}\tpg_background ${i}\n`)));
    raw.socket.write(serialize.copyDone());
    await raw.until('Z');
    const out = await raw.query('COPY (SELECT * FROM copied ORDER BY a) TO STDOUT');
    expect(out.filter(({ type }) => type === 'd')).to.have.length(1000);
    expect(out.at(-3)?.type).to.equal('c');
    await raw.end();
  });

  it('delivers a notification to a client that is idle', async () => {
    const client = await proxy.connect();
    await client.query('LISTEN news');
    const heard = once(client, 'notification') as Promise<[{ payload?: string }]>;
    await (await proxy.database.direct()).query(`NOTIFY news, 'hello'`);
    expect((await heard)[0].payload).to.equal('hello');
  });

  it('takes a CancelRequest to the server, and closes its connection after the server has', async () => {
    const client = await login();
    const key = client.messages.find(({ type }) => type === 'K')?.body ?? Buffer.alloc(0);
    client.socket.write(serialize.query('SELECT pg_sleep(60)'));
    const observer = await proxy.database.direct();
    await eventually(async () => {
      const { rows } = await observer.query(
        `SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active' AND datname = current_database()`,
      );
      expect(rows).to.have.length(1);
    });
    const request = Buffer.alloc(16);
    request.writeInt32BE(16, 0);
    request.writeInt32BE(80877102, 4);
    key.copy(request, 8);
    const cancel = await RawClient.connect(proxy.port);
    cancel.socket.resume();
    cancel.socket.write(request);
    await cancel.closed();
    const answer = await client.until('Z');
    expect(
      answer.filter(({ type }) => type === 'E').map((error) => fieldsOf(error)['C']),
    ).to.deep.equal(['57014']);
    await client.end();
  });

  it('takes a CancelRequest with the key of protocol 3.2, which is longer, to the server', async () => {
    const client = await RawClient.connect(proxy.port);
    client.listen();
    const parameters = startupParameters('user', 'postgres', 'database', proxy.database.name);
    client.socket.write(firstPacket(196610, parameters));
    const start = await client.until('Z');
    const key = start.find(({ type }) => type === 'K')?.body ?? Buffer.alloc(0);
    // Servers before 18 answer with 3.0, and its key of four bytes.
    expect(key).to.have.length(testedVersion >= 18 ? 36 : 8);
    client.socket.write(serialize.query('SELECT pg_sleep(60)'));
    const observer = await proxy.database.direct();
    await eventually(async () => {
      const { rows } = await observer.query(
        `SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'`,
        [key.readInt32BE(0)],
      );
      expect(rows).to.have.length(1);
    });
    const cancel = await RawClient.connect(proxy.port);
    cancel.listen();
    cancel.socket.write(firstPacket(80877102, key));
    await cancel.closed();
    const answer = await client.until('Z');
    expect(
      answer.filter(({ type }) => type === 'E').map((error) => fieldsOf(error)['C']),
    ).to.deep.equal(['57014']);
    await client.end();
  });

  it('answers N to SSLRequest and GSSENCRequest, and goes on', async () => {
    const client = await RawClient.connect(proxy.port);
    for (const code of [80877103, 80877104]) {
      const request = Buffer.alloc(8);
      request.writeInt32BE(8, 0);
      request.writeInt32BE(code, 4);
      client.socket.write(request);
      const [answer] = (await once(client.socket, 'data')) as [Buffer];
      expect(answer.toString()).to.equal('N');
    }
    client.listen();
    client.socket.write(serialize.startup({ user: 'postgres', database: proxy.database.name }));
    await client.until('Z');
    await client.end();
  });

  it('passes a refused login to the client in the words of the server', async () => {
    const client = new pg.Client({
      host: '127.0.0.1',
      port: proxy.port,
      user: 'nobody_knows',
      database: proxy.database.name,
    });
    const error = await client.connect().catch((reason: unknown) => reason as pg.DatabaseError);
    expect(error).to.include({ code: '28000', message: 'role "nobody_knows" does not exist' });
  });

  it('refuses a first packet that is none, and serves the next client', async () => {
    for (const [garbage, code] of [
      ['GET / HTTP/1.1\r\n\r\n', '08P01'],
      ['\0\0\0\x04', '08P01'],
      ['\x7f\xff\xff\xff\0\x03\0\0', '08P01'],
      ['\0\0\0\x09\0\x02\0\0\0', '0A000'],
    ] as const) {
      const client = await RawClient.connect(proxy.port);
      client.listen();
      client.socket.write(Buffer.from(garbage, 'latin1'));
      const [answer] = await client.until('E');
      expect(fieldsOf(answer ?? { type: '', body: Buffer.alloc(0) })).to.include({
        S: 'FATAL',
        C: code,
      });
      await client.closed();
    }
    expect(await (await proxy.connect()).value('SELECT 1')).to.equal(1);
  });

  it("ends the server's connection when the client vanishes", async () => {
    const client = await login();
    const observer = await proxy.database.direct();
    const [, row] = await client.query('SELECT pg_backend_pid()');
    const pid = row?.body.toString('utf8', 6);
    client.socket.resetAndDestroy();
    await eventually(async () => {
      expect(
        (await observer.query('SELECT FROM pg_stat_activity WHERE pid = $1', [pid])).rows,
      ).to.have.length(0);
    });
  });

  it('delivers the last words of a backend that is terminated, then closes', async () => {
    const client = await login();
    const [, row] = await client.query('SELECT pg_backend_pid()');
    await (
      await proxy.database.direct()
    ).query('SELECT pg_terminate_backend($1)', [row?.body.toString('utf8', 6)]);
    const [farewell] = await client.until('E');
    expect(fieldsOf(farewell ?? { type: '', body: Buffer.alloc(0) })['C']).to.equal('57P01');
    await client.closed();
  });

  it('has the system look whether both ends are still there', async function () {
    if (process.platform !== 'linux') this.skip(); // only there are timers to be seen
    const client = await login();
    const [, row] = await client.query('SELECT inet_client_port()');
    const port = (value: number) => value.toString(16).toUpperCase().padStart(4, '0');
    const { localPort = 0 } = client.socket;
    const toServer = Number(row?.body.toString('utf8', 6));
    // 02 is the timer of a connection in which nothing waits for an answer, see proc_net_tcp.txt.
    await eventually(async () => {
      const timers = new Map(
        (await readFile('/proc/net/tcp', 'utf8'))
          .split('\n')
          .map((line) => line.trim().split(/[ :]+/))
          .map(([, , local, , remote, , , , timer]) => [`${local} ${remote}`, timer]),
      );
      expect(timers.get(`${port(proxy.port)} ${port(localPort)}`)).to.equal('02');
      expect(timers.get(`${port(toServer)} ${port(proxy.database.port)}`)).to.equal('02');
    });
  });

  it('answers all that a client has said, though it says no more from the start', async () => {
    const client = await RawClient.connect(proxy.port);
    client.listen();
    const parameters = { user: 'postgres', database: proxy.database.name };
    client.socket.end(
      Buffer.concat([
        serialize.startup(parameters),
        serialize.query('SELECT 1'),
        serialize.query('SELECT pg_sleep(0.1), 2'),
      ]),
    );
    await client.until('Z');
    for (const columns of ['1', '\0\0\0\0\x012']) {
      const [, row] = await client.until('Z');
      expect(row?.body.toString('latin1')).to.match(new RegExp(`${columns}$`));
    }
    await client.closed();
  });

  it('lets the server judge a message that has no length', async () => {
    const client = await login();
    client.socket.write(Buffer.concat([serialize.query('SELECT 1'), Buffer.from('Q\0\0\0\x03')]));
    await client.until('Z');
    await client.closed();
    expect(client.messages.map(({ type }) => type).join('')).to.match(/ZTDCZ$/);
  });

  for (const replication of ['t', 'YES', 'on', '1', 'true']) {
    it(`relays a connection with replication=${replication} without a change`, async () => {
      const client = await RawClient.login(proxy.port, { user: 'postgres', replication });
      const [, row] = await client.query('SHOW application_name');
      expect(row?.type).to.equal('D');
      // A walsender has no parameters of ours.
      const [error] = await client.query(`SHOW "pgbg_proxy.session"`);
      expect(fieldsOf(error ?? { type: '', body: Buffer.alloc(0) })['C']).to.equal('42704');
      await client.end();
    });
  }

  it('lets the server wait for a client that does not read, and keeps its memory', async () => {
    const client = await login();
    client.socket.pause();
    const before = process.memoryUsage().rss;
    client.socket.write(
      serialize.query(`SELECT repeat('x', 1000) FROM generate_series(1, 300000)`),
    );
    const observer = await proxy.database.direct();
    await eventually(async () => {
      const { rows } = await observer.query(
        `SELECT FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND datname = current_database()`,
      );
      expect(rows, 'backends that wait for their client').to.have.length(1);
    });
    expect(process.memoryUsage().rss - before).to.be.below(64 * 1024 * 1024);
    client.socket.destroy();
  });

  it('lets a client wait for a server that does not read', async () => {
    const raw = await login();
    await raw.query('CREATE TABLE slow (a text)');
    await raw.query('BEGIN; LOCK TABLE slow');
    const writer = await login();
    const before = process.memoryUsage().rss;
    writer.socket.write(serialize.query('COPY slow FROM STDIN'));
    const line = serialize.copyData(Buffer.from(`${'x'.repeat(10_000)}\n`));
    let isFull = false;
    for (let i = 0; i < 20_000 && !isFull; i++) {
      if (!writer.socket.write(line)) {
        isFull = await Promise.race([
          once(writer.socket, 'drain').then(() => false),
          new Promise<boolean>((resolve) => setTimeout(() => resolve(true), 1_000)),
        ]);
      }
    }
    expect(isFull, 'the client was made to wait').to.equal(true);
    expect(process.memoryUsage().rss - before).to.be.below(64 * 1024 * 1024);
    writer.socket.destroy();
    await raw.query('ROLLBACK; DROP TABLE slow');
    await raw.end();
  });

  it('relays a replication connection without a change', async () => {
    const client = await RawClient.login(proxy.port, {
      user: 'postgres',
      database: proxy.database.name,
      replication: 'database',
    });
    const answer = await client.query('IDENTIFY_SYSTEM');
    expect(answer.map(({ type }) => type)).to.deep.equal(['T', 'D', 'C', 'Z']);
    await client.end();
  });

  it('keeps bytes and order of large values in both directions', async () => {
    const client = await proxy.connect();
    const value = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => (i * 7919) & 255));
    expect(await client.value('SELECT $1::bytea', [value])).to.deep.equal(value);
  });

  it('says that the server is out of reach when it is', async () => {
    const inFrontOfNobody = await TestProxy.inFrontOf({ host: '127.0.0.1', port: 1, name: 'none' });
    try {
      const error = await rejectionOf(inFrontOfNobody.connect());
      expect(error).to.include({
        code: '08001',
        message: 'could not connect to the server: connect ECONNREFUSED 127.0.0.1:1',
      });
    } finally {
      await inFrontOfNobody.stop();
    }
  });

  it('ends a connection that never sends its first packet', async () => {
    const impatient = await TestProxy.inFrontOf(proxy.database, {}, { clientLoginTimeoutMs: 50 });
    const silent = connect({ host: '127.0.0.1', port: impatient.port });
    const chunks: Buffer[] = [];
    await pipeline(silent, async (source: AsyncIterable<Buffer>) => {
      for await (const chunk of source) chunks.push(chunk);
    });
    expect(Buffer.concat(chunks).toString()).to.include('client_login_timeout');
    await impatient.stop();
  });
});
