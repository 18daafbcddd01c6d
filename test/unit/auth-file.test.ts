import { expect } from 'chai';
import { readAuthFile, type AuthFile } from '../../proxy/auth-file.ts';
import { parseVerifier } from '../../src/scram.ts';
import { rejectionOf } from '../support/rejection.ts';
import { keepingLogger, ScratchFolder } from '../support/scratch-file.ts';

const VERIFIER =
  'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=';
const SECRET = Buffer.from('a secret of the proxy');

describe('readAuthFile', () => {
  let folder: ScratchFolder;
  let warnings: { details: object }[];

  beforeEach(async () => (folder = await ScratchFolder.create()));
  afterEach(() => folder.remove());

  async function read(text: string): Promise<AuthFile> {
    const { logger, warnings: kept } = keepingLogger();
    warnings = kept;
    return readAuthFile(await folder.write('users', text), SECRET, logger);
  }

  it('reads SCRAM verifiers', async () => {
    const users = await read(`"ann" "${VERIFIER}"\n`);
    expect(users.get('ann')).to.deep.equal({
      verifier: parseVerifier(VERIFIER),
      password: undefined,
    });
  });

  it('reads passwords in clear text', async () => {
    const user = (await read('"ann" "hush"')).get('ann');
    expect(user?.password).to.deep.equal(Buffer.from('hush'));
    expect(user?.verifier.iterations).to.equal(4096);
  });

  it('gives a password the same salt at each start, and each user another', async () => {
    const text = '"ann" "hush"\n"bob" "hush"';
    const [one, two] = [await read(text), await read(text)];
    expect(one.get('ann')?.verifier).to.deep.equal(two.get('ann')?.verifier);
    expect(one.get('ann')?.verifier.salt).not.to.deep.equal(one.get('bob')?.verifier.salt);
  });

  it('reads two quotes as one, comments, empty lines and what stands behind', async () => {
    const users = await read('; users\n\n  "a""b"  "x""y" ""\r\n\t"ü" "ß"\n');
    expect([...users.keys()]).to.deep.equal(['a"b', 'ü']);
    expect(users.get('a"b')?.password?.toString()).to.equal('x"y');
  });

  for (const secret of ['', `md5${'0'.repeat(32)}`, 'SCRAM-SHA-256$broken']) {
    it(`bars a user with the secret '${secret}', and says so`, async () => {
      const users = await read(`"ann" "${secret}"\n"bob" "hush"`);
      expect([users.has('ann'), users.get('ann')]).to.deep.equal([true, undefined]);
      expect(warnings.map(({ details }) => details)).to.have.deep.nested.property('0.user', 'ann');
    });
  }

  for (const line of ['ann hush', '"ann"', '"ann" hush', '"" "hush"', '"ann""hush"']) {
    it(`refuses the line ${line}, and repeats nothing of it`, async () => {
      const error = (await rejectionOf(read(`; first\n${line}\n`))) as Error;
      expect(error.message).to.match(
        /users, line 2: expected "user" "secret", or a comment behind ;$/,
      );
      expect(error.message).not.to.include('hush');
    });
  }
});
