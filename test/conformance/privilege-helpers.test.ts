import { expect } from 'chai';
import { TestProxy, type TestClient } from '../support/proxy.ts';

/** Specifies the functions with which an owner says who may use pg_background, and its executor role. */

/** Every function that a user needs, as the helpers print it. */
const FUNCTIONS = [
  'pg_background_launch(pg_catalog.text, pg_catalog.int4)',
  'pg_background_result(pg_catalog.int4)',
  'pg_background_detach(pg_catalog.int4)',
  'pg_background_launch_v2(pg_catalog.text, pg_catalog.int4)',
  'pg_background_submit_v2(pg_catalog.text, pg_catalog.int4)',
  'pg_background_result_v2(pg_catalog.int4, pg_catalog.int8)',
  'pg_background_detach_v2(pg_catalog.int4, pg_catalog.int8)',
  'pg_background_cancel_v2(pg_catalog.int4, pg_catalog.int8)',
  'pg_background_cancel_v2_grace(pg_catalog.int4, pg_catalog.int8, pg_catalog.int4)',
  'pg_background_wait_v2(pg_catalog.int4, pg_catalog.int8)',
  'pg_background_wait_v2_timeout(pg_catalog.int4, pg_catalog.int8, pg_catalog.int4)',
  'pg_background_list_v2()',
  'pg_background_stats_v2()',
  'pg_background_progress(pg_catalog.int4, pg_catalog.text)',
  'pg_background_get_progress_v2(pg_catalog.int4, pg_catalog.int8)',
];
const HELPERS = [
  `grant_pg_background_privileges('helped')`,
  `revoke_pg_background_privileges('helped')`,
  'pg_background_drop_executor_role()',
];

describe('privilege helpers', () => {
  let proxy: TestProxy;
  let client: TestClient;

  before(async () => {
    proxy = await TestProxy.startInstalled();
    await (
      await proxy.database.direct()
    ).query('CREATE ROLE helped LOGIN; CREATE ROLE "Odd ""name"""');
  });
  beforeEach(async () => {
    client = await proxy.connect();
  });
  afterEach(async () => {
    const direct = await proxy.database.direct();
    await direct.query(`DROP OWNED BY helped, "Odd ""name"""`);
    await proxy.expectNothingLeft();
  });
  after(async () => {
    await (await proxy.database.direct()).query(`DROP ROLE helped; DROP ROLE "Odd ""name"""`);
    await proxy.stop();
  });

  const messages = () => client.notices.map(({ severity, message }) => `${severity}: ${message}`);
  const functionsOf = (role: string) =>
    client.value(
      `SELECT count(*)::int FROM pg_proc WHERE pronamespace = 'public'::regnamespace
          AND proname ~ '^pg_background_' AND has_function_privilege($1, oid, 'EXECUTE')`,
      [role],
    );

  describe('grant_pg_background_privileges', () => {
    it('gives a role all that it needs to use the functions, and says nothing', async () => {
      expect(await client.value(`SELECT grant_pg_background_privileges('helped')`)).to.equal(true);
      expect(messages()).to.deep.equal([]);
      const helped = await proxy.connect({ user: 'helped' });
      expect(
        await helped.rows(
          `SELECT * FROM pg_background_result(pg_background_launch('SELECT 1')) AS (n int)`,
        ),
      ).to.deep.equal([[1]]);
      expect(await functionsOf('helped')).to.equal(FUNCTIONS.length);
    });

    it('prints each command with print_commands', async () => {
      expect(
        await client.value(
          `SELECT grant_pg_background_privileges('helped', print_commands => true)`,
        ),
      ).to.equal(true);
      for (const name of FUNCTIONS) {
        expect(messages()).to.include(
          `INFO: Executed command: GRANT EXECUTE ON FUNCTION public.${name} TO helped`,
        );
      }
      expect(
        messages().filter(
          (message) => !/^INFO: Executed command: GRANT .* TO helped$/.test(message),
        ),
      ).to.deep.equal([]);
    });

    it('has an argument user_name', async () => {
      expect(
        await client.value(`SELECT grant_pg_background_privileges(user_name => 'helped')`),
      ).to.equal(true);
    });

    it('can be repeated', async () => {
      for (let i = 0; i < 2; i++) {
        expect(await client.value(`SELECT grant_pg_background_privileges('helped')`)).to.equal(
          true,
        );
      }
    });

    it('takes a name as it stands, and quotes it', async () => {
      expect(
        await client.value('SELECT grant_pg_background_privileges($1, true)', ['Odd "name"']),
      ).to.equal(true);
      expect(messages()).to.include(
        `INFO: Executed command: GRANT EXECUTE ON FUNCTION public.pg_background_list_v2() TO "Odd ""name"""`,
      );
    });
  });

  describe('revoke_pg_background_privileges', () => {
    it('takes from a role all that it was given', async () => {
      await client.query(`SELECT grant_pg_background_privileges('helped')`);
      expect(await client.value(`SELECT revoke_pg_background_privileges('helped')`)).to.equal(true);
      expect(messages()).to.deep.equal([]);
      expect(await functionsOf('helped')).to.equal(0);
      await (await proxy.database.direct()).query('DROP ROLE helped; CREATE ROLE helped LOGIN');
    });

    it('prints each command with print_commands', async () => {
      expect(await client.value(`SELECT revoke_pg_background_privileges('helped', true)`)).to.equal(
        true,
      );
      for (const name of FUNCTIONS) {
        expect(messages()).to.include(
          `INFO: Executed command: REVOKE EXECUTE ON FUNCTION public.${name} FROM helped`,
        );
      }
    });
  });

  describe('on an error', () => {
    for (const [verb, words] of [
      ['grant', 'granting pg_background privileges to'],
      ['revoke', 'revoking pg_background privileges from'],
    ]) {
      it(`${verb}_pg_background_privileges raises a NOTICE and gives false`, async () => {
        expect(
          await client.value(`SELECT ${verb}_pg_background_privileges('no_such_role')`),
        ).to.equal(false);
        expect(messages()).to.deep.equal([
          `NOTICE: Error ${words} no_such_role: role "no_such_role" does not exist`,
        ]);
      });

      for (const name of ['public', 'PUBLIC']) {
        it(`${verb}_pg_background_privileges refuses ${name}, with a NOTICE and false`, async () => {
          expect(
            await client.value(`SELECT ${verb}_pg_background_privileges($1, true)`, [name]),
          ).to.equal(false);
          expect(messages()).to.have.length(1);
          expect(messages()[0]).to.match(new RegExp(`^NOTICE: Error ${words} ${name}: `));
          expect(await functionsOf('public')).to.equal(0);
        });
      }
    }
  });

  describe('for others than the owner', () => {
    for (const helper of HELPERS) {
      it(`are refused: ${helper}`, async () => {
        await client.query('GRANT pgbackground_executor TO helped');
        const helped = await proxy.connect({ user: 'helped' });
        expect(await helped.error(`SELECT ${helper}`)).to.include({
          code: '42501',
          message: `permission denied for function ${helper.replace(/\(.*/, '')}`,
        });
        await client.query('REVOKE pgbackground_executor FROM helped');
      });
    }
  });
});

