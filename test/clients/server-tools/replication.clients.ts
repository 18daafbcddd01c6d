import { expect } from 'chai';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { EmbeddedServer } from '../../../proxy/embedded.ts';
import { EmbeddedScratch, queryServer } from '../../support/embedded-scratch.ts';
import { eventually } from '../../support/eventually.ts';
import { TestProxy } from '../../support/proxy.ts';
import { PSQL_ENVIRONMENT } from '../../support/psql.ts';
import { ScratchFolder } from '../../support/scratch-file.ts';
import { serverPackage, testedVersion } from '../../support/server.ts';
import { clientSuite, PROGRAM_TIMEOUT_MS } from '../client-suite.ts';
import { serverTool, toolVersion } from '../requirements.ts';
import { missingOf, runTool } from './tool.ts';

const pgBasebackup = serverTool('pg_basebackup');
const pgVerifybackup = serverTool('pg_verifybackup');
const pgReceivewal = serverTool('pg_receivewal');
const pgRecvlogical = serverTool('pg_recvlogical');

/** wal_segment_size, which initdb has left as it is. */
const SEGMENT_BYTES = 16 * 1024 * 1024;

/** A server whose changes can be decoded, started by the first that asks. */
let scratch: EmbeddedScratch | undefined;
let server: EmbeddedServer;

async function startProxy(): Promise<TestProxy> {
  if (scratch === undefined) {
    scratch = await EmbeddedScratch.create();
    const packageName = serverPackage();
    server = await scratch.start({
      ...(packageName !== undefined && { packageName }),
      settings: { wal_level: 'logical' },
    });
  }
  return TestProxy.inFrontOf({ host: server.host, port: server.port, name: 'postgres' });
}

after(() => scratch?.remove());

/** The value of one expression. */
async function valueOf(expression: string): Promise<string> {
  const rows = (await queryServer(server, `SELECT (${expression})::text AS value`)) as {
    value: string;
  }[];
  return rows[0]?.value ?? '';
}

/** Waits until the server sends its changes to somebody, or to nobody any more. */
const expectOneStreams = () => expectStreams('1');
const expectNobodyStreams = () => expectStreams('0');

function expectStreams(count: string): Promise<void> {
  return eventually(async () => {
    expect(await valueOf('SELECT count(*) FROM pg_stat_replication')).to.equal(count);
  });
}

async function expectNoSlot(slot: string): Promise<void> {
  const count = `SELECT count(*) FROM pg_replication_slots WHERE slot_name = '${slot}'`;
  expect(await valueOf(count), `slots named ${slot}`).to.equal('0');
}

clientSuite(
  'pg_basebackup',
  { missing: missingOf(pgBasebackup, pgVerifybackup), start: startProxy },
  (proxy) => {
    let folder: ScratchFolder;
    before(async () => {
      folder = await ScratchFolder.create();
      await queryServer(server, 'CREATE TABLE backed_up AS SELECT generate_series(1, 10000) AS a');
    });
    after(() => folder?.remove());

    for (const method of ['stream', 'fetch']) {
      it(`-X ${method}, then pg_verifybackup`, async () => {
        const backup = join(folder.path, method);
        await runTool(pgBasebackup, [
          ...['-D', backup, '-X', method, '--checkpoint=fast', '-d', proxy().url()],
        ]);
        await expectNobodyStreams();
        // It reads WAL of its own version only.
        const isSame = toolVersion(pgVerifybackup.program) === testedVersion;
        const { stdout } = await runTool(pgVerifybackup, [
          ...(isSame ? [] : ['--no-parse-wal']),
          backup,
        ]);
        expect(stdout.trim()).to.equal('backup successfully verified');
      });
    }

    it('-X stream, a server that starts from it', async () => {
      const backup = join((scratch as EmbeddedScratch).folder, 'backup');
      await runTool(pgBasebackup, [
        ...['-D', backup, '-X', 'stream', '--checkpoint=fast', '-d', proxy().url()],
      ]);
      const packageName = serverPackage();
      const copy = await (scratch as EmbeddedScratch).start({
        dataDirectory: backup,
        ...(packageName !== undefined && { packageName }),
      });
      expect(await queryServer(copy, 'SELECT sum(a)::int FROM backed_up')).to.deep.equal([
        { sum: 50_005_000 },
      ]);
      await copy.stop();
    });

    it('-Ft -z', async () => {
      const file = join(folder.path, 'tar');
      await runTool(pgBasebackup, [
        ...['-D', file, '-Ft', '-z', '-X', 'stream', '--checkpoint=fast', '-d', proxy().url()],
      ]);
      expect((await readdir(file)).sort()).to.deep.equal([
        'backup_manifest',
        'base.tar.gz',
        'pg_wal.tar.gz',
      ]);
    });
  },
);

