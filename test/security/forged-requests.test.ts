/*
 * Attacks on the callback channel by notices that are raised by hand: a worker that starts, or a
 * request that is honoured, although nobody who may has asked for it.
 */
import { expect } from 'chai';
import { randomUUID } from 'node:crypto';
import { eventually } from '../support/eventually.ts';
import {
  expectNothingStarted,
  takenBy,
  hexOf,
  launchOf,
  makeUp,
  newHeader,
  partOf,
  payloadOf,
  play,
  playText,
  raising,
  requestOf,
  sign,
  signing,
  textOf,
  withPart,
  type Request,
} from '../support/forgery.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const ROLES = ['forging_member', 'forging_guest'];

/** What each forged request would run. */
const TAKE = 'INSERT INTO taken VALUES (current_user)';

interface Attack {
  readonly what: string;
  readonly forge: (request: Request) => string;
  /** Why it is dropped; where only the signature shows it, its maker may be told. */
  readonly reason?: string;
}

const part = (name: Parameters<typeof withPart>[1], value: string) => (request: Request) =>
  textOf(withPart(request, name, value));

/** Requests that somebody with all rights has signed, and then changed. */
const changes: readonly Attack[] = [
  {
    what: 'that names another role',
    forge: part('role', hexOf('postgres')),
  },
  {
    what: 'that names the oid of another role',
    forge: part('roleOid', '10'),
  },
  {
    what: 'that names another role and its oid',
    forge: (r) => textOf(withPart(withPart(r, 'role', hexOf('postgres')), 'roleOid', '10')),
  },
  {
    what: 'whose number was raised',
    forge: (r) => part('number', String(Number(partOf(r, 'number')) + 1_000_000))(r),
  },
  {
    what: 'whose privileges were edited',
    forge: part('privileges', 't'.repeat(16)),
  },
  {
    what: 'whose SQL was replaced',
    forge: (r) => textOf({ ...r, payload: launchOf(`${TAKE}; SELECT 1`) }),
  },
  {
    what: 'whose return address was replaced',
    forge: (r) => textOf({ ...r, header: `${r.header.slice(0, 17)}${'0'.repeat(64)},0` }),
  },
  {
    what: 'whose signature is empty',
    forge: (r) => textOf({ ...r, mac: '' }),
  },
  {
    what: 'whose signature is all zeros',
    forge: (r) => textOf({ ...r, mac: '0'.repeat(64) }),
  },
  {
    what: 'whose signature has grown',
    forge: (r) => textOf({ ...r, mac: `${r.mac}00` }),
  },
  {
    what: 'whose signature was turned around',
    forge: (r) => textOf({ ...r, mac: [...r.mac].reverse().join('') }),
  },
  {
    what: 'without a signature',
    forge: (r) => textOf(r).split(' ').slice(0, 4).join(' '),
    reason: 'a message that is none of ours',
  },
  {
    what: 'of another version',
    forge: part('version', 'v0'),
    reason: 'a message that is none of ours',
  },
  {
    what: 'with a kind of context that does not exist',
    forge: part('kind', 'unbound'),
    reason: 'a message that is none of ours',
  },
  {
    what: 'of another backend',
    forge: part('pid', '1'),
    reason: 'a request of another backend',
  },
  {
    what: 'with a token that is made up',
    forge: part('token', randomUUID()),
    reason: 'a request of another session',
  },
  {
    what: "with the token of a worker's session",
    forge: part('token', `worker:${randomUUID()}`),
    reason: 'a request of another session',
  },
  {
    what: 'with the ID of a foreign key',
    forge: part('keyId', randomUUID()),
    reason: 'a request signed with a foreign key',
  },
];

