import { expect } from 'chai';
import { execFile } from 'node:child_process';
import { mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { defaultDataDirectory } from '../../proxy/embedded.ts';
import { EmbeddedScratch, connectTo, failureOf, queryServer } from '../support/embedded-scratch.ts';

const isRoot = process.getuid?.() === 0;

describe('embedded server', function () {
  this.timeout(60_000);

  let scratch: EmbeddedScratch;
  let dataDirectory: string;

  beforeEach(async () => {
    scratch = await EmbeddedScratch.create();
    dataDirectory = join(scratch.folder, 'data');
  });

  afterEach(() => scratch.remove());

  it('starts a server in an empty folder and stops it without leaving a process', async () => {
    await mkdir(dataDirectory);
    const server = await scratch.start({ dataDirectory });

    expect(await queryServer(server, 'SELECT 1 AS one')).to.deep.equal([{ one: 1 }]);
    await server.stop();

    expect(() => process.kill(server.pid, 0)).to.throw('ESRCH');
    expect(await readdir(dataDirectory)).not.to.include('postmaster.pid');
  });

  it('creates a missing folder, readable by its owner only', async () => {
    const missing = join(scratch.folder, 'some', 'where', 'data');
    await scratch.start({ dataDirectory: missing });

    expect((await stat(missing)).mode & 0o777).to.equal(0o700);
  });

  it('has superuser postgres and stores UTF8', async () => {
    const server = await scratch.start();

    expect(
      await queryServer(
        server,
        `SELECT rolname, rolsuper, current_setting('server_encoding') AS encoding
           FROM pg_roles WHERE rolname = current_user`,
      ),
    ).to.deep.equal([{ rolname: 'postgres', rolsuper: true, encoding: 'UTF8' }]);
  });

  it('keeps data across restarts', async () => {
    const first = await scratch.start();
    await queryServer(first, 'CREATE TABLE kept AS SELECT 42 AS answer');
    await first.stop();
    const second = await scratch.start();

    expect(await queryServer(second, 'SELECT answer FROM kept')).to.deep.equal([{ answer: 42 }]);
  });

  it('passes settings to the server', async () => {
    const server = await scratch.start({ settings: { work_mem: '5MB' } });

    expect(await queryServer(server, 'SHOW work_mem')).to.deep.equal([{ work_mem: '5MB' }]);
  });

  it('listens on the given port of the loopback address only', async () => {
    const first = await scratch.start();
    await first.stop();
    const server = await scratch.start({ port: first.port });

    expect(server.port).to.equal(first.port);
    expect(
      await queryServer(
        server,
        `SELECT current_setting('listen_addresses') AS addresses,
                current_setting('unix_socket_directories') AS sockets`,
      ),
    ).to.deep.equal([{ addresses: '127.0.0.1', sockets: '' }]);
  });

  it('names the port that is taken', async () => {
    const { port } = await scratch.start();
    const other = join(scratch.folder, 'other');
    const failure = await failureOf(scratch.start({ dataDirectory: other, port }));

    expect(failure.message).to.include(`cannot listen on 127.0.0.1:${port}`);
  });

  it('can be stopped twice', async () => {
    const server = await scratch.start();

    await Promise.all([server.stop(), server.stop()]);
    await server.stop();
  });

  it('disconnects clients when it stops', async () => {
    const server = await scratch.start();
    const client = await connectTo(server);
    const ended = new Promise((settle) => client.once('end', settle));
    await server.stop();

    await ended;
  });

  it('settles exited when the server ends by itself', async () => {
    const server = await scratch.start();
    process.kill(server.pid, 'SIGQUIT');

    await server.exited;
  });

  it('is out of reach of the Ctrl-C of our terminal', async function () {
    if (process.platform !== 'linux') this.skip();
    const server = await scratch.start();
    const status = await readFile(`/proc/${server.pid}/stat`, 'utf8');
    const [, , processGroup] = status.slice(status.lastIndexOf(')') + 2).split(' ');

    expect(processGroup).to.equal(String(server.pid));
  });

  it('fails with the log when the server ends early', async () => {
    const failure = await failureOf(scratch.start({ settings: { shared_buffers: 'plenty' } }));

    expect(failure.message).to.include('invalid value for parameter "shared_buffers": "plenty"');
  });

  it('names the folder when it belongs to another major version', async () => {
    await mkdir(dataDirectory);
    await writeFile(join(dataDirectory, 'PG_VERSION'), '15\n');
    const failure = await failureOf(scratch.start({ dataDirectory }));

    expect(failure.message).to.include(`data folder "${dataDirectory}" belongs to PostgreSQL 15`);
  });

  it('refuses a folder that holds something else', async () => {
    await mkdir(dataDirectory);
    await writeFile(join(dataDirectory, 'letter.txt'), 'Dear all');
    const failure = await failureOf(scratch.start({ dataDirectory }));

    expect(failure.message).to.include(`data folder "${dataDirectory}" is not empty`);
    expect(await readdir(dataDirectory)).to.deep.equal(['letter.txt']);
  });

  it('lets one of two starters have an empty folder', async () => {
    const results = await Promise.allSettled([scratch.start(), scratch.start()]);
    const failures = results.flatMap((result) =>
      result.status === 'rejected' ? [String(result.reason)] : [],
    );

    expect(failures).to.have.length(1);
    expect(failures[0]).to.include('lock file "postmaster.pid" already exists');
    expect(await readdir(scratch.folder)).to.deep.equal(['data']);
  });

  it('stops the server of a killed run first', async () => {
    const leftBehind = await startAndDie(dataDirectory);
    const lines: string[] = [];
    const server = await scratch.start({ dataDirectory, onProgress: (line) => lines.push(line) });

    expect(lines.join('\n')).to.include(`stopping the server (pid ${leftBehind})`);
    expect(await queryServer(server, 'SELECT 1 AS one')).to.deep.equal([{ one: 1 }]);
  });

  it('stops the server when a start is given up', async () => {
    const giveUp = new AbortController();
    const onProgress = (line: string): void => {
      // Long before the server can be ready.
      if (line.startsWith('starting')) setImmediate(() => giveUp.abort());
    };
    const failure = await failureOf(scratch.start({ signal: giveUp.signal, onProgress }));

    expect(failure.name).to.equal('AbortError');
    expect(await readdir(dataDirectory)).not.to.include('postmaster.pid');
  });

  describe('started by root', () => {
    before(function () {
      if (!isRoot) this.skip();
    });

    it('runs as another user', async () => {
      await scratch.start({ dataDirectory });

      expect((await stat(dataDirectory)).uid).not.to.equal(0);
      expect((await stat(join(dataDirectory, 'server.log'))).uid).not.to.equal(0);
    });

    it('takes over a folder that root owns', async () => {
      const first = await scratch.start({ dataDirectory });
      await first.stop();
      await promisify(execFile)('chown', ['-R', '0:0', dataDirectory]);
      const second = await scratch.start({ dataDirectory });

      expect(await queryServer(second, 'SELECT 1 AS one')).to.deep.equal([{ one: 1 }]);
    });

    it('names the folder that the other user cannot pass', async () => {
      const closed = join(scratch.folder, 'closed');
      await mkdir(closed, { mode: 0o700 });
      const failure = await failureOf(scratch.start({ dataDirectory: join(closed, 'data') }));

      expect(failure.message).to.match(/^user "\w+" cannot reach the data folder/);
      expect(failure.message).to.include(`chmod o+x "${closed}"`);
    });
  });

  it('keeps its default folder where the system keeps state for root, else in the home', () => {
    const expected = isRoot ? /^\/var\/lib\/pg-b/ : /^(?!\/var\/lib\/pg-b).*\/pg-b/;

    expect(defaultDataDirectory()).to.match(expected);
    expect(defaultDataDirectory()).to.match(/\/pg-background-proxy\/postgres-18$/);
  });
});

/** Starts a server from another process, which then dies without a chance to stop it. */
async function startAndDie(dataDirectory: string): Promise<number> {
  const embedded = new URL('../../proxy/embedded.js', import.meta.url).href;
  const script = `
    import { writeSync } from 'node:fs';
    import { startEmbeddedServer } from ${JSON.stringify(embedded)};
    const server = await startEmbeddedServer(${JSON.stringify({ dataDirectory })});
    writeSync(1, String(server.pid));
    process.kill(process.pid, 'SIGKILL');`;
  const args = ['--input-type=module', '--eval', script];
  const killed: unknown = await promisify(execFile)(process.execPath, args).catch(
    (error: unknown) => error,
  );
  return Number((killed as { stdout: string }).stdout);
}
