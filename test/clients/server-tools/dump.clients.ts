import { expect } from 'chai';
import { join } from 'node:path';
import { createDatabase, type TestDatabase } from '../../support/database.ts';
import { runPsql } from '../../support/psql.ts';
import { TestProxy } from '../../support/proxy.ts';
import { ScratchFolder } from '../../support/scratch-file.ts';
import { clientSuite } from '../client-suite.ts';
import { serverTool } from '../requirements.ts';
import { missingOf, runTool } from './tool.ts';

const pgDump = serverTool('pg_dump');
const pgRestore = serverTool('pg_restore');
const pgDumpall = serverTool('pg_dumpall');

/** One of each kind that a dump treats in its own way. */
const SCHEMA = `
  CREATE TYPE mood AS ENUM ('sad', 'happy');
  CREATE DOMAIN positive AS int CHECK (VALUE > 0);
  CREATE TABLE people (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mood mood, data bytea);
  COMMENT ON TABLE people IS 'größer; than';
  INSERT INTO people (name, mood, data)
    SELECT E'tab\\t, line\\n, \\\\ and größer ' || i, (ARRAY['sad', 'happy', NULL])[i % 3 + 1]::mood, int4send(i)
      FROM generate_series(1, 5000) AS i;
  CREATE TABLE orders (person int REFERENCES people, amount positive, at timestamptz) PARTITION BY RANGE (amount);
  CREATE TABLE small_orders PARTITION OF orders FOR VALUES FROM (1) TO (100);
  CREATE TABLE large_orders PARTITION OF orders FOR VALUES FROM (100) TO (1000);
  INSERT INTO orders SELECT i, i % 500 + 1, to_timestamp(i) FROM generate_series(1, 5000) AS i;
  CREATE INDEX ON orders (at);
  CREATE VIEW happy AS SELECT * FROM people WHERE mood = 'happy';
  CREATE MATERIALIZED VIEW totals AS SELECT person, sum(amount) AS total FROM orders GROUP BY person;
  CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
  CREATE TRIGGER noted BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION note();
  CREATE SEQUENCE counter START 42;
  SELECT nextval('counter'), lo_from_bytea(0, decode(repeat('00ff', 5000), 'hex'));
`;

clientSuite('pg_dump and pg_restore', { missing: missingOf(pgDump, pgRestore) }, (proxy) => {
  let folder: ScratchFolder;
  let target: TestDatabase;

  before(async () => {
    folder = await ScratchFolder.create();
    const { stderr } = await runPsql(proxy().url(), SCHEMA);
    expect(stderr).to.equal('');
  });
  beforeEach(async () => {
    target = await createDatabase();
  });
  afterEach(() => target?.drop());
  after(() => folder?.remove());

  const direct = ({ host, port, name }: TestDatabase) =>
    `postgres://postgres@${host}:${port}/${name}`;
  const throughProxy = ({ name }: TestDatabase) =>
    `postgres://postgres@127.0.0.1:${proxy().port}/${name}`;

  /** The database as SQL, without what each dump makes up. */
  async function plainDump(url: string): Promise<string> {
    const { stdout } = await runTool(pgDump, [url]);
    return stdout.replaceAll(/^\\(un)?restrict .*\n/gm, '');
  }

  async function expectRestored(): Promise<void> {
    const [source, restored] = [
      await plainDump(direct(proxy().database)),
      await plainDump(direct(target)),
    ];
    expect(source.length).to.be.above(500_000);
    expect(restored === source, 'the restored database is that of the dump').to.equal(true);
  }

  it('plain format', async () => {
    const dump = await plainDump(proxy().url());
    expect(dump === (await plainDump(direct(proxy().database))), 'the same dump').to.equal(true);
    const { stderr } = await runPsql(throughProxy(target), dump);
    expect(stderr).to.equal('');
    await expectRestored();
  });

  it('custom format', async () => {
    const file = join(folder.path, 'custom.dump');
    await runTool(pgDump, ['-Fc', '-f', file, proxy().url()]);
    await runTool(pgRestore, ['--exit-on-error', '-d', throughProxy(target), file]);
    await expectRestored();
  });

  it('directory format, in two jobs', async () => {
    const file = join(folder.path, 'directory.dump');
    await runTool(pgDump, ['-Fd', '-j', '2', '-f', file, proxy().url()]);
    await runTool(pgRestore, ['--exit-on-error', '-j', '2', '-d', throughProxy(target), file]);
    await expectRestored();
  });

  it('--single-transaction and --inserts', async () => {
    const file = join(folder.path, 'inserts.dump');
    await runTool(pgDump, ['-Fc', '--rows-per-insert=500', '-f', file, proxy().url()]);
    await runTool(pgRestore, ['--single-transaction', '-d', throughProxy(target), file]);
    await expectRestored();
  });

  it('workers in the restored database', async () => {
    const file = join(folder.path, 'workers.dump');
    await runTool(pgDump, ['-Fc', '-f', file, proxy().url()]);
    await runTool(pgRestore, ['--exit-on-error', '-d', throughProxy(target), file]);
    const restored = await TestProxy.inFrontOf(target);
    try {
      const client = await restored.connect();
      await client.query('ALTER EXTENSION pg_background UPDATE');
      expect(
        await client.rows(
          `SELECT * FROM pg_background_result(pg_background_launch('SELECT count(*) FROM people')) AS (count bigint)`,
        ),
      ).to.deep.equal([['5000']]);
      await restored.expectNothingLeft();
    } finally {
      await restored.stop();
    }
  });
});

clientSuite('pg_dumpall', { missing: pgDumpall.missing }, (proxy) => {
  it('--globals-only', async () => {
    const role = `${proxy().database.name}_global`;
    const admin = await proxy().database.direct();
    await admin.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`);
    try {
      const globals = async (url: string) =>
        (await runTool(pgDumpall, ['--globals-only', '-d', url])).stdout.replaceAll(
          /^\\(un)?restrict .*\n/gm,
          '',
        );
      const { host, port, name } = proxy().database;
      const seen = await globals(proxy().url());
      expect(seen).to.include(`CREATE ROLE ${role};`);
      expect(seen).to.equal(await globals(`postgres://postgres@${host}:${port}/${name}`));
    } finally {
      await admin.query(`DROP ROLE ${role}`);
    }
  });
});
