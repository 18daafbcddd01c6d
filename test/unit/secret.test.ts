import { expect } from 'chai';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError } from '../../proxy/config.ts';
import {
  checkSecret,
  defaultSecretFile,
  readEarlierSecret,
  readOrCreateSecret,
  readSecret,
} from '../../proxy/secret.ts';
import { rejectionOf } from '../support/rejection.ts';

describe('checkSecret', () => {
  it('gives the bytes of a secret', () => {
    expect(checkSecret('0123456789abcdef', '--x')).to.deep.equal(Buffer.from('0123456789abcdef'));
  });

  it('takes off surrounding space, as the end of a line is', () => {
    expect(checkSecret(' 0123456789abcdef\n', '--x').toString()).to.equal('0123456789abcdef');
  });

  for (const text of ['', '0123456789abcde', `0123456789abcde${' '.repeat(20)}`]) {
    it(`refuses '${text}' and names the option`, () => {
      expect(() => checkSecret(text, 'PGBG_SECRET')).to.throw(
        ConfigError,
        'PGBG_SECRET: the secret must have at least 16 characters',
      );
    });
  }

  it('does not repeat a secret that it refuses', () => {
    expect(() => checkSecret('short', '--x'))
      .to.throw()
      .with.property('message')
      .not.include('short');
  });
});

describe('secret file', () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'pgbg-secret-'));
  });

  afterEach(() => rm(folder, { recursive: true }));

  describe('readSecret', () => {
    it('reads the file', async () => {
      const path = join(folder, 'secret');
      await writeFile(path, '0123456789abcdef\n');
      expect((await readSecret(path, '--secret-file')).toString()).to.equal('0123456789abcdef');
    });

    it('names the option and the file when that is missing', async () => {
      const path = join(folder, 'missing');
      const error = await rejectionOf(readSecret(path, '--secret-file'));
      expect(error).to.be.instanceOf(ConfigError);
      expect((error as Error).message)
        .to.match(/^--secret-file: .*ENOENT/)
        .and.include(path);
    });

    it('names the option and the file when what it holds is too short', async () => {
      const path = join(folder, 'secret');
      await writeFile(path, 'short');
      const error = await rejectionOf(readSecret(path, '--secret-file'));
      expect(error).to.be.instanceOf(ConfigError);
      expect((error as Error).message).to.include(`--secret-file ${path}: `);
    });
  });

  describe('readEarlierSecret', () => {
    it('reads what an earlier start has made', async () => {
      const path = join(folder, 'secret');
      const secret = await readOrCreateSecret(path);
      expect(await readEarlierSecret(path)).to.deep.equal(secret);
    });

    it('says what helps when there was none', async () => {
      const path = join(folder, 'missing');
      const error = await rejectionOf(readEarlierSecret(path));
      expect(error).to.be.instanceOf(ConfigError);
      expect((error as Error).message)
        .to.include(path)
        .and.match(/start the proxy once/);
    });

    it('makes no file', async () => {
      await rejectionOf(readEarlierSecret(join(folder, 'missing')));
      expect(await readdir(folder)).to.deep.equal([]);
    });

    it('refuses a secret that is too short', async () => {
      const path = join(folder, 'secret');
      await writeFile(path, 'short');
      expect(await rejectionOf(readEarlierSecret(path))).to.be.instanceOf(ConfigError);
    });
  });

  describe('readOrCreateSecret', () => {
    it('makes a secret of 32 random bytes', async () => {
      const secret = await readOrCreateSecret(join(folder, 'secret'));
      expect(secret.toString()).to.match(/^[0-9a-f]{64}$/);
    });

    it('makes another secret for another file', async () => {
      const [first, second] = await Promise.all(
        ['a', 'b'].map((name) => readOrCreateSecret(join(folder, name))),
      );
      expect(first).not.to.deep.equal(second);
    });

    it('gives the same secret at the next start', async () => {
      const path = join(folder, 'secret');
      const first = await readOrCreateSecret(path);
      expect(await readOrCreateSecret(path)).to.deep.equal(first);
    });

    it('leaves a secret that is there as it is', async () => {
      const path = join(folder, 'secret');
      await writeFile(path, 'made by somebody else\n');
      await readOrCreateSecret(path);
      expect(await readFile(path, 'utf8')).to.equal('made by somebody else\n');
    });

    it('gives one secret to first starts that race', async () => {
      const path = join(folder, 'new', 'secret');
      const starts = Array.from({ length: 20 }, () => readOrCreateSecret(path));
      const secrets = new Set((await Promise.all(starts)).map(String));
      expect([...secrets]).to.deep.equal([(await readFile(path, 'utf8')).trim()]);
    });

    it('makes a file that only its owner may read', async () => {
      const path = join(folder, 'secret');
      await readOrCreateSecret(path);
      expect((await stat(path)).mode & 0o777).to.equal(0o600);
    });

    it('makes the folder, for its owner only', async () => {
      await readOrCreateSecret(join(folder, 'a', 'b', 'secret'));
      expect((await stat(join(folder, 'a', 'b'))).mode & 0o777).to.equal(0o700);
    });

    it('leaves no other file behind', async () => {
      await Promise.all([1, 2, 3].map(() => readOrCreateSecret(join(folder, 'secret'))));
      expect(await readdir(folder)).to.deep.equal(['secret']);
    });

    it('refuses a secret that is too short', async () => {
      const path = join(folder, 'secret');
      await writeFile(path, '\n');
      expect(await rejectionOf(readOrCreateSecret(path))).to.be.instanceOf(ConfigError);
    });

    it('says which option helps when the file cannot be kept', async () => {
      const path = join(folder, 'file', 'secret');
      await writeFile(join(folder, 'file'), '');
      const error = await rejectionOf(readOrCreateSecret(path));
      expect(error).to.be.instanceOf(ConfigError);
      expect((error as Error).message)
        .to.include(path)
        .and.match(/--secret-file$/);
    });

    it('refuses a folder in the place of the file', async () => {
      const path = join(folder, 'secret');
      await mkdir(path);
      expect(await rejectionOf(readOrCreateSecret(path))).to.be.instanceOf(ConfigError);
    });
  });
});

describe('defaultSecretFile', () => {
  let stateHome: string | undefined;

  beforeEach(() => {
    stateHome = process.env['XDG_STATE_HOME'];
    delete process.env['XDG_STATE_HOME'];
  });

  afterEach(() => {
    if (stateHome === undefined) delete process.env['XDG_STATE_HOME'];
    else process.env['XDG_STATE_HOME'] = stateHome;
  });

  it('is in the data folder where there is one', () => {
    expect(defaultSecretFile('/data')).to.equal('/data/pg-background-proxy.secret');
  });

  it('is in the folder that XDG_STATE_HOME names', () => {
    process.env['XDG_STATE_HOME'] = '/state';
    expect(defaultSecretFile(undefined)).to.equal(
      '/state/pg-background-proxy/pg-background-proxy.secret',
    );
  });

  it('is in the home folder otherwise', () => {
    expect(defaultSecretFile(undefined)).to.equal(
      join(homedir(), '.local/state/pg-background-proxy/pg-background-proxy.secret'),
    );
  });
});
