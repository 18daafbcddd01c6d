import { expect } from 'chai';
import { createHash } from 'node:crypto';
import { apiFunctions } from '../../src/api.ts';
import {
  isVerb,
  NARROW_BYTES,
  openPayload,
  parseCallback,
  privilegeIndex,
  sealPacket,
  wideBytes,
} from '../../src/callback.ts';
import { int32 } from '../support/messages.ts';

const context =
  'v1,free,0c0ffee0-0000-4000-8000-000000000001,4711,1700000000000001,c3a9,10,tttt,token';
const nonce = 'AAAABBBBCCCCDDDD';
const seed = Buffer.from(Array.from({ length: 32 }, (_value, at) => at));
const header = `${nonce},${seed.toString('hex')},1,-77`;

describe('parseCallback', () => {
  it('reads a signed request', () => {
    expect(parseCallback(`R ${context} ${header} cGF5bG9hZA== beef`)).to.deep.equal({
      kind: 'request',
      replyTo: { nonce, seed, isWide: true, wakeKey: '-77' },
      payload: 'cGF5bG9hZA==',
      signed: `${header} cGF5bG9hZA==`,
      mac: 'beef',
      context: {
        text: context,
        kind: 'free',
        keyId: '0c0ffee0-0000-4000-8000-000000000001',
        pid: 4711,
        number: 1700000000000001,
        role: '\xc3\xa9',
        roleOid: 10,
        privileges: 'tttt',
        token: 'token',
      },
    });
  });

  it('reads a request that nobody waits for', () => {
    expect(parseCallback(`R ${context} - cGF5 beef`)).to.include({
      replyTo: undefined,
      signed: '- cGF5',
    });
  });

  it('reads that wide packets cannot be read', () => {
    const narrow = header.replace(/1,-77$/, '0,-77');
    expect(parseCallback(`R ${context} ${narrow} cGF5 beef`)).to.have.nested.property(
      'replyTo.isWide',
      false,
    );
  });

  it('reads a request that a bound role has signed', () => {
    const text = `R ${context.replace('free', 'bound')} ${header} cGF5 beef`;
    expect(parseCallback(text)).to.have.nested.property('context.kind', 'bound');
  });

  it('reads the request of an installing block', () => {
    expect(parseCallback(`I grant.token ${header} cGF5`)).to.deep.equal({
      kind: 'install',
      grantToken: 'grant.token',
      replyTo: { nonce, seed, isWide: true, wakeKey: '-77' },
      payload: 'cGF5',
    });
  });

  it('reads a tag of several words', () => {
    expect(parseCallback('T grant.token CREATE EXTENSION')).to.deep.equal({
      kind: 'tag',
      grantToken: 'grant.token',
      tag: 'CREATE EXTENSION',
    });
  });

  it('reads a tag of one word', () => {
    expect(parseCallback('T grant.token DO')).to.have.property('tag', 'DO');
  });

  it('reads an acknowledgement', () => {
    expect(parseCallback(`A ${nonce} 12`)).to.deep.equal({
      kind: 'acknowledge',
      nonce,
      packet: 12,
    });
  });

  it('reads that a replaced statement has begun', () => {
    expect(parseCallback('B grant.token')).to.deep.equal({
      kind: 'began',
      grantToken: 'grant.token',
    });
  });

  it('reads that a result was received', () => {
    expect(parseCallback('F some-key')).to.deep.equal({ kind: 'received', receipt: 'some-key' });
  });

  it('reads that a function is awake', () => {
    expect(parseCallback(`W ${nonce}`)).to.deep.equal({ kind: 'awake', nonce });
  });

  const strangers: Readonly<Record<string, string>> = {
    'an empty text': '',
    'an unknown letter': 'X a b c',
    'a request without MAC': `R ${context} ${header} cGF5`,
    'a request with a fifth part': `R ${context} ${header} cGF5 beef more`,
    'a request with more parts than are read': `R ${context} ${header} cGF5 beef${' '.repeat(100)}`,
    'a context of another version': `R ${context.replace('v1', 'v2')} ${header} cGF5 beef`,
    'a context of an unknown kind': `R ${context.replace('free', '')} ${header} cGF5 beef`,
    'a context with a part too many': `R ${context},more ${header} cGF5 beef`,
    'a context with a part too few': `R ${context.replace(',token', '')} ${header} cGF5 beef`,
    'a nonce of another length': `R ${context} ${header.slice(1)} cGF5 beef`,
    'a nonce with a colon': `R ${context} ${header.replace('A', ':')} cGF5 beef`,
    'a key to sleep on that is no number': `R ${context} ${header.replace('-77', "1'")} cGF5 beef`,
    'no key to sleep on': `R ${context} ${header.replace(',-77', '')} cGF5 beef`,
    'a seed that is too short': `R ${context} ${nonce},00,1,-77 cGF5 beef`,
    'a seed that is not hexadecimal': `R ${context} ${nonce},${'x'.repeat(64)},1,-77 cGF5 beef`,
    'a header that says neither wide nor narrow': `R ${context} ${header.replace(/1,-77$/, '2,-77')} cGF5 beef`,
    'an empty header': `R ${context}  cGF5 beef`,
    'an install request that nobody waits for': 'I grant.token - cGF5',
    'an install request without payload': `I grant.token ${header}`,
    'a tag message without tag': 'T grant.token',
    'an acknowledgement without number': `A ${nonce}`,
    'a received message with two parts': 'F some key',
    'a beginning with two parts': 'B grant token',
    'an awake message with two parts': `W ${nonce} 1`,
  };
  for (const [what, text] of Object.entries(strangers)) {
    it(`gives undefined for ${what}`, () => {
      expect(parseCallback(text)).to.equal(undefined);
    });
  }
});