clientSuite('pg_receivewal', { missing: pgReceivewal.missing, start: startProxy }, (proxy) => {
  let folder: ScratchFolder;
  before(async () => {
    folder = await ScratchFolder.create();
  });
  after(() => folder?.remove());

  /** Writes something and ends the segment, whose name it gives. */
  async function fillSegment(): Promise<string> {
    await queryServer(server, `SELECT pg_logical_emit_message(false, 'test', repeat('x', 100000))`);
    const name = await valueOf('SELECT pg_walfile_name(pg_current_wal_insert_lsn())');
    await valueOf('SELECT pg_switch_wal()');
    return name;
  }

  async function expectSameSegment(received: string, name: string): Promise<void> {
    const [theirs, ours] = await Promise.all([
      readFile(join(server.dataDirectory, 'pg_wal', name)),
      readFile(join(received, name)),
    ]);
    expect(ours.equals(theirs), `${name} as the server has it`).to.equal(true);
  }

  it('a slot, and WAL up to --endpos', async () => {
    const received = join(folder.path, 'endpos');
    await mkdir(received);
    const common = ['-d', proxy().url(), '--slot', 'receiver'];
    await runTool(pgReceivewal, [...common, '--create-slot']);
    expect(
      await valueOf(`SELECT slot_type FROM pg_replication_slots WHERE slot_name = 'receiver'`),
    ).to.equal('physical');
    // It streams from where the server is, to a place in the segment behind that.
    const end = await valueOf(`SELECT pg_current_wal_lsn() + ${SEGMENT_BYTES}`);
    const child = start(pgReceivewal.program, [
      ...[...common, '-D', received, '--no-loop', '--endpos', end],
    ]);
    await expectOneStreams();
    const first = await fillSegment();
    await fillSegment();
    await fillSegment();
    expect(await child.code(), child.said()).to.equal(0);
    await expectSameSegment(received, first);
    await expectNobodyStreams();
    await runTool(pgReceivewal, [...common, '--drop-slot']);
    await expectNoSlot('receiver');
  });

  it('--synchronous, until SIGINT', async () => {
    const received = join(folder.path, 'interrupted');
    await mkdir(received);
    const child = start(pgReceivewal.program, [
      ...['-d', proxy().url(), '-D', received, '--no-loop', '--synchronous'],
    ]);
    await expectOneStreams();
    const name = await fillSegment();
    await eventually(async () => {
      expect(await readdir(received)).to.include(name);
    });
    child.kill('SIGINT');
    expect(await child.code(), child.said()).to.equal(0);
    await expectSameSegment(received, name);
    await expectNobodyStreams();
  });
});

clientSuite('pg_recvlogical', { missing: pgRecvlogical.missing, start: startProxy }, (proxy) => {
  before(() => queryServer(server, 'CREATE TABLE decoded (a int PRIMARY KEY, b text)'));

  const common = (slot: string) => ['-d', proxy().url(), '--slot', slot];

  it('a slot, and changes up to --endpos', async () => {
    await runTool(pgRecvlogical, [...common('reader'), '--create-slot', '-P', 'test_decoding']);
    await queryServer(server, `INSERT INTO decoded VALUES (1, 'größer')`);
    const end = await valueOf('SELECT pg_current_wal_lsn()');
    const { stdout } = await runTool(pgRecvlogical, [
      ...[...common('reader'), '--start', '--no-loop', '-f', '-', '--endpos', end],
    ]);
    expect(stdout).to.include(`table public.decoded: INSERT: a[integer]:1 b[text]:'größer'`);
    await runTool(pgRecvlogical, [...common('reader'), '--drop-slot']);
    await expectNoSlot('reader');
  });

  it('changes as they come, until SIGINT', async () => {
    await runTool(pgRecvlogical, [...common('follower'), '--create-slot', '-P', 'test_decoding']);
    const child = start(pgRecvlogical.program, [
      ...[...common('follower'), '--start', '--no-loop', '-f', '-', '-F', '0'],
    ]);
    for (const value of [10, 11]) {
      await queryServer(server, `INSERT INTO decoded VALUES (${value}, 'x')`);
      await eventually(async () => {
        expect(child.said()).to.include(`INSERT: a[integer]:${value} b[text]:'x'`);
      });
    }
    child.kill('SIGINT');
    expect(await child.code(), child.said()).to.equal(0);
    await expectNobodyStreams();
    await runTool(pgRecvlogical, [...common('follower'), '--drop-slot']);
    await expectNoSlot('follower');
  });
});

/** A program that goes on until it is told to end. */
function start(program: string, parameters: readonly string[]) {
  const child = spawn(program, parameters, {
    env: { ...process.env, ...PSQL_ENVIRONMENT },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: PROGRAM_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (said += text));
  const closed = once(child, 'close');
  return {
    /** All that it has printed, errors too. */
    said: () => said,
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    code: async () => (await closed)[0] as number | null,
  };
}
