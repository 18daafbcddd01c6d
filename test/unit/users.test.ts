import { expect } from 'chai';
import { readAuthFile } from '../../proxy/auth-file.ts';
import type { AuthQuery } from '../../proxy/auth-query.ts';
import { Users, type KnownUser } from '../../proxy/users.ts';
import { WatchedFiles } from '../../proxy/watched-file.ts';
import { keepingLogger, ScratchFolder } from '../support/scratch-file.ts';

const key = (letter: string) => Buffer.alloc(32, letter).toString('base64');
const VERIFIER = `SCRAM-SHA-256$20000:${btoa('a salt of 20 bytes..')}$${key('s')}:${key('v')}`;
const SECRET = Buffer.from('a secret of the proxy');

describe('Users', () => {
  let folder: ScratchFolder;
  beforeEach(async () => (folder = await ScratchFolder.create()));
  afterEach(() => folder.remove());

  async function listing(text: string, secret = SECRET, query?: AuthQuery): Promise<Users> {
    const { logger } = keepingLogger();
    const path = await folder.write('users', text);
    const load = () => readAuthFile(path, secret, logger);
    const file = await WatchedFiles.open([path], load, logger);
    return new Users(file, query, secret, logger);
  }

  const looks = ({ verifier }: KnownUser) => [verifier.salt.length, verifier.iterations];

  it('finds a user of the list', async () => {
    const ann = await (await listing(`"ann" "${VERIFIER}"`)).find('ann');
    expect(ann.isMock).to.equal(false);
    expect(looks(ann)).to.deep.equal([20, 20_000]);
  });

  it('acts as if there were a user who is in no list, with a verifier like those of others', async () => {
    const users = await listing(`"ann" "${VERIFIER}"`);
    const [ann, eve] = [await users.find('ann'), await users.find('eve')];
    expect(eve.isMock).to.equal(true);
    expect(looks(eve)).to.deep.equal(looks(ann));
  });

  it('acts as if there were a user whom the query does not know, with a verifier like those it has', async () => {
    // The list has the one who asks the query, in clear text.
    const query = {
      secretOf: (user: string) => Promise.resolve(user === 'ann' ? VERIFIER : undefined),
    } as unknown as AuthQuery;
    const users = await listing('"monitor" "hush"', SECRET, query);
    const [ann, eve] = [await users.find('ann'), await users.find('eve')];
    expect([ann.isMock, eve.isMock]).to.deep.equal([false, true]);
    expect(looks(eve)).to.deep.equal(looks(ann));
  });

  it('gives a user who is in no list the same salt each time, with each proxy of the secret', async () => {
    const [one, two] = [await listing('"ann" "hush"'), await listing('"bob" "hush"')];
    const salt = async (users: Users, name: string) => (await users.find(name)).verifier.salt;
    expect(await salt(one, 'eve')).to.deep.equal(await salt(two, 'eve'));
    expect(await salt(one, 'eve')).not.to.deep.equal(await salt(one, 'mallory'));
    const other = await listing('"ann" "hush"', Buffer.from('another secret'));
    expect(await salt(one, 'eve')).not.to.deep.equal(await salt(other, 'eve'));
  });

  it('knows nobody by a name that the server would cut off', async () => {
    const long = 'x'.repeat(64);
    expect((await (await listing(`"${long}" "hush"`)).find(long)).isMock).to.equal(true);
  });

  it('knows nobody by a name that is no UTF-8', async () => {
    expect((await (await listing('"\ufffd" "hush"')).find('\ufffd')).isMock).to.equal(true);
  });
});