describe('openPayload', () => {
  const whole = { verb: 'pg_background_launch', arguments: { sql: 'SELECT 1' } };
  function open(json: unknown) {
    return openPayload(Buffer.from(JSON.stringify(json), 'latin1').toString('base64'));
  }

  it('gives verb and arguments, and nothing else', () => {
    expect(open({ ...whole, more: 1 })).to.deep.equal(whole);
  });

  it('gives arguments as the bytes of the database, one character each', () => {
    const payload = Buffer.from('{"verb":"x","arguments":{"sql":"\xc3\xa9"}}', 'latin1');
    expect(openPayload(payload.toString('base64'))?.arguments).to.deep.equal({ sql: '\xc3\xa9' });
  });

  const malformed: Readonly<Record<string, unknown>> = {
    'a number': 1,
    null: null,
    'no verb': { ...whole, verb: undefined },
    'a verb that is no text': { ...whole, verb: 1 },
    'no arguments': { ...whole, arguments: undefined },
    'arguments that are null': { ...whole, arguments: null },
  };
  for (const [what, json] of Object.entries(malformed)) {
    it(`gives undefined for ${what}`, () => {
      expect(open(json)).to.equal(undefined);
    });
  }

  it('gives undefined for what is no JSON', () => {
    expect(openPayload(Buffer.from('{"verb":').toString('base64'))).to.equal(undefined);
  });
});

describe('privilegeIndex', () => {
  it('gives each function of the API its place', () => {
    expect(apiFunctions.map(([name]) => privilegeIndex(name))).to.deep.equal(
      apiFunctions.map((_function, place) => place),
    );
  });

  it('gives -1 for any other name', () => {
    expect(privilegeIndex('key')).to.equal(-1);
  });
});

describe('isVerb', () => {
  it('is true for the functions of the API', () => {
    expect(apiFunctions.filter(([name]) => !isVerb(name))).to.deep.equal([]);
  });

  it('is false for a name that every object has', () => {
    expect(isVerb('constructor')).to.equal(false);
  });
});

/** Opens a packet as read_packet of sql/ does; undefined when the tag is wrong. */
function openPacket(text: string, packet: number): Buffer | undefined {
  const sealed = Buffer.from(text.slice(`pgbg:${nonce}:`.length), 'base64');
  const salt = Buffer.concat([seed, int32(packet)]);
  const opened = sealed.subarray(8).map((byte, at) => {
    const mask = sha256(salt, int32(Math.floor(at / 32)));
    return byte ^ (mask[at % 32] as number);
  });
  const tag = sha256(salt, int32(-1), opened).subarray(0, 8);
  return tag.equals(sealed.subarray(0, 8)) ? Buffer.from(opened) : undefined;
}

function sha256(...parts: readonly Uint8Array[]): Buffer {
  return createHash('sha256').update(Buffer.concat(parts)).digest();
}

describe('sealPacket', () => {
  it('gives the packet that another implementation gives', () => {
    expect(sealPacket(nonce, seed, 1, false, Buffer.from('{"ok":null}'))).to.equal(
      `pgbg:${nonce}:Ka2djrvcpK8rhFaHsYo1OBt6M2Y=`,
    );
  });

  it('masks a piece that is longer than one hash', () => {
    const piece = Buffer.from(Array.from({ length: 40 }, (_value, at) => at));
    expect(sealPacket(nonce, seed, 2, true, piece)).to.equal(
      `pgbg:${nonce}:GFSg78qXW9al8bQK1QqqeUu/89shvq8vxXxBwdIfs/St00D4EBi1+Pi+ZzZqnUK+aA==`,
    );
  });

  it('can be opened at every length of a piece', () => {
    for (let length = 0; length <= 100; length++) {
      const piece = Buffer.alloc(length, 'piece');
      const opened = openPacket(sealPacket(nonce, seed, 7, true, piece), 7);
      expect(opened).to.deep.equal(Buffer.concat([Buffer.of(1), piece]));
    }
  });

  it('marks the last packet with a zero byte', () => {
    const opened = openPacket(sealPacket(nonce, seed, 7, false, Buffer.from('x')), 7);
    expect(opened?.[0]).to.equal(0);
  });

  it('cannot be opened under another number', () => {
    expect(openPacket(sealPacket(nonce, seed, 7, false, Buffer.from('x')), 8)).to.equal(undefined);
  });
});

describe('NARROW_BYTES', () => {
  it('is the most that fits an application_name of 63 bytes', () => {
    const lengthOf = (size: number) => sealPacket(nonce, seed, 1, true, Buffer.alloc(size)).length;
    expect(lengthOf(NARROW_BYTES)).to.be.at.most(63);
    expect(lengthOf(NARROW_BYTES + 1)).to.be.above(63);
  });
});

describe('wideBytes', () => {
  it('is the most that fits a query text with its zero byte', () => {
    for (let querySize = 100; querySize < 300; querySize++) {
      const lengthOf = (size: number) =>
        `--${sealPacket(nonce, seed, 1, true, Buffer.alloc(size))}\0`.length;
      const size = wideBytes(querySize);
      expect(lengthOf(size)).to.be.at.most(querySize);
      expect(lengthOf(size + 1)).to.be.above(querySize);
    }
  });
});
