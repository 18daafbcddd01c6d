/*
 * Attacks with a signing key that somebody has got hold of after all: in another database, after it
 * was replaced, or one that was only asked for.
 */
import { expect } from 'chai';
import type pg from 'pg';
import { newGrantToken } from '../../src/index.ts';
import { inBackground } from '../support/background.ts';
import {
  hexOf,
  launchOf,
  newHeader,
  partOf,
  play,
  requestOf,
  sign,
  type Request,
} from '../support/forgery.ts';
import { TEST_SECRET, TestProxy, type TestClient } from '../support/proxy.ts';

const TAKE = 'INSERT INTO public.taken VALUES (current_user)';

/** Signs with a key that is known, as anybody. */
const FORGE = `SELECT concat('R ', c.context, ' ', $4::text, ' ',
    encode(sha256(k.k || sha256(k.k || convert_to($4::text, 'UTF8'))), 'hex'))
  FROM (SELECT concat_ws(',', 'v1', 'free', $1::text, pg_backend_pid(), floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
          encode(convert_to(current_user::text, 'UTF8'), 'hex'), current_user::regrole::oid, repeat('t', 15),
          current_setting('pgbg_proxy.session')) AS context) AS c,
       LATERAL (SELECT sha256($3::bytea || sha256($2::bytea || convert_to(c.context, 'UTF8'))) AS k) AS k`;

interface Key {
  readonly key_id: string;
  readonly inner_key: Buffer;
  readonly outer_key: Buffer;
}

describe('a signing key that somebody has', () => {
  let proxy: TestProxy;
  let admin: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    await direct.query(`CREATE ROLE key_thief LOGIN; GRANT pgbackground_executor TO key_thief;
      CREATE TABLE taken (by text); GRANT INSERT ON taken TO PUBLIC`);
  });
  beforeEach(async () => {
    admin = await proxy.connect();
    await (await proxy.database.direct()).query('TRUNCATE taken');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const direct = await proxy.database.direct();
    await direct.query('DROP OWNED BY key_thief; DROP ROLE key_thief');
    await proxy.stop();
  });

  const readKey = async (client: pg.Client): Promise<Key> => {
    const { rows } = await client.query<Key>('TABLE pgbackground.installation');
    const [key] = rows;
    if (key === undefined) throw new Error('no key is stored');
    return key;
  };
  const forge = async (client: TestClient, key: Key): Promise<Request> =>
    requestOf(
      String(
        await client.value(FORGE, [
          key.key_id,
          key.inner_key,
          key.outer_key,
          `${newHeader()} ${launchOf(TAKE)}`,
        ]),
      ),
    );
  const taken = async () => (await (await proxy.database.direct()).query('TABLE taken')).rowCount;

  it('signs as long as it is in force, or these tests would show nothing', async () => {
    const guest = await proxy.connect({ user: 'key_thief' });
    const request = await forge(guest, await readKey(admin));
    expect(partOf(request, 'role')).to.equal(hexOf('key_thief'));
    expect((await play(proxy, guest, request)).isAnswered).to.equal(true);
    await proxy.disconnectAll();
    expect(await taken()).to.equal(1);
  });

  it('is worthless at once when it was replaced, in the sessions that there were', async () => {
    const guest = await proxy.connect({ user: 'key_thief' });
    await inBackground(guest, 'SELECT 1', 'n int');
    const old = await readKey(admin);
    await admin.query('ALTER EXTENSION pg_background UPDATE');
    const { isAnswered } = await play(proxy, guest, await forge(guest, old));
    expect(isAnswered, 'is answered').to.equal(false);
    expect(await inBackground(guest, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
    expect(await taken()).to.equal(0);
  });

  it('is worthless when it was bought with the token of a printed block, which never expires', async () => {
    const member = await proxy.connect({ user: 'key_thief' });
    const bought = (await member.value(`SELECT pgbackground.call('key', '{}', $1)`, [
      newGrantToken(TEST_SECRET),
    ])) as Record<string, string>;
    expect(Object.keys(bought)).to.include.members(['keyId', 'innerKey', 'outerKey']);
    const request = await forge(member, {
      key_id: String(bought['keyId']),
      inner_key: Buffer.from(String(bought['innerKey']), 'hex'),
      outer_key: Buffer.from(String(bought['outerKey']), 'hex'),
    });
    expect((await play(proxy, member, request)).logged).to.deep.equal([
      'callback dropped: a request signed with a foreign key',
    ]);
    expect(await taken()).to.equal(0);
  });

  it('is worthless in a clone, by the functions and by hand', async () => {
    await proxy.expectNothingLeft();
    const clone = await TestProxy.start({}, `TEMPLATE ${proxy.database.name}`);
    try {
      const there = await clone.connect({ user: 'key_thief' });
      for (const name of ['launch', 'launch_v2', 'submit_v2']) {
        expect(await there.error(`SELECT pg_background_${name}($1)`, [TAKE])).to.include({
          code: '55000',
        });
      }
      await play(clone, there, await sign(there, launchOf(TAKE)));
      const direct = await clone.database.direct();
      expect((await direct.query('TABLE taken')).rows).to.deep.equal([]);
      expect(clone.engine.runningWorkers).to.equal(0);
      await clone.expectNothingLeft();
    } finally {
      await clone.stop();
    }
  });
});
