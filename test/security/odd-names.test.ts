/*
 * Attacks by names: roles, databases and settings whose names and values are SQL, quotes, backslashes
 * or nothing that a name should be. Each is used in all places in which the proxy writes it.
 */
import { expect } from 'chai';
import { serialize } from 'pg-protocol';
import { inBackground } from '../support/background.ts';
import { startupParameters } from '../support/messages.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';
import { fieldsOf, RawClient } from '../support/wire.ts';

const NAMES = [
  `a"b'c\\d`,
  `'; DROP TABLE t; --`,
  `"; DROP TABLE t; --`,
  `\\'; DROP TABLE t; --`,
  ` leading and trailing `,
  `$1`,
  `$$ $a$`,
  `comma,equals=x`,
  `per%cent %I %s %L`,
  `Grüße 日本 🦆`,
  `tab\tand\nline`,
  `E'\\x27'`,
  `none of it`,
  `none, postgres`,
  `-c role=postgres`,
  `/* no comment`,
  `x`.repeat(63),
];
const SETTINGS = [
  ...NAMES,
  `', false), pg_catalog.set_config('role', 'postgres`,
  `\\', false), pg_catalog.set_config('role', 'postgres`,
  `\\`,
  `'`,
  `''`,
  `"`,
  ``,
];

const identifier = (name: string) => `"${name.replaceAll('"', '""')}"`;
const WHO = 'SELECT current_user::text, session_user::text, current_database()::text';
const WHO_COLUMNS = 'by text, login text, db text';

