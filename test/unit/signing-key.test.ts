import { expect } from 'chai';
import { createHash, createHmac } from 'node:crypto';
import {
  isGrantToken,
  isSignedWith,
  newGrantToken,
  newKeyMaterial,
  signingKey,
} from '../../src/signing-key.ts';

const secret = Buffer.from('0123456789abcdef0123456789abcdef');
const otherSecret = Buffer.from('another secret that is long enough');
const keyId = '11111111-2222-3333-4444-555555555555';
const identity = { systemIdentifier: '7301234567890123456', databaseOid: 16384 };
const context = `v1,free,${keyId},4711,1700000000000000,616c696365,10,tttt,token`;
const payload = 'eyJ2ZXJiIjoieCJ9';
const mac = '6bbffb267cb66f15ced1c2bc7e9dd86f7368fe0b6a422fb35ea40f374f13d9c9';

describe('signingKey', () => {
  it('gives the key that another implementation gives', () => {
    expect(signingKey(secret, keyId, identity).toString('hex')).to.equal(
      '8f2df39feb9f888cb8967456efd259cbb753009c82eccc331c8db7adca91b4be',
    );
  });

  const key = signingKey(secret, keyId, identity);
  const others = {
    secret: signingKey(otherSecret, keyId, identity),
    'key ID': signingKey(secret, `${keyId}0`, identity),
    'server, a clone included': signingKey(secret, keyId, { ...identity, systemIdentifier: '7' }),
    database: signingKey(secret, keyId, { ...identity, databaseOid: 16385 }),
  };
  for (const [what, other] of Object.entries(others)) {
    it(`differs with the ${what}`, () => {
      expect(other.equals(key)).to.equal(false);
    });
  }
});

describe('newKeyMaterial', () => {
  it('gives the two halves of HMAC-SHA256', () => {
    const material = newKeyMaterial(secret, identity);
    const sha256 = (pad: string, text: Uint8Array) =>
      createHash('sha256').update(Buffer.from(pad, 'hex')).update(text).digest();
    const hmac = sha256(material.outerKey, sha256(material.innerKey, Buffer.from(context)));

    expect(hmac).to.deep.equal(
      createHmac('sha256', signingKey(secret, material.keyId, identity))
        .update(context)
        .digest(),
    );
  });

  it('gives another key each time', () => {
    const [first, second] = [newKeyMaterial(secret, identity), newKeyMaterial(secret, identity)];
    expect(first.keyId).not.to.equal(second.keyId);
    expect(first.innerKey).not.to.equal(second.innerKey);
  });
});

describe('isSignedWith', () => {
  const key = signingKey(secret, keyId, identity);

  it('accepts the MAC that another implementation gives', () => {
    expect(isSignedWith(key, context, payload, mac)).to.equal(true);
  });

  it('refuses another key', () => {
    const other = signingKey(otherSecret, keyId, identity);
    expect(isSignedWith(other, context, payload, mac)).to.equal(false);
  });

  it('refuses another context', () => {
    expect(isSignedWith(key, context.replace('4711', '4712'), payload, mac)).to.equal(false);
  });

  it('refuses another payload', () => {
    expect(isSignedWith(key, context, `${payload}=`, mac)).to.equal(false);
  });

  it('refuses a MAC in which any digit differs', () => {
    for (let at = 0; at < mac.length; at++) {
      const changed = mac[at] === '0' ? '1' : '0';
      const forged = mac.slice(0, at) + changed + mac.slice(at + 1);
      expect(isSignedWith(key, context, payload, forged)).to.equal(false);
    }
  });

  it('refuses a MAC that is too short', () => {
    expect(isSignedWith(key, context, payload, mac.slice(0, -2))).to.equal(false);
  });

  it('refuses an empty MAC', () => {
    expect(isSignedWith(key, context, payload, '')).to.equal(false);
  });

  it('reads texts as bytes, one character each', () => {
    const signed = (text: Buffer) => {
      const requestKey = createHmac('sha256', key).update(text).digest();
      const inner = createHash('sha256').update(requestKey).update(payload).digest();
      return createHash('sha256').update(requestKey).update(inner).digest('hex');
    };
    const roleInLatin1 = signed(Buffer.of(0xe9));
    expect(isSignedWith(key, '\xe9', payload, roleInLatin1)).to.equal(true);
  });
});

describe('isGrantToken', () => {
  it('accepts a token of the same secret', () => {
    expect(isGrantToken(secret, newGrantToken(secret))).to.equal(true);
  });

  it('refuses a token of another secret', () => {
    expect(isGrantToken(secret, newGrantToken(otherSecret))).to.equal(false);
  });

  it('refuses the MAC of another token', () => {
    const [nonce] = newGrantToken(secret).split('.');
    const [, otherMac] = newGrantToken(secret).split('.');
    expect(isGrantToken(secret, `${nonce}.${otherMac}`)).to.equal(false);
  });

  it('refuses a token that is cut off', () => {
    expect(isGrantToken(secret, newGrantToken(secret).slice(0, -1))).to.equal(false);
  });

  it('refuses an empty token', () => {
    expect(isGrantToken(secret, '')).to.equal(false);
  });
});

describe('newGrantToken', () => {
  it('gives another token each time', () => {
    expect(newGrantToken(secret)).not.to.equal(newGrantToken(secret));
  });

  it('gives a token without spaces and quotes', () => {
    expect(newGrantToken(secret)).to.match(/^[0-9a-f-]{36}\.[0-9a-f]{64}$/);
  });
});
