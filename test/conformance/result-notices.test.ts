/*
 * Notices of a worker: kept until its result is read, then raised before the rows, in their order
 * and as they were, as far as the reader's client_min_messages lets them through.
 */
import { expect } from 'chai';
import type { NoticeMessage } from 'pg-protocol/dist/messages.js';
import {
  errorInBackground,
  inBackground,
  launch,
  launchHandle,
  readError,
  readResult,
} from '../support/background.ts';
import { TestProxy, type TestClient } from '../support/proxy.ts';
import { fieldsOf, RawClient } from '../support/wire.ts';

/** Raises one message of each level, as it is named on the wire. */
const ALL_LEVELS = `DO $$
  BEGIN
    RAISE DEBUG 'mine'; RAISE LOG 'mine'; RAISE NOTICE 'mine'; RAISE WARNING 'mine'; RAISE INFO 'mine';
  END $$`;

describe("a worker's notices", () => {
  let proxy: TestProxy;
  let client: TestClient;
  let notices: NoticeMessage[];

  before(async () => {
    proxy = await TestProxy.startInstalled();
  });
  beforeEach(async () => {
    client = await proxy.connect();
    notices = [];
    client.on('notice', (notice) => notices.push(notice as unknown as NoticeMessage));
  });
  afterEach(() => proxy.expectNothingLeft());
  after(() => proxy.stop());

  const texts = () => notices.map(({ message }) => message);
  const levels = () =>
    notices
      .filter(({ message }) => message === 'mine')
      .map((notice) => (notice as unknown as { severity: string }).severity);

  it('come with the result, not before', async () => {
    const handle = await launchHandle(client, `DO $$ BEGIN RAISE NOTICE 'mine'; END $$`);
    await client.query('SELECT pg_background_wait_v2($1, $2)', [...handle]);
    expect(texts()).to.deep.equal([]);
    await readResult(client, handle[0]);
    expect(texts()).to.deep.equal(['mine']);
  });

  it('come before any row', async () => {
    const raw = await RawClient.login(proxy.port, {
      user: 'postgres',
      database: proxy.database.name,
    });
    const answer = await raw.query(
      `SELECT * FROM pg_background_result(pg_background_launch($sql$
         SELECT 0; DO $$ BEGIN RAISE NOTICE 'one'; END $$; SELECT 1; DO $$ BEGIN RAISE NOTICE 'two'; END $$; SELECT generate_series(1, 3)
       $sql$)) AS (n int)`,
    );
    expect(answer.map(({ type }) => type).join('')).to.equal('TNNDDDCZ');
    expect(
      answer.filter(({ type }) => type === 'N').map((notice) => fieldsOf(notice)['M']),
    ).to.deep.equal(['one', 'two']);
    await raw.end();
  });

  it('come in the order in which they were raised', async () => {
    await inBackground(
      client,
      `DO $$ BEGIN FOR i IN 1..100 LOOP RAISE NOTICE '%', i; RAISE WARNING '%', i; END LOOP; END $$`,
    );
    expect(texts()).to.deep.equal(
      Array.from({ length: 200 }, (_, i) => String(Math.floor(i / 2) + 1)),
    );
  });

  it("come before the worker's error", async () => {
    const error = await errorInBackground(
      client,
      `DO $$ BEGIN RAISE NOTICE 'mine'; RAISE EXCEPTION 'failed'; END $$`,
    );
    expect(error.message).to.equal('failed');
    expect(texts()).to.deep.equal(['mine']);
  });

  it('come although what raised them is undone', async () => {
    await inBackground(
      client,
      `DO $$ BEGIN BEGIN RAISE NOTICE 'mine'; RAISE EXCEPTION 'undo'; EXCEPTION WHEN OTHERS THEN END; END $$`,
    );
    expect(texts()).to.deep.equal(['mine']);
  });

  it('come once, with the read that consumes the result', async () => {
    const pid = await launch(client, `DO $$ BEGIN RAISE NOTICE 'mine'; END $$`);
    expect((await readError(client, pid, 'n bigint')).code).to.equal('42804');
    expect(texts()).to.deep.equal([]);
    await readResult(client, pid);
    expect(texts()).to.deep.equal(['mine']);
  });

  it('are lost with a detach', async () => {
    const handle = await launchHandle(client, `DO $$ BEGIN RAISE NOTICE 'mine'; END $$`);
    await client.query('SELECT pg_background_wait_v2($1, $2)', [...handle]);
    await client.query('SELECT pg_background_detach_v2($1, $2)', [...handle]);
    expect(texts()).to.deep.equal([]);
  });

  it('of the server come, too', async () => {
    await inBackground(client, 'DROP TABLE IF EXISTS nowhere');
    expect(texts()).to.deep.equal(['table "nowhere" does not exist, skipping']);
  });

  it('of a worker within a worker come through both', async () => {
    await inBackground(
      client,
      `SELECT * FROM pg_background_result(pg_background_launch($$DO 'BEGIN RAISE NOTICE ''mine''; END'$$)) AS (r text)`,
    );
    expect(texts()).to.deep.equal(['mine']);
  });

  describe('pass', () => {
    for (const [level, passing] of [
      ['debug1', ['DEBUG', 'LOG', 'NOTICE', 'WARNING', 'INFO']],
      ['log', ['LOG', 'NOTICE', 'WARNING', 'INFO']],
      ['notice', ['NOTICE', 'WARNING', 'INFO']],
      ['warning', ['WARNING', 'INFO']],
      ['error', ['INFO']],
    ] as const) {
      it(`the reader's client_min_messages = ${level}: ${passing.join(', ')}`, async () => {
        await client.query('SET client_min_messages = debug1');
        const pid = await launch(client, ALL_LEVELS);
        await client.query(`SET client_min_messages = ${level}`);
        await readResult(client, pid);
        expect(levels()).to.deep.equal(passing);
      });

      it(`the inherited client_min_messages = ${level}: ${passing.join(', ')}`, async () => {
        await client.query(`SET client_min_messages = ${level}`);
        const pid = await launch(client, ALL_LEVELS);
        await client.query('SET client_min_messages = debug1');
        await readResult(client, pid);
        expect(levels()).to.deep.equal(passing);
      });
    }
  });

  describe('have', () => {
    /** All that a notice says but its context. */
    const told = (notice: NoticeMessage | undefined) => ({
      ...notice,
      where: undefined,
      length: 0,
    });
    const RAISE_ALL = `DO $$
      BEGIN
        RAISE WARNING USING ERRCODE = '01042', MESSAGE = 'größer', DETAIL = 'detail', HINT = 'hint',
          SCHEMA = 'schema', TABLE = 'table', COLUMN = 'column', DATATYPE = 'datatype', CONSTRAINT = 'constraint';
      END $$`;

    it('their level, code, message, detail and hint', async () => {
      await inBackground(client, RAISE_ALL);
      expect(notices[0]).to.include({
        severity: 'WARNING',
        code: '01042',
        message: 'größer',
        detail: 'detail',
        hint: 'hint',
      });
    });

    it('no detail and hint where there were none', async () => {
      await inBackground(client, `DO $$ BEGIN RAISE NOTICE 'mine'; END $$`);
      expect(notices[0]).to.include({ code: '00000', detail: undefined, hint: undefined });
    });

    for (const [what, sql] of [
      ['RAISE', RAISE_ALL],
      ['the server', 'DROP TABLE IF EXISTS nowhere'],
    ] as const) {
      it(`every field that they have in a session of their own, by ${what}`, async () => {
        await client.query(sql);
        await inBackground(client, sql);
        expect(told(notices[1])).to.deep.equal(told(notices[0]));
      });
    }

    it('their own context, and the worker, once', async () => {
      await client.query(RAISE_ALL);
      const pid = await launch(client, RAISE_ALL);
      await readResult(client, pid);
      expect(notices[1]?.where).to.equal(`${notices[0]?.where}\nbackground worker, pid ${pid}`);
    });
  });
});
