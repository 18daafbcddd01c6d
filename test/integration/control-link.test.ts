import { expect } from 'chai';
import type pg from 'pg';
import { ControlLink } from '../../src/control-link.ts';
import { createDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';

const KEY = '-8070450532247928832';

describe('a lock that functions sleep on', () => {
  let database: TestDatabase;
  let other: pg.Client;
  let link: ControlLink;

  before(async () => {
    database = await createDatabase();
    other = await database.direct();
  });
  beforeEach(async () => {
    const { host, port, name } = database;
    link = await ControlLink.open(
      { server: { host, port }, role: 'postgres', database: name },
      undefined,
      [],
      10_000,
    );
  });
  afterEach(() => link.close());
  after(() => database.drop());

  const isFree = async () => {
    const { rows } = await other.query<{ free: boolean }>(
      `SELECT CASE WHEN pg_try_advisory_lock_shared($1) THEN pg_advisory_unlock_shared($1) ELSE false END AS free`,
      [KEY],
    );
    return rows[0]?.free;
  };
  const holders = async () => {
    const { rows } = await other.query<{ pid: number; mode: string }>(
      `SELECT pid, mode FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1`,
    );
    return rows;
  };

  it('is held until it is released', async () => {
    const lock = link.lock(KEY, () => {});
    await eventually(async () => void expect(await isFree()).to.equal(false));
    lock.release();
    await eventually(async () => void expect(await isFree()).to.equal(true));
  });

  it('is taken although a function looks at the very moment in which it is tried', async () => {
    await other.query('SELECT pg_advisory_lock_shared($1)', [KEY]);
    link.lock(KEY, () => {});
    // What is asked later is answered later: it was tried by then.
    await link.isLoginOf(link.pid);
    expect((await holders()).map(({ pid }) => pid)).to.not.include(link.pid);
    await other.query('SELECT pg_advisory_unlock_shared($1)', [KEY]);
    await eventually(
      async () =>
        void expect(await holders()).to.deep.equal([{ pid: link.pid, mode: 'ExclusiveLock' }]),
    );
  });

  it('is not taken any more once it is released', async () => {
    await other.query('SELECT pg_advisory_lock_shared($1)', [KEY]);
    const lock = link.lock(KEY, () => {});
    await link.isLoginOf(link.pid);
    lock.release();
    await other.query('SELECT pg_advisory_unlock_shared($1)', [KEY]);
    // Both are behind whatever was still to be tried.
    await link.isLoginOf(link.pid);
    await link.isLoginOf(link.pid);
    expect(await holders()).to.deep.equal([]);
  });

  it('tells when it is lost with its link', async () => {
    const lost = new Promise<void>((resolve) => link.lock(KEY, resolve));
    await eventually(async () => void expect(await isFree()).to.equal(false));
    await other.query('SELECT pg_terminate_backend($1)', [link.pid]);
    await lost;
    expect(() => link.lock(KEY, () => {})).to.throw('the control link was closed');
  });
});
