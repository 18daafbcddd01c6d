import { expect } from 'chai';
import { ProtocolError } from '../../src/errors.ts';
import {
  parseVerifier,
  ScramClientExchange,
  scramKeys,
  ScramServerExchange,
  verifierOf,
  type ScramKeys,
} from '../../src/scram.ts';
import { rejectionOf } from '../support/rejection.ts';

const salt = Buffer.from('a salt of sixteen');

function keysOf(password: string, iterations = 4096): Promise<ScramKeys> {
  return scramKeys(Buffer.from(password), salt, iterations);
}

function clientWith(password: string): ScramClientExchange {
  return new ScramClientExchange((given, iterations) =>
    scramKeys(Buffer.from(password), given, iterations),
  );
}

/** Both sides of an exchange, up to the client's proof. */
async function exchange(given: string, stored: string) {
  const server = new ScramServerExchange(verifierOf(await keysOf(stored)));
  const client = clientWith(given);
  const proof = server.verify(await client.answer(server.challenge(client.begin())));
  return { client, proof };
}

describe('scramKeys', () => {
  it('gives what PostgreSQL stores', async () => {
    // The password, salt and count of the example in RFC 7677, section 3.
    const stored = parseVerifier(
      'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=',
    );
    const keys = await scramKeys(
      Buffer.from('pencil'),
      Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64'),
      4096,
    );
    expect(verifierOf(keys)).to.deep.equal(stored);
  });

  const sameText: readonly (readonly [what: string, one: string, other: string])[] = [
    ['a soft hyphen', 'I\u00adX', 'IX'],
    ['a no-break space', 'a\u00a0b', 'a b'],
    ['compatibility forms', '\u00aa', 'a'],
    ['composed letters', 'u\u0308', '\u00fc'],
  ];
  for (const [what, one, other] of sameText) {
    it(`prepares ${what} as SASLprep says`, async () => {
      expect(await keysOf(one)).to.deep.equal(await keysOf(other));
    });
  }

  it('takes the bytes as they are where SASLprep forbids them', async () => {
    expect(await keysOf('a\u0007ä')).not.to.deep.equal(await keysOf('aä'));
    const invalid = await scramKeys(Buffer.of(0xff, 0xfe), salt, 4096);
    const replaced = await keysOf('\ufffd\ufffd');
    expect(invalid).not.to.deep.equal(replaced);
  });
});

describe('parseVerifier', () => {
  it('gives undefined for everything else', async () => {
    const whole = 'SCRAM-SHA-256$4096:c2FsdA==$';
    for (const text of [
      '',
      'secret',
      'md5d2b2fba5e4d9bdb6ba4a4b6f6b9ee2b2',
      whole,
      `${whole}AAAA:AAAA`,
      `SCRAM-SHA-256$0:c2FsdA==$${'A'.repeat(43)}=:${'A'.repeat(43)}=`,
      `SCRAM-SHA-256$4096:$${'A'.repeat(43)}=:${'A'.repeat(43)}=`,
      `SCRAM-SHA-512$4096:c2FsdA==$${'A'.repeat(43)}=:${'A'.repeat(43)}=`,
    ]) {
      expect(parseVerifier(text), text).to.equal(undefined);
    }
  });
});

describe('a SCRAM exchange', () => {
  it('convinces both sides of the same password', async () => {
    const { client, proof } = await exchange('secret', 'secret');
    expect(client.isGenuine(proof?.final ?? Buffer.alloc(0))).to.equal(true);
  });

  it("reveals the client's key to the server", async () => {
    const { proof } = await exchange('secret', 'secret');
    expect(proof?.keys).to.deep.equal(await keysOf('secret'));
  });

  it('ends with nothing for another password', async () => {
    expect((await exchange('guess', 'secret')).proof).to.equal(undefined);
  });

  it('can be gone through with a recovered key alone', async () => {
    const { proof } = await exchange('secret', 'secret');
    const keys = (proof as NonNullable<typeof proof>).keys;
    const client = new ScramClientExchange(() => Promise.resolve(keys));
    const server = new ScramServerExchange(verifierOf(await keysOf('secret')));
    const second = server.verify(await client.answer(server.challenge(client.begin())));
    expect(client.isGenuine(second?.final ?? Buffer.alloc(0))).to.equal(true);
  });

  it('is not convinced of a server that only repeats itself', async () => {
    const { client, proof } = await exchange('secret', 'secret');
    const { proof: other } = await exchange('secret', 'secret');
    expect(proof?.final).not.to.deep.equal(other?.final);
    expect(client.isGenuine(other?.final ?? Buffer.alloc(0))).to.equal(false);
  });
});

