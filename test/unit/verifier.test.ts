import { expect } from 'chai';
import { Readable } from 'node:stream';
import { ConfigError } from '../../proxy/config.ts';
import { readVerifier } from '../../proxy/verifier.ts';
import { parseVerifier, scramKeys, verifierOf } from '../../src/scram.ts';
import { rejectionOf } from '../support/rejection.ts';

describe('readVerifier', () => {
  for (const input of ['hush', 'hush\n', 'hush\r\nmore']) {
    it(`makes a verifier of the first line of ${JSON.stringify(input)}`, async () => {
      const verifier = parseVerifier(await readVerifier(Readable.from([input])));
      const { salt, iterations } = verifier as NonNullable<typeof verifier>;
      const keys = await scramKeys(Buffer.from('hush'), salt, iterations);
      expect(verifier).to.deep.equal(verifierOf(keys));
      expect([salt.length, iterations]).to.deep.equal([16, 4096]);
    });
  }

  it('makes another each time', async () => {
    const [one, two] = [
      await readVerifier(Readable.from(['hush'])),
      await readVerifier(Readable.from(['hush'])),
    ];
    expect(one).not.to.equal(two);
  });

  it('wants a password', async () => {
    expect(await rejectionOf(readVerifier(Readable.from(['\n'])))).to.be.instanceOf(ConfigError);
  });
});
