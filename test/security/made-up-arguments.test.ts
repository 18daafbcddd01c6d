/*
 * Attacks by what a genuine request carries: whoever may call a function may also sign a payload of
 * his own, with arguments that no function would send, and characters that are no bytes.
 */
import { expect } from 'chai';
import { inBackground } from '../support/background.ts';
import { eventually } from '../support/eventually.ts';
import { launchOf, payloadOf, play, sign } from '../support/forgery.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';

const ROLES = ['made_up_member', 'made_up_weak'];
const TAKE = 'INSERT INTO taken VALUES (current_user)';

/** JSON can name characters that are no bytes; whoever cuts them to bytes gets other ones: U+0127 ends as a quote. */
const HIDDEN = {
  semicolon: '\\u013b',
  quote: '\\u0127',
  C: '\\u0143',
  O: '\\u014f',
  newline: '\\u010a',
};

/** Ends a literal in SELECT set_config(...), and begins another. */
const BREAK_OUT = `', false), public.take(), pg_catalog.set_config('x.z', '`;

describe('a genuine request with arguments of its own', () => {
  let proxy: TestProxy;
  let member: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    await direct.query(`CREATE ROLE made_up_weak; CREATE ROLE made_up_member LOGIN;
      GRANT made_up_weak TO made_up_member; GRANT pgbackground_executor TO made_up_member, made_up_weak;
      CREATE TABLE taken (by text); GRANT INSERT ON taken TO PUBLIC; CREATE TABLE kept (a int); GRANT ALL ON kept TO PUBLIC`);
  });
  beforeEach(async () => {
    member = await proxy.connect({ user: 'made_up_member' });
    await (await proxy.database.direct()).query('TRUNCATE taken, kept');
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const direct = await proxy.database.direct();
    await direct.query(`DROP OWNED BY ${ROLES.join(', ')}; DROP ROLE ${ROLES.join(', ')}`);
    await proxy.stop();
  });

  const direct = async (sql: string) =>
    (await (await proxy.database.direct()).query<unknown[]>({ text: sql, rowMode: 'array' })).rows;
  const launched = () => member.value('SELECT workers_launched FROM pg_background_stats_v2()');

  /** Asks by a payload whose arguments are written as they stand. */
  const ask = async (verb: string, args: string) =>
    play(proxy, member, await sign(member, payloadOf(verb, args)));

  /** Settles when all workers of this session have ended. */
  async function ended(): Promise<void> {
    await eventually(() => {
      expect(proxy.engine.runningWorkers).to.equal(0);
      return Promise.resolve();
    });
  }

  describe('runs no SQL that was not looked at', () => {
    for (const [what, sql] of [
      [
        'a quote that the server would read, and the parser does not',
        `INSERT INTO kept VALUES (1); SELECT 'a${HIDDEN.quote}; COMMIT; SELECT 1/0 --'`,
      ],
      [
        'a semicolon in a name that the server would read, and the parser does not',
        `INSERT INTO kept VALUES (1); SELECT 1 AS x${HIDDEN.semicolon}COMMIT${HIDDEN.semicolon}; SELECT 1/0`,
      ],
      [
        'a line end that turns a comment into SQL',
        `INSERT INTO kept VALUES (1); SELECT 1 -- ${HIDDEN.newline}; COMMIT; SELECT 1/0`,
      ],
    ] as const) {
      it(`for ${what}`, async () => {
        await ask('pg_background_launch_v2', `{"sql":"${sql}","settings":{},"custom":{}}`);
        await ended();
        // Had there been a COMMIT, the division would not have undone the row.
        expect(await direct('TABLE kept')).to.deep.equal([]);
        expect(await inBackground(member, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
      });
    }

    it('for SQL that goes on behind a zero', async () => {
      await ask(
        'pg_background_launch_v2',
        `{"sql":"SELECT 1\\u0000; COMMIT; ${TAKE}","settings":{},"custom":{}}`,
      );
      await ended();
      expect(await direct('TABLE taken')).to.deep.equal([]);
      expect(await inBackground(member, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
    });
  });

  describe('sets what it says, and runs nothing, with settings that hold SQL', () => {
    const payloads: readonly (readonly [what: string, name: string, value: string])[] = [
      ['a quote in a value', 'x.y', `v${BREAK_OUT}`],
      ['a backslash and a quote in a value', 'x.y', `v\\${BREAK_OUT}`],
      ['a quote in a name', `x.y', 'v', false), public.take(), pg_catalog.set_config('x.z`, 'v'],
      ['a backslash at the end of a value', 'x.y', 'v\\'],
      ['a semicolon', 'x.y', `v'; SELECT public.take(); --`],
    ];
    before(() =>
      direct(`CREATE FUNCTION take() RETURNS text LANGUAGE sql AS $$ ${TAKE} RETURNING 'taken' $$`),
    );

    for (const kind of ['settings', 'custom'] as const) {
      for (const [what, name, value] of payloads) {
        it(`${what}, among ${kind}`, async () => {
          const sql = `INSERT INTO kept VALUES (length(current_setting('x.y', true)))`;
          await play(
            proxy,
            member,
            await sign(member, launchOf(sql, { [kind]: { [name]: value } })),
          );
          await ended();
          expect(await direct('TABLE taken')).to.deep.equal([]);
          if (name === 'x.y') {
            await eventually(async () => {
              expect(await direct('TABLE kept')).to.deep.equal([[value.length]]);
            });
          }
        });
      }

      it(`a quote that is no byte, among ${kind}`, async () => {
        const value = `v${BREAK_OUT.replaceAll("'", HIDDEN.quote)}`;
        await ask('pg_background_launch_v2', `{"sql":"SELECT 1","${kind}":{"x.y":"${value}"}}`);
        await ended();
        expect(await direct('TABLE taken')).to.deep.equal([]);
      });
    }
  });

  describe('does not change who runs the SQL', () => {
    for (const kind of ['settings', 'custom'] as const) {
      for (const name of ['role', 'session_authorization', 'is_superuser']) {
        it(`by ${name} among ${kind}`, async () => {
          await member.query('SET ROLE made_up_weak');
          const payload = launchOf(TAKE, { [kind]: { [name]: 'postgres' } });
          await play(proxy, member, await sign(member, payload));
          await ended();
          for (const [by] of await direct('TABLE taken')) expect(by).to.equal('made_up_weak');
        });
      }
    }
  });

  it('does not change with what settings another role launches, whatever digest it names', async () => {
    const digest = await member.value('SELECT pgbackground.settings_digest()');
    const shown = () => inBackground(member, `SELECT current_setting('search_path')`);
    const before = await shown();
    await member.query('SET ROLE made_up_weak');
    const settings = { search_path: 'evil' };
    const payload = launchOf('SELECT 1', { settingsDigest: digest, settings });
    expect((await play(proxy, member, await sign(member, payload))).isAnswered).to.equal(true);
    await member.query('RESET ROLE');
    expect(await member.value('SELECT pgbackground.settings_digest()')).to.equal(digest);
    expect(await shown()).to.deep.equal(before);
    expect(await shown()).to.deep.equal(before);
  });

  it('is answered or dropped, and never harms the proxy, whatever the arguments are', async () => {
    const values = [
      'null',
      '[]',
      '{}',
      '"x"',
      '-1',
      '1e999',
      '1.5',
      'true',
      '"\\u0000"',
      '"\\u4e2d"',
      '{"__proto__":1}',
      '[[[[]]]]',
    ];
    const names = [
      'pid',
      'cookie',
      'sql',
      'queueSize',
      'settings',
      'settingsDigest',
      'custom',
      'maxWorkers',
      'workerTimeout',
      'defaultQueueSize',
      'timeoutMs',
      'graceMs',
      'step',
      'throughTable',
      'pct',
      'msg',
    ];
    for (const verb of [
      'pg_background_launch_v2',
      'pg_background_result_v2',
      'pg_background_cancel_v2_grace',
      'pg_background_stats_v2',
      'pg_background_progress',
    ]) {
      for (const value of values) {
        const args = `{${names.map((name) => `"${name}":${value}`).join(',')}}`;
        const { isAnswered, logged } = await ask(verb, args);
        expect(isAnswered || logged.length > 0, `${verb} ${args}`).to.equal(true);
      }
    }
    await ended();
    expect(await inBackground(member, 'SELECT 1', 'n int')).to.deep.equal([[1]]);
    expect(proxy.log.filter((line) => line === 'a call failed')).to.deep.equal([]);
  });

  for (const [what, payload] of [
    ['no JSON', Buffer.from('{').toString('base64')],
    ['no object', Buffer.from('7').toString('base64')],
    ['a list', Buffer.from('[]').toString('base64')],
    ['deeply nested', Buffer.from('['.repeat(100_000)).toString('base64')],
    ['without arguments', Buffer.from('{"verb":"pg_background_stats_v2"}').toString('base64')],
    ['empty', ''],
    ['no base64', '%%%%'],
  ] as const) {
    it(`is dropped when its payload is ${what}`, async () => {
      expect((await play(proxy, member, await sign(member, payload))).logged).to.deep.equal([
        'callback dropped: a malformed request',
      ]);
      expect(await launched()).to.equal('0');
    });
  }
});
