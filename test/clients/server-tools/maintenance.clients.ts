import { expect } from 'chai';
import { clientSuite } from '../client-suite.ts';
import { serverTool } from '../requirements.ts';
import { runTool } from './tool.ts';

/** Tables for the jobs of one program. */
const TABLES = `
  CREATE TABLE one (a int PRIMARY KEY);
  CREATE TABLE two (a int PRIMARY KEY);
  INSERT INTO one SELECT generate_series(1, 1000);
  INSERT INTO two SELECT generate_series(1, 2000);
`;

const vacuumdb = serverTool('vacuumdb');
clientSuite('vacuumdb', { missing: vacuumdb.missing }, (proxy) => {
  it('--analyze in two jobs', async () => {
    const admin = await proxy().database.direct();
    await admin.query(TABLES);
    await runTool(vacuumdb, ['-z', '-j', '2', '-d', proxy().url()]);
    const { rows } = await admin.query(
      `SELECT relname, reltuples::int FROM pg_class WHERE relname IN ('one', 'two') ORDER BY relname`,
    );
    expect(rows).to.deep.equal([
      { relname: 'one', reltuples: 1000 },
      { relname: 'two', reltuples: 2000 },
    ]);
  });
});

const reindexdb = serverTool('reindexdb');
clientSuite('reindexdb', { missing: reindexdb.missing }, (proxy) => {
  /** Where the indexes of the tables are: elsewhere once they were made again. */
  async function indexFiles(): Promise<number[]> {
    const admin = await proxy().database.direct();
    const { rows } = await admin.query<{ file: number }>(
      `SELECT pg_relation_filenode(indexrelid)::int AS file FROM pg_index
        WHERE indrelid IN ('one'::regclass, 'two'::regclass)`,
    );
    return rows.map(({ file }) => file);
  }

  before(async () => {
    await (await proxy().database.direct()).query(TABLES);
  });

  for (const [feature, options] of [
    ['in two jobs', ['-j', '2']],
    ['--concurrently', ['--concurrently', '-t', 'one', '-t', 'two']],
  ] as const) {
    it(feature, async () => {
      const before = await indexFiles();
      await runTool(reindexdb, [...options, '-d', proxy().url()]);
      const after = await indexFiles();
      expect(after).to.have.lengthOf(2);
      expect(after.filter((file) => before.includes(file))).to.deep.equal([]);
    });
  }
});