describe('a name that is SQL', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    const direct = await proxy.database.direct();
    await direct.query('CREATE TABLE t (a int); GRANT SELECT ON t TO PUBLIC');
    for (const name of NAMES) {
      await direct.query(
        `CREATE ROLE ${identifier(name)} LOGIN; GRANT pgbackground_executor TO ${identifier(name)}`,
      );
    }
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(() => proxy.expectNothingLeft());
  after(async () => {
    const direct = await proxy.database.direct();
    const all = NAMES.map(identifier).join(', ');
    await direct.query(`DROP OWNED BY ${all}; DROP ROLE ${all}`);
    await proxy.stop();
  });

  const untouched = async () => {
    const { rows } = await (
      await proxy.database.direct()
    ).query(`SELECT to_regclass('public.t')::text AS t`);
    expect(rows).to.deep.equal([{ t: 't' }]);
  };

  for (const name of NAMES) {
    it(`is nothing but the role that logs in: ${JSON.stringify(name)}`, async () => {
      const role = await proxy.connect({ user: name });
      expect(await inBackground(role, WHO, WHO_COLUMNS)).to.deep.equal([
        [name, name, proxy.database.name],
      ]);
      await untouched();
    });

    it(`is nothing but the role that SET ROLE chooses: ${JSON.stringify(name)}`, async () => {
      await client.query(`SET ROLE ${identifier(name)}`);
      expect(await inBackground(client, WHO, WHO_COLUMNS)).to.deep.equal([
        [name, 'postgres', proxy.database.name],
      ]);
      await untouched();
    });

    it(`is nothing but the role that is granted and revoked: ${JSON.stringify(name)}`, async () => {
      expect(
        await client.rows(
          'SELECT grant_pg_background_privileges($1), revoke_pg_background_privileges($1)',
          [name],
        ),
      ).to.deep.equal([[true, true]]);
      expect(client.notices).to.deep.equal([]);
      await untouched();
    });
  }

  for (const name of NAMES.filter((_, place) => place % 3 === 0)) {
    it(`is nothing but the database: ${JSON.stringify(name)}`, async () => {
      const direct = await proxy.database.direct();
      await direct.query(`CREATE DATABASE ${identifier(name)} TEMPLATE template0`);
      const { host, port } = proxy.database;
      const other = await TestProxy.inFrontOf({ host, port, name });
      try {
        const there = await other.connect();
        await there.query('CREATE EXTENSION pg_background');
        expect(await inBackground(there, WHO, WHO_COLUMNS)).to.deep.equal([
          ['postgres', 'postgres', name],
        ]);
        await there.query(`SET ROLE ${identifier(name)}`);
        expect(await inBackground(there, WHO, WHO_COLUMNS)).to.deep.equal([
          [name, 'postgres', name],
        ]);
        await there.query('RESET ROLE; DROP EXTENSION pg_background');
        await other.expectNothingLeft();
      } finally {
        await other.stop();
        await (
          await proxy.database.direct()
        ).query(`DROP DATABASE ${identifier(name)} WITH (FORCE)`);
      }
    });
  }

  for (const value of SETTINGS) {
    it(`is nothing but the value of a setting: ${JSON.stringify(value)}`, async () => {
      await client.query(
        `SELECT set_config('odd.setting', $1, false), set_config('application_name', $1, false)`,
        [value],
      );
      const own = await client.value('SHOW application_name');
      expect(
        await inBackground(
          client,
          `SELECT current_setting('odd.setting'), current_setting('application_name'), current_user::text`,
          'odd text, name text, by text',
        ),
      ).to.deep.equal([[value, own, 'postgres']]);
      await untouched();
    });
  }

  it('is nothing but the value of a setting where the rules for quotes are the strictest', async () => {
    // What the role gives to each connection is there before the proxy writes its first literal.
    const direct = await proxy.database.direct();
    const alter = `ALTER ROLE ${identifier('x'.repeat(63))} IN DATABASE ${proxy.database.name}`;
    await direct.query(
      `${alter} SET backslash_quote = off; ${alter} SET standard_conforming_strings = off`,
    );
    const role = await proxy.connect({ user: 'x'.repeat(63) });
    for (const value of SETTINGS) {
      await role.query(`SELECT set_config('odd.setting', $1, false)`, [value]);
      const rows = inBackground(role, `SELECT current_setting('odd.setting')`, 'odd text');
      expect(await rows.catch((error: Error) => error.message), value).to.deep.equal([[value]]);
    }
    await untouched();
  });

  for (const name of [
    `odd.it's`,
    'odd."quoted"',
    'odd.a,b',
    'odd.a b',
    'odd.$1',
    'odd.ä',
    'odd.a;b',
    `pgbg_proxy.session`,
    'pg_background.odd',
  ]) {
    it(`is nothing but a setting of the startup packet: ${JSON.stringify(name)}`, async () => {
      const raw = await RawClient.connect(proxy.port);
      raw.listen();
      raw.socket.write(
        serialize.startup({ user: 'postgres', database: proxy.database.name, [name]: `v'v\\` }),
      );
      const answer = (await raw.untilOneOf('ZE')).at(-1);
      // The server takes such a name, and then a worker can be launched; or it refuses the session.
      if (answer?.type === 'Z') {
        const messages = await raw.query(
          `SELECT * FROM pg_background_result(pg_background_launch('${WHO}')) AS (${WHO_COLUMNS})`,
        );
        const types = messages.map(({ type }) => type).join('');
        expect(
          types,
          JSON.stringify(messages.filter(({ type }) => type === 'E').map(fieldsOf)),
        ).to.equal('TDCZ');
        await raw.end();
      } else {
        await raw.closed();
      }
      await untouched();
    });
  }

  describe('that a startup packet gives twice', () => {
    for (const [what, texts] of [
      ['user', ['user', 'x'.repeat(63), 'user', 'postgres', 'database', '@']],
      ['user, the superuser first', ['user', 'postgres', 'user', 'x'.repeat(63), 'database', '@']],
      ['database', ['user', 'x'.repeat(63), 'database', 'postgres', 'database', '@']],
      [
        'a role of the options',
        ['user', 'postgres', 'options', `-c role=${'x'.repeat(63)}`, 'database', '@'],
      ],
      ['a name longer than the server keeps', ['user', 'x'.repeat(80), 'database', '@']],
    ] as const) {
      it(`makes a worker run as whom the server has logged in: ${what}`, async () => {
        const raw = await RawClient.connect(proxy.port);
        raw.listen();
        const parameters = startupParameters(
          ...texts.map((text) => (text === '@' ? proxy.database.name : text)),
        );
        const head = Buffer.alloc(8);
        head.writeInt32BE(8 + parameters.length);
        head.writeInt32BE(196608, 4);
        raw.socket.write(Buffer.concat([head, parameters]));
        expect((await raw.untilOneOf('ZE')).at(-1)?.type).to.equal('Z');
        const rowOf = async (sql: string) =>
          (await raw.query(sql)).find(({ type }) => type === 'D')?.body.toString('hex');
        const own = await rowOf(WHO);
        expect(own).to.be.a('string');
        expect(
          await rowOf(
            `SELECT * FROM pg_background_result(pg_background_launch('${WHO}')) AS (${WHO_COLUMNS})`,
          ),
        ).to.equal(own);
        await raw.end();
      });
    }
  });
});