describe('a request that is raised by hand', () => {
  let proxy: TestProxy;
  let member: TestClient;
  let guest: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    await direct.query(`CREATE ROLE forging_member LOGIN; CREATE ROLE forging_guest LOGIN;
      GRANT pgbackground_executor TO forging_member;
      CREATE TABLE taken (by text); GRANT INSERT ON taken TO PUBLIC;
      CREATE FUNCTION sign_as_owner(text) RETURNS text LANGUAGE sql SECURITY DEFINER AS $f$ ${signing('bound_signature')} $f$`);
  });
  beforeEach(async () => {
    member = await proxy.connect({ user: 'forging_member' });
    guest = await proxy.connect({ user: 'forging_guest' });
    await (await proxy.database.direct()).query('TRUNCATE taken');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const direct = await proxy.database.direct();
    await direct.query(`DROP OWNED BY ${ROLES.join(', ')}; DROP ROLE ${ROLES.join(', ')}`);
    await proxy.stop();
  });

  const nothingStarted = (client = member) => expectNothingStarted(proxy, client);

  it('is honoured when it is genuine, or these tests would show nothing', async () => {
    const { isAnswered, logged } = await play(proxy, member, await sign(member, launchOf(TAKE)));
    expect({ isAnswered, logged }).to.deep.equal({ isAnswered: true, logged: [] });
    await eventually(async () => {
      expect(await takenBy(proxy)).to.deep.equal(['forging_member']);
    });
  });

  describe('starts nothing', () => {
    for (const { what, forge, reason } of changes) {
      it(what, async () => {
        const genuine = await sign(member, launchOf(TAKE));
        const forged = forge(genuine);
        expect(forged).to.not.equal(textOf(genuine));
        const { logged } = await playText(
          proxy,
          member,
          forged,
          forged.split(' ')[2]?.slice(0, 16),
        );
        await nothingStarted();
        if (reason !== undefined) expect(logged).to.deep.equal([`callback dropped: ${reason}`]);
      });
    }

    it('from a role without grants that knows everything but the key', async () => {
      await play(proxy, guest, await makeUp(guest, launchOf(TAKE)));
      await nothingStarted();
      expect(guest.notices).to.deep.equal([]);
    });

    it('from a role without grants that calls itself the superuser', async () => {
      const request = withPart(await makeUp(guest, launchOf(TAKE)), 'role', hexOf('postgres'));
      await play(proxy, guest, withPart(request, 'roleOid', '10'));
      await nothingStarted();
    });

    it('when a bound signature of the superuser was turned into a free one', async () => {
      const header = newHeader();
      const bound = requestOf(
        String(await member.value('SELECT sign_as_owner($1)', [`${header} ${launchOf(TAKE)}`])),
      );
      expect(partOf(bound, 'kind')).to.equal('bound');
      expect(partOf(bound, 'role')).to.equal(hexOf('postgres'));
      await play(proxy, member, withPart(bound, 'kind', 'free'));
      await nothingStarted();
    });

    it('when its verb is no function of the API', async () => {
      for (const verb of ['key', 'constructor', '__proto__', '']) {
        const { logged } = await play(proxy, member, await sign(member, payloadOf(verb, {})));
        expect(logged, verb).to.deep.equal(['callback dropped: a malformed request']);
      }
      await nothingStarted();
    });

    it('when it asks for a key with a token that is made up', async () => {
      const text = `I ${randomUUID()} ${newHeader()} ${payloadOf('key', {})}`;
      const { logged } = await playText(proxy, member, text);
      expect(logged).to.deep.equal(['callback dropped: a stray install']);
      await nothingStarted();
    });
  });

  for (const [who, ask] of [
    ['a member', async () => ({ ...(await sign(member, launchOf(TAKE))), mac: '0'.repeat(64) })],
    ['a role without grants', () => makeUp(guest, launchOf(TAKE))],
  ] as const) {
    it(`is logged when its signature is wrong, and comes from ${who}`, async () => {
      const { logged } = await play(proxy, who === 'a member' ? member : guest, await ask());
      expect(logged).to.have.length(1);
      expect(logged[0]).to.match(/^callback dropped: /);
    });
  }

  for (const text of [
    '',
    'x',
    'R',
    'T made-up CREATE EXTENSION',
    'B made-up',
    'F receipt',
    'W nonce',
    'A nonce 1',
    'L nonce 1',
  ]) {
    it(`is dropped and logged when it is no request: ${JSON.stringify(text)}`, async () => {
      const { logged } = await playText(proxy, guest, text);
      expect(logged).to.have.length(1);
      expect(logged[0]).to.match(/^callback dropped: a (stray|message)/);
      expect(guest.notices).to.deep.equal([]);
      await nothingStarted();
    });
  }

  it('starts nothing when it is truncated, wherever it is cut', async () => {
    const genuine = await sign(member, launchOf(TAKE));
    const text = textOf(genuine);
    for (let end = 0; end < text.length; end++) {
      await member.query(raising([text.slice(0, end)]));
    }
    expect(proxy.log.some((line) => line.startsWith('callback dropped'))).to.equal(true);
    expect(await takenBy(proxy)).to.deep.equal([]);
    // None of the pieces has used the request up: it was its number that counted, not its beginning.
    expect((await play(proxy, member, genuine)).isAnswered).to.equal(true);
    await eventually(async () => {
      expect(await takenBy(proxy)).to.deep.equal(['forging_member']);
    });
  });

  it('starts nothing when many are raised in one statement', async () => {
    const genuine = await sign(member, launchOf(TAKE));
    const texts = changes.map(({ forge }) => forge(genuine));
    await member.query(raising([...texts, ...texts, ...texts]));
    await nothingStarted();
  });
});