describe('ScramClientExchange', () => {
  const nonceOf = (client: ScramClientExchange) => client.begin().toString().split('r=')[1] ?? '';
  const challenges: readonly (readonly [
    what: string,
    challenge: (nonce: string) => string,
    message: RegExp,
  ])[] = [
    ['a nonce of its own only', () => 'r=other,s=c2FsdA==,i=4096', /nonce that is not ours/],
    ['our nonce and nothing more', (nonce) => `r=${nonce},s=c2FsdA==,i=4096`, /added nothing/],
    ['a nonce without end', (nonce) => `r=${nonce}${'x'.repeat(2000)},s=c2FsdA==,i=1`, /nonce/],
    ['2^31 iterations', (nonce) => `r=${nonce}x,s=c2FsdA==,i=2147483648`, /asks for 2147483648/],
    ['no iteration', (nonce) => `r=${nonce}x,s=c2FsdA==,i=0`, /malformed/],
    ['an empty salt', (nonce) => `r=${nonce}x,s==,i=4096`, /malformed/],
    ['a negative count', (nonce) => `r=${nonce}x,s=c2FsdA==,i=-1`, /nonce/],
    ['nothing at all', () => '', /nonce/],
  ];
  for (const [what, challenge, message] of challenges) {
    it(`refuses a server that sends ${what}`, async () => {
      const client = clientWith('secret');
      const error = await rejectionOf(client.answer(Buffer.from(challenge(nonceOf(client)))));
      expect(error).to.be.instanceOf(ProtocolError);
      expect((error as Error).message).to.match(message);
    });
  }

  it('believes no proof before it has given its own', () => {
    expect(clientWith('secret').isGenuine(Buffer.from('v='))).to.equal(false);
  });
});

describe('ScramServerExchange', () => {
  let server: ScramServerExchange;
  beforeEach(async () => {
    server = new ScramServerExchange(verifierOf(await keysOf('secret')));
  });

  const first: readonly (readonly [what: string, message: string, complaint: RegExp])[] = [
    ['channel binding that was not offered', 'p=tls-unique,,n=,r=abc', /channel binding/],
    ['an authorization identity', 'n,a=postgres,n=,r=abc', /authorization identity/],
    ['an unknown flag', 'x,,n=,r=abc', /malformed/],
    ['an extension that must be understood', 'n,,m=x,n=,r=abc', /malformed/],
    ['no nonce', 'n,,n=,r=', /malformed/],
    ['a nonce of control characters', 'n,,n=,r=a\u0001', /malformed/],
    ['a nonce without end', `n,,n=,r=${'x'.repeat(2000)}`, /too long/],
    ['nothing', '', /malformed/],
  ];
  for (const [what, message, complaint] of first) {
    it(`refuses a client that begins with ${what}`, () => {
      expect(() => server.challenge(Buffer.from(message, 'latin1'))).to.throw(
        ProtocolError,
        complaint,
      );
    });
  }

  for (const flag of ['n', 'y']) {
    it(`takes the flag ${flag}, and wants it repeated`, () => {
      const challenge = server.challenge(Buffer.from(`${flag},,n=,r=abc`)).toString();
      const nonce = /^r=([^,]+)/.exec(challenge)?.[1] ?? '';
      const last = (binding: string) =>
        Buffer.from(`c=${btoa(binding)},r=${nonce},p=${Buffer.alloc(32).toString('base64')}`);
      expect(server.verify(last(`${flag},,`))).to.equal(undefined);
      expect(() => server.verify(last(flag === 'n' ? 'y,,' : 'n,,'))).to.throw(/channel-binding/);
    });
  }

  const last: readonly (readonly [what: string, message: string, complaint: RegExp])[] = [
    ['another nonce', `c=biws,r=abc,p=${'A'.repeat(43)}=`, /nonce does not match/],
    ['no proof', 'c=biws,r=abc', /malformed/],
    ['nothing', '', /malformed/],
  ];
  for (const [what, message, complaint] of last) {
    it(`refuses a client that ends with ${what}`, () => {
      server.challenge(Buffer.from('n,,n=,r=abc'));
      expect(() => server.verify(Buffer.from(message))).to.throw(ProtocolError, complaint);
    });
  }

  it('refuses a proof of another length', () => {
    const challenge = server.challenge(Buffer.from('n,,n=,r=abc')).toString();
    const nonce = /^r=([^,]+)/.exec(challenge)?.[1] ?? '';
    expect(() => server.verify(Buffer.from(`c=biws,r=${nonce},p=AAAA`))).to.throw(/malformed/);
  });
});
