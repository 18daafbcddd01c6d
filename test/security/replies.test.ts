/*
 * Attacks on the way back: replies are shown where every role can look, and every role can show
 * something that looks like one.
 */
import { expect } from 'chai';
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { sealPacket } from '../../src/callback.ts';
import { launchHandle } from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { Gate, WAIT_AT_GATE } from '../support/gate.ts';
import { tagsOf } from '../support/handles.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const ROLES = ['reply_login', 'reply_victim', 'reply_watcher', 'reply_monitor'];
const SECRET = 'Sesam-oeffne-dich';

describe('a reply', () => {
  let proxy: TestProxy;
  let victim: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    await direct.query(`CREATE ROLE reply_victim; CREATE ROLE reply_login LOGIN IN ROLE reply_victim; CREATE ROLE reply_watcher LOGIN;
      CREATE ROLE reply_monitor LOGIN IN ROLE pg_monitor; GRANT pgbackground_executor TO reply_victim;
      CREATE TABLE vault (word text); INSERT INTO vault SELECT repeat('${SECRET} ', 8) FROM generate_series(1, 5);
      GRANT SELECT ON vault TO reply_victim`);
  });
  beforeEach(async () => {
    victim = await proxy.connect({ user: 'reply_login' });
    // This role may not read the control link's query text: it gets narrow packets, which all can see.
    await victim.query('SET ROLE reply_victim');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const direct = await proxy.database.direct();
    await direct.query(`DROP OWNED BY ${ROLES.join(', ')}; DROP ROLE ${ROLES.join(', ')}`);
    await proxy.stop();
  });

  // Not as a plain statement, whose rows go to the client without becoming a reply.
  const readSecret = (client = victim) =>
    client.rows(
      `SELECT word FROM pg_background_result(pg_background_launch('TABLE vault')) AS (word text)`,
    );

  /** All that a role sees in pg_stat_activity while others go on, until it has seen packets of several requests. */
  async function watch(user: string, others: () => Promise<unknown>) {
    const watcher = await proxy.database.direct(user);
    const texts = new Set<string>();
    const packets = () => [...texts].filter((text) => /^(--)?pgbg:/.test(text));
    await watcher.query('SET statement_timeout = 0');
    let isOver = false;
    const watching = (async () => {
      while (!isOver) {
        const { rows } = await watcher.query<{ text: string }>(
          `SELECT application_name AS text FROM pg_stat_activity UNION ALL SELECT query FROM pg_stat_activity
             WHERE pid <> pg_backend_pid() UNION ALL SELECT wait_event FROM pg_stat_activity`,
        );
        for (const { text } of rows) if (text) texts.add(text);
      }
    })();
    try {
      for (let i = 0; packets().length < 15 || new Set(packets().map(nonceOf)).size < 4; i++) {
        expect(i, 'rounds without enough packets').to.be.below(500);
        await others();
      }
    } finally {
      isOver = true;
    }
    await watching;
    return { texts: [...texts], packets: packets() };
  }

  const sealedPart = (packet: string) => Buffer.from(packet.split(':')[2] ?? '', 'base64');
  const nonceOf = (packet: string) => packet.split(':')[1];

  for (const [user, what, widest] of [
    ['reply_watcher', 'application_name', 30],
    ['reply_monitor', 'application_name and query', 700],
  ] as const) {
    it(`tells nothing to ${user}, who polls ${what}`, async () => {
      if (user === 'reply_monitor') await victim.query('RESET ROLE');
      const { texts, packets } = await watch(user, readSecret);
      const seen = [...texts, ...packets.map((packet) => sealedPart(packet).toString('latin1'))];
      for (const text of seen) {
        for (let at = 0; at + 5 <= SECRET.length; at++) {
          expect(text).to.not.include(SECRET.slice(at, at + 5));
        }
      }
      // What was seen are whole packets, as wide as this role gets to see them.
      const length = Math.max(...packets.map((packet) => sealedPart(packet).length));
      expect(length).to.be.at.least(widest === 30 ? 30 : 300);
      expect(new Set(packets.map((packet) => sealedPart(packet).toString('hex'))).size).to.equal(
        packets.length,
      );
    });
  }

  it('is not masked twice in the same way: the difference of two packets tells nothing', async () => {
    await victim.query('RESET ROLE');
    const { packets } = await watch('reply_monitor', readSecret);
    const sealed = packets.map(sealedPart).filter(({ length }) => length > 100);
    expect(sealed.length).to.be.above(1);
    for (const [i, a] of sealed.entries()) {
      for (const b of sealed.slice(i + 1)) {
        const equal = a.subarray(8, 108).filter((byte, at) => byte === b[8 + at]).length;
        expect(equal, 'equal bytes of 100').to.be.below(20);
      }
    }
  });

  it('cannot be predicted from the random numbers of the session', async () => {
    const { packets } = await watch('reply_watcher', async () => {
      await victim.query('SELECT setseed(0.25)');
      await readSecret();
    });
    // The same seed and the same reads, and yet no two packets are the same.
    const bodies = packets.map((packet) => sealedPart(packet).toString('hex'));
    expect(new Set(bodies).size).to.equal(bodies.length);
  });

  describe('that another makes up', () => {
    const nonce = randomBytes(12).toString('base64');
    const seed = randomBytes(32);
    const honest = sealPacket(nonce, seed, 2, false, Buffer.from('the truth'));
    const lie = Buffer.from('a lie');
    const flipped = (packet: string) => {
      const body = sealedPart(packet);
      body[10] = (body[10] ?? 0) ^ 1;
      return `pgbg:${nonce}:${body.toString('base64')}`;
    };
    const show = (client: pg.Client, text: string) =>
      client.query(`SELECT set_config('application_name', $1, false)`, [text]);

    /** What the function that waits for packet 2 takes for it, while a forger shows something. */
    async function readWhile(user: string, forged: string): Promise<string> {
      const [forger, speaker, observer] = [
        await proxy.database.direct(user),
        await proxy.database.direct('reply_login'),
        await proxy.database.direct(),
      ];
      await show(forger, forged);
      const pid = await pidOf(forger);
      // The forger has even made the function look at nobody else.
      await victim.query(`SELECT set_config('pgbg_proxy.control_pid', $1, false)`, [String(pid)]);
      const own = await victim.value('SELECT pg_backend_pid()');
      const role = await victim.value(`SELECT 'reply_login'::regrole::oid`);
      const reading = victim.value(
        `SELECT convert_from(substr(pgbackground.read_packet($1, $2, 2, $3, false, NULL, false), 2), 'UTF8')`,
        [nonce, seed, role],
      );
      let isOver = false;
      void reading.finally(() => (isOver = true)).catch(() => {});
      await eventually(async () => {
        const { rows } = await observer.query(
          `SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'`,
          [own],
        );
        expect(isOver || rows.length > 0, 'it has looked, and waits').to.equal(true);
      });
      await show(speaker, honest);
      const read = String(await reading);
      for (const client of [forger, speaker]) await show(client, 'direct');
      return read;
    }

    const forgeries: readonly (readonly [string, string, string])[] = [
      [
        'is ignored though its seal is right, from another role',
        'reply_watcher',
        sealPacket(nonce, seed, 2, false, lie),
      ],
      [
        'is ignored without the seed, from the same role',
        'reply_login',
        sealPacket(nonce, randomBytes(32), 2, false, lie),
      ],
      [
        'is ignored when it is an earlier one, shown again',
        'reply_login',
        sealPacket(nonce, seed, 1, false, lie),
      ],
      [
        'is ignored when it is a later one, shown too early',
        'reply_login',
        sealPacket(nonce, seed, 3, false, lie),
      ],
      ['is ignored when one bit of it was turned', 'reply_login', flipped(honest)],
      [
        'is ignored when it was cut',
        'reply_login',
        `pgbg:${nonce}:${sealedPart(honest).subarray(0, 12).toString('base64')}`,
      ],
      ['is ignored when it is no base64', 'reply_login', `pgbg:${nonce}:${'%'.repeat(36)}`],
      ['is ignored when it is empty', 'reply_login', `pgbg:${nonce}:`],
      [
        'is ignored when it is for another request',
        'reply_login',
        sealPacket('A'.repeat(16), seed, 2, false, lie),
      ],
    ];
    for (const [fact, user, forged] of forgeries) {
      it(fact, async () => {
        expect(await readWhile(user, forged)).to.equal('the truth');
      });
    }

    it('is ignored from roles that copy the nonce of a call that waits', async () => {
      const gate = new Gate(await proxy.database.direct());
      await gate.close();
      const handle = await launchHandle(
        victim,
        `${WAIT_AT_GATE}; SELECT 1 WHERE false; SET work_mem = '1MB'`,
      );
      const result = tagsOf(victim, handle);
      const watcher = await proxy.database.direct('reply_watcher');
      const twin = await proxy.database.direct('reply_login');
      let copied = '';
      await eventually(async () => {
        const { rows } = await watcher.query<{ application_name: string }>(
          `SELECT application_name FROM pg_stat_activity WHERE application_name ~ '^pgbg:'`,
        );
        copied = rows[0]?.application_name ?? '';
        expect(copied).to.match(/^pgbg:/);
      });
      const stolen = copied.split(':')[1] ?? '';
      await show(watcher, copied);
      await show(twin, sealPacket(stolen, randomBytes(32), 2, false, Buffer.from('{"ok":{}}')));
      await gate.open();
      expect(await result).to.have.length(3);
      for (const client of [watcher, twin]) await show(client, 'direct');
    });
  });
});

async function pidOf(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return rows[0]?.pid ?? 0;
}