describe('the executor role', () => {
  let proxy: TestProxy;
  let client: TestClient;
  const rolesLike = (pattern: string) =>
    client.rows('SELECT rolname::text, rolcanlogin, rolinherit FROM pg_roles WHERE rolname ~ $1', [
      pattern,
    ]);

  beforeEach(async () => {
    proxy = await TestProxy.start();
    client = await proxy.connect();
  });
  afterEach(async () => {
    await proxy.expectNothingLeft();
    await proxy.stop();
  });

  it('is made by CREATE EXTENSION, and cannot log in', async () => {
    await client.query('CREATE EXTENSION pg_background');
    expect(await rolesLike('^pgbackground')).to.deep.equal([
      ['pgbackground_executor', false, true],
    ]);
  });

  it('survives DROP EXTENSION', async () => {
    await client.query('CREATE EXTENSION pg_background; DROP EXTENSION pg_background');
    expect(await rolesLike('^pgbackground')).to.have.length(1);
  });

  it('can be dropped by pg_background_drop_executor_role after a plain installation', async () => {
    await client.query('CREATE EXTENSION pg_background');
    expect(await client.rows('SELECT pg_background_drop_executor_role()')).to.deep.equal([['']]);
    expect(await rolesLike('^pgbackground')).to.deep.equal([]);
  });

  it('is not needed by those who were granted the functions themselves', async () => {
    await client.query(`CREATE EXTENSION pg_background; CREATE ROLE helped LOGIN`);
    await client.query(`SELECT grant_pg_background_privileges('helped')`);
    await client.query('SELECT pg_background_drop_executor_role()');
    const helped = await proxy.connect({ user: 'helped' });
    const pid = await helped.value(`SELECT pg_background_launch('SELECT 1')`);
    expect(
      await helped.rows('SELECT * FROM pg_background_result($1) AS (n int)', [pid]),
    ).to.deep.equal([[1]]);
    await helped.end();
    await client.query('DROP OWNED BY helped; DROP ROLE helped');
  });

  it('shares the grants with a role pgbackground_role that is there before', async () => {
    await client.query(
      'CREATE ROLE pgbackground_role NOLOGIN; CREATE ROLE helped LOGIN IN ROLE pgbackground_role',
    );
    await client.query('CREATE EXTENSION pg_background');
    const helped = await proxy.connect({ user: 'helped' });
    expect(
      await helped.rows(
        `SELECT * FROM pg_background_result(pg_background_launch('SELECT 1')) AS (n int)`,
      ),
    ).to.deep.equal([[1]]);
    await helped.end();
    await client.query(
      'DROP OWNED BY pgbackground_role; DROP ROLE helped; DROP ROLE pgbackground_role',
    );
  });
});
