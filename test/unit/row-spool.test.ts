import { expect } from 'chai';
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackgroundError } from '../../src/errors.ts';
import { FrameReader } from '../../src/frames.ts';
import { RowSpool } from '../../src/row-spool.ts';
import { SpoolBudget } from '../../src/spool-budget.ts';
import { dataRow } from '../support/messages.ts';
import { rejectionOf } from '../support/rejection.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

function roomy(): SpoolBudget {
  return new SpoolBudget(100 * MIB, 100 * MIB);
}

async function rowsOf(spool: RowSpool): Promise<Buffer[]> {
  const rows: Buffer[] = [];
  const reader = new FrameReader((_type, frame) => rows.push(frame));
  for await (const { bytes, count } of spool.read()) {
    const before = rows.length;
    reader.push(bytes);
    expect(rows.length - before, 'rows of a block').to.equal(count);
  }
  return rows;
}

/** Rows that differ from each other, of about this size. */
function rows(count: number, size: number): Buffer[] {
  return Array.from({ length: count }, (_value, at) => dataRow(`${at}`.padEnd(size, '.')));
}

/** What this process has open in a folder, files without a name included. */
async function openFilesIn(folder: string): Promise<string[]> {
  const descriptors = await readdir('/proc/self/fd');
  const files = await Promise.all(
    descriptors.map((descriptor) => readlink(`/proc/self/fd/${descriptor}`).catch(() => '')),
  );
  return files.filter((file) => file.startsWith(folder));
}

