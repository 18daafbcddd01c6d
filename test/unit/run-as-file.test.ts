import { expect } from 'chai';
import { readRunAsFile } from '../../proxy/run-as-file.ts';
import { Password } from '../../src/credential.ts';
import { toDatabaseText } from '../../src/errors.ts';
import { rejectionOf } from '../support/rejection.ts';
import { ScratchFolder } from '../support/scratch-file.ts';

describe('readRunAsFile', () => {
  let folder: ScratchFolder;
  beforeEach(async () => (folder = await ScratchFolder.create()));
  afterEach(() => folder.remove());

  const read = async (text: string) => readRunAsFile(await folder.write('run-as', text));

  async function passwordOf(text: string, database: string, role: string) {
    const credential = (await read(text))(database, toDatabaseText(role));
    return credential instanceof Password ? credential.bytes.toString() : credential;
  }

  const entries: readonly (readonly [
    line: string,
    database: string,
    role: string,
    word: string,
  ])[] = [
    ['sales:owner:hush', 'sales', 'owner', 'hush'],
    ['sales:owner:hush:hush', 'sales', 'owner', 'hush:hush'],
    ['a\\:b:c\\\\d:e\\:f', 'a:b', 'c\\d', 'e:f'],
    ['süd:größe:pässwörd', 'süd', 'größe', 'pässwörd'],
    ['sales:owner: hush ', 'sales', 'owner', ' hush '],
  ];
  for (const [line, database, role, word] of entries) {
    it(`reads ${line}`, async () => {
      expect(await passwordOf(`# roles\n\n${line}\r\n`, database, role)).to.equal(word);
    });
  }

  it('has nothing for another database or another role', async () => {
    const text = 'sales:owner:hush';
    expect(await passwordOf(text, 'other', 'owner')).to.equal(undefined);
    expect(await passwordOf(text, 'sales', 'other')).to.equal(undefined);
  });

  for (const line of ['*:owner:hush', 'sales:*:hush']) {
    it(`refuses ${line}: whoever owns the extension in a database can use what is stored for it`, async () => {
      const error = (await rejectionOf(read(line))) as Error;
      expect(error.message).to.match(/line 1: "\*" is not allowed/);
    });
  }

  for (const line of ['sales:owner', 'sales', ':owner:hush', 'sales::hush', 'sales:owner:']) {
    it(`refuses ${line}, and repeats nothing of it`, async () => {
      const error = (await rejectionOf(read(line))) as Error;
      expect(error.message).to.match(/line 1: expected database:role:password$/);
    });
  }
});
