import { expect } from 'chai';
import { readFile, rename, rm } from 'node:fs/promises';
import { WatchedFiles } from '../../proxy/watched-file.ts';
import { rejectionOf } from '../support/rejection.ts';
import { keepingLogger, ScratchFolder } from '../support/scratch-file.ts';

describe('WatchedFiles', () => {
  let folder: ScratchFolder;
  let path: string;
  let loads: number;
  let failure: Error | undefined;
  let warnings: object[];
  let watched: WatchedFiles<string>;

  beforeEach(async () => {
    folder = await ScratchFolder.create();
    path = await folder.write('file', 'one');
    loads = 0;
    failure = undefined;
    const kept = keepingLogger();
    warnings = kept.warnings;
    watched = await WatchedFiles.open([path], load, kept.logger);
  });
  afterEach(() => folder.remove());

  async function load(): Promise<string> {
    loads++;
    if (failure !== undefined) throw failure;
    const text = await readFile(path, 'utf8');
    if (text === 'bad') throw new Error('it is bad');
    return text;
  }

  it('reads a file once while it stays as it is', async () => {
    expect([await watched.current(), await watched.current()]).to.deep.equal(['one', 'one']);
    expect(loads).to.equal(1);
  });

  it('reads a file again that was overwritten', async () => {
    await folder.write('file', 'two');
    expect(await watched.current()).to.equal('two');
  });

  it('reads a file again that another was put in the place of', async () => {
    await rename(await folder.write('new', 'two'), path);
    expect(await watched.current()).to.equal('two');
  });

  it('keeps what a file held before it went bad, and says so once', async () => {
    await folder.write('file', 'bad');
    expect([await watched.current(), await watched.current()]).to.deep.equal(['one', 'one']);
    expect(warnings).to.have.length(1);
    await folder.write('file', 'good again');
    expect(await watched.current()).to.equal('good again');
  });

  it('reads a changed file once more when it could not be read at first', async () => {
    await folder.write('file', 'two');
    const shortage = new Error('EMFILE: too many open files');
    failure = Object.assign(shortage, { code: 'EMFILE', errno: -24 });
    expect(await watched.current()).to.equal('one');
    failure = undefined;
    expect(await watched.current()).to.equal('two');
  });

  it('keeps what a file held before it was removed', async () => {
    await rm(path);
    expect(await watched.current()).to.equal('one');
    expect(warnings).to.have.length(1);
  });

  it('fails to open where there is nothing yet', async () => {
    await rm(path);
    const opening = WatchedFiles.open([path], load, keepingLogger().logger);
    expect(await rejectionOf(opening)).to.have.property('code', 'ENOENT');
  });

  it('reads a file once for those who ask at the same time', async () => {
    await folder.write('file', 'two');
    const asked = [watched.current(), watched.current(), watched.current()];
    expect(await Promise.all(asked)).to.deep.equal(['two', 'two', 'two']);
    expect(loads).to.equal(2);
  });
});