describe('RowSpool', () => {
  let folder: string;
  let temporaryFolder: string | undefined;
  let spools: RowSpool[];

  function spoolOf(memoryBytes: number, budget = roomy()): RowSpool {
    const spool = new RowSpool(memoryBytes, budget);
    spools.push(spool);
    return spool;
  }

  async function addAll(spool: RowSpool, all: readonly Buffer[]): Promise<void> {
    for (const row of all) await spool.add(row);
  }

  beforeEach(async () => {
    spools = [];
    folder = await mkdtemp(join(tmpdir(), 'pgbg-spool-'));
    temporaryFolder = process.env['TMPDIR'];
    process.env['TMPDIR'] = folder;
  });

  afterEach(async () => {
    if (temporaryFolder === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = temporaryFolder;
    await Promise.all(spools.map((spool) => spool.close()));
    await rm(folder, { recursive: true });
  });

  it('gives the rows in their order from memory', async () => {
    const spool = spoolOf(MIB);
    const all = rows(10, 20);
    await addAll(spool, all);

    expect(await rowsOf(spool)).to.deep.equal(all);
  });

  it('gives the rows in their order from a file', async () => {
    const spool = spoolOf(0);
    const all = rows(3000, KIB);
    await addAll(spool, all);

    expect(Buffer.concat(await rowsOf(spool)).equals(Buffer.concat(all))).to.equal(true);
  });

  it('gives the rows one by one from a file', async () => {
    const spool = spoolOf(100);
    const all = rows(100, 50);
    await addAll(spool, all);

    expect(await rowsOf(spool)).to.deep.equal(all);
  });

  it('gives a row from a file that is larger than what is read at once', async () => {
    const spool = spoolOf(0);
    const all = rows(3, 700 * KIB);
    await addAll(spool, all);

    const found = await rowsOf(spool);
    expect(found.map((row, at) => row.equals(all[at] as Buffer))).to.deep.equal([true, true, true]);
  });

  it('gives rows that were not awaited', async () => {
    const spool = spoolOf(10 * KIB);
    const all = rows(500, KIB);
    for (const row of all) void spool.add(row);

    expect(Buffer.concat(await rowsOf(spool)).equals(Buffer.concat(all))).to.equal(true);
  });

  it('gives rows that are on their way into the file', async () => {
    const spool = spoolOf(0);
    const all = rows(2, 2 * MIB);
    await spool.add(all[0] as Buffer);
    void spool.add(all[1] as Buffer);

    expect(Buffer.concat(await rowsOf(spool)).equals(Buffer.concat(all))).to.equal(true);
  });

  it('gives rows that lie behind each other in memory as one, and copies none of them', async () => {
    const read = Buffer.alloc(dataRow('abc').length * 3, dataRow('abc'));
    const spool = spoolOf(MIB);
    for (let at = 0; at < read.length; at += read.length / 3)
      await spool.add(read.subarray(at, at + read.length / 3));
    const blocks = [];
    for await (const block of spool.read()) blocks.push(block);

    expect(blocks).to.deep.equal([{ bytes: read, count: 3 }]);
    expect(blocks[0]?.bytes.buffer).to.equal(read.buffer);
  });

  it('does not keep what was read with a row, where that is much more', async () => {
    const read = Buffer.concat([Buffer.alloc(64 * KIB), dataRow('abc')]);
    const spool = spoolOf(MIB);
    await spool.add(read.subarray(64 * KIB));
    const blocks = [];
    for await (const block of spool.read()) blocks.push(block);

    expect(blocks).to.deep.equal([{ bytes: dataRow('abc'), count: 1 }]);
    expect(blocks[0]?.bytes.buffer).to.not.equal(read.buffer);
  });

  it('gives a few hundred kilobytes at a time, and a larger row by itself', async () => {
    const spool = spoolOf(100 * MIB);
    for (const row of [...rows(600, KIB), ...rows(1, 700 * KIB), ...rows(1, KIB)])
      await spool.add(Buffer.from(row));
    const sizes = [];
    for await (const { bytes } of spool.read()) sizes.push(Math.round(bytes.length / KIB));

    expect(sizes.slice(0, 2)).to.deep.equal([257, 257]);
    expect(sizes.at(-1)).to.equal(1);
    expect(sizes).to.have.length(4);
  });

  it('lets the rest of such memory go as soon as no row follows', async () => {
    const read = Buffer.concat([Buffer.alloc(64 * KIB), dataRow('abc')]);
    const spool = spoolOf(MIB);
    await spool.add(read.subarray(64 * KIB));
    spool.pauseOfRows();
    read.fill(0);

    expect(await rowsOf(spool)).to.deep.equal([dataRow('abc')]);
  });

  it('gives rows together between which other messages lay, as often as it is asked', async () => {
    const all = rows(1000, 50);
    const spool = spoolOf(MIB);
    for (const row of all) await spool.add(Buffer.concat([Buffer.alloc(50), row]).subarray(50));
    for (let time = 0; time < 2; time++) {
      const counts = [];
      for await (const { count } of spool.read()) counts.push(count);
      expect(counts).to.deep.equal([1000]);
    }
    expect(await rowsOf(spool)).to.deep.equal(all);
  });

  it('gives nothing when there are no rows', async () => {
    expect(await rowsOf(spoolOf(0))).to.deep.equal([]);
  });

  it('counts rows', async () => {
    const spool = spoolOf(0);
    await addAll(spool, rows(7, 10));
    expect(spool.rowCount).to.equal(7);
  });

  it('counts bytes with the headers', async () => {
    const spool = spoolOf(MIB);
    await spool.add(dataRow('abc'));
    expect(spool.bytes).to.equal(14);
  });

  it('leaves no file behind, even while it is in use', async () => {
    const spool = spoolOf(0);
    await spool.add(dataRow('x'.repeat(2 * MIB)));

    expect(await readdir(folder)).to.deep.equal([]);
    expect(await rowsOf(spool)).to.have.length(1);
  });

  it('asks the caller to pause while much waits for the disk', async () => {
    const spool = spoolOf(0);
    const pause = spool.add(dataRow('x'.repeat(2 * MIB)));

    expect(pause).to.be.a('promise');
    await pause;
  });

  it('does not ask the caller to pause while rows fit into memory', () => {
    expect(spoolOf(3 * MIB).add(dataRow('x'.repeat(2 * MIB)))).to.equal(undefined);
  });

  it('does not ask the caller to pause while little waits for the disk', () => {
    expect(spoolOf(0).add(dataRow('x'))).to.equal(undefined);
  });

  it('reports with 58030 that the file cannot be made', async () => {
    process.env['TMPDIR'] = join(folder, 'missing');
    const spool = spoolOf(0);
    await spool.add(dataRow('x'.repeat(2 * MIB)));

    const error = await rejectionOf(rowsOf(spool));
    expect(error).to.be.instanceOf(BackgroundError).with.property('code', '58030');
  });

  it('takes no more rows after the file failed', async () => {
    process.env['TMPDIR'] = join(folder, 'missing');
    const spool = spoolOf(0);
    await spool.add(dataRow('x'.repeat(2 * MIB)));

    expect(() => spool.add(dataRow('x')))
      .to.throw(BackgroundError)
      .with.property('code', '58030');
  });

  describe('reset', () => {
    it('forgets the rows in memory', async () => {
      const spool = spoolOf(MIB);
      await addAll(spool, rows(3, 10));
      spool.reset();
      await spool.add(dataRow('new'));

      expect(await rowsOf(spool)).to.deep.equal([dataRow('new')]);
    });

    it('forgets the rows in the file', async () => {
      const spool = spoolOf(0);
      await addAll(spool, rows(3, MIB));
      spool.reset();
      await spool.add(dataRow('new'));

      expect(await rowsOf(spool)).to.deep.equal([dataRow('new')]);
    });

    it('forgets rows that are on their way into the file', async () => {
      const spool = spoolOf(0);
      void spool.add(dataRow('x'.repeat(2 * MIB)));
      spool.reset();
      const all = rows(2000, KIB);
      await addAll(spool, all);

      expect(Buffer.concat(await rowsOf(spool)).equals(Buffer.concat(all))).to.equal(true);
    });

    it('gives back the room in memory', () => {
      const spool = spoolOf(3 * MIB);
      void spool.add(dataRow('x'.repeat(2 * MIB)));
      spool.reset();

      expect(spool.add(dataRow('x'.repeat(2 * MIB)))).to.equal(undefined);
    });

    it('begins counting anew', async () => {
      const spool = spoolOf(MIB);
      await addAll(spool, rows(3, 10));
      spool.reset();

      expect({ rowCount: spool.rowCount, bytes: spool.bytes }).to.deep.equal({
        rowCount: 0,
        bytes: 0,
      });
    });
  });

  describe('budget', () => {
    const row = dataRow('x'.repeat(89)); // 100 bytes

    function refusalOf(add: () => unknown): BackgroundError {
      try {
        add();
      } catch (error) {
        if (error instanceof BackgroundError) return error;
      }
      throw new Error('it was not refused');
    }

    it('takes rows up to the limit of one worker', () => {
      const spool = spoolOf(MIB, new SpoolBudget(200, MIB));
      void spool.add(row);
      void spool.add(row);
      expect(spool.bytes).to.equal(200);
    });

    it('refuses a row beyond the limit of one worker with 53400', () => {
      const spool = spoolOf(MIB, new SpoolBudget(200, MIB));
      void spool.add(row);
      void spool.add(row);

      expect(refusalOf(() => spool.add(dataRow()))).to.deep.include({
        code: '53400',
        detail: 'The limit max_result_size of the proxy is 200 bytes.',
      });
    });

    it('refuses a row beyond the limit of all workers with 53400', () => {
      const budget = new SpoolBudget(MIB, 150);
      void spoolOf(MIB, budget).add(row);

      expect(refusalOf(() => spoolOf(MIB, budget).add(row))).to.deep.include({
        code: '53400',
        detail: 'The limit max_total_result_size of the proxy is 150 bytes.',
      });
    });

    it('is not charged for a row that was refused', () => {
      const budget = new SpoolBudget(100, 200);
      const first = spoolOf(MIB, budget);
      void first.add(row);
      refusalOf(() => first.add(row));

      expect(() => spoolOf(MIB, budget).add(row)).not.to.throw();
    });

    it('gets back what a spool forgets', () => {
      const budget = new SpoolBudget(MIB, 100);
      const first = spoolOf(MIB, budget);
      void first.add(row);
      first.reset();

      expect(() => spoolOf(MIB, budget).add(row)).not.to.throw();
    });

    it('gets back what a closed spool held', async () => {
      const budget = new SpoolBudget(MIB, 100);
      const first = spoolOf(MIB, budget);
      void first.add(row);
      await first.close();

      expect(() => spoolOf(MIB, budget).add(row)).not.to.throw();
    });

    it('gets back what a spool held once only, however often it is closed', async () => {
      const budget = new SpoolBudget(MIB, 100);
      const first = spoolOf(MIB, budget);
      void first.add(row);
      await first.close();
      await first.close();
      void spoolOf(MIB, budget).add(row);

      expect(refusalOf(() => spoolOf(MIB, budget).add(row)).code).to.equal('53400');
    });
  });

  describe('close', () => {
    it('closes the file', async function () {
      if (process.platform !== 'linux') this.skip();
      const spool = spoolOf(0);
      await spool.add(dataRow('x'.repeat(2 * MIB)));
      expect(await openFilesIn(folder)).to.have.length(1);
      await spool.close();

      expect(await openFilesIn(folder)).to.deep.equal([]);
    });

    it('waits for what is being written', async () => {
      const spool = spoolOf(0);
      let hasWritten = false;
      void spool.add(dataRow('x'.repeat(2 * MIB)))?.then(() => (hasWritten = true));
      await spool.close();

      expect(hasWritten).to.equal(true);
    });

    it('leaves no file behind when it comes before the first row was written', async () => {
      const spool = spoolOf(0);
      void spool.add(dataRow('x'));
      await spool.close();

      expect(await readdir(folder)).to.deep.equal([]);
    });
  });
});
