import { expect } from 'chai';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasPsql, runPsql } from '../support/psql.ts';
import { SeededRandom } from '../support/random.ts';
import { ScratchFolder } from '../support/scratch-file.ts';
import { clientSuite } from './client-suite.ts';
import { itLogsIn } from './logins.ts';
import { itDoesInTerminal } from './psql-terminal.ts';

const missing = hasPsql ? undefined : 'postgresql-client';

clientSuite('psql', { missing }, (proxy) => {
  let folder: ScratchFolder;
  before(async () => {
    folder = await ScratchFolder.create();
  });
  after(() => folder?.remove());

  /** What a script prints, errors too. */
  async function said(script: string, options: readonly string[] = ['-A', '-t']) {
    const { stdout, stderr } = await runPsql(proxy().url(), script, options);
    return (stdout + stderr).trimEnd().split('\n');
  }

  it('\\copy in and out', async () => {
    const [from, to] = [join(folder.path, 'in.csv'), join(folder.path, 'out.csv')];
    const lines = Array.from({ length: 20_000 }, (_, i) => `${i},"größer, ${i}"\n`).join('');
    await writeFile(from, lines);
    const seen = await said(`
      CREATE TABLE copied (a int, b text);
      \\copy copied FROM '${from}' (FORMAT csv)
      SELECT count(*), sum(a) FROM copied;
      \\copy (SELECT * FROM copied ORDER BY a) TO '${to}' (FORMAT csv)
    `);
    expect(seen).to.deep.equal(['20000|199990000']);
    expect(await readFile(to, 'utf8')).to.equal(lines);
  });

  it('COPY FROM STDIN in a script', async () => {
    expect(
      await said(
        'CREATE TABLE inline (a int);\nCOPY inline FROM STDIN;\n1\n2\n\\.\nSELECT sum(a) FROM inline;\n',
      ),
    ).to.deep.equal(['3']);
  });

  it('\\gset', async () => {
    expect(
      await said(`SELECT 42 AS a, 'o''clock' AS b \\gset
        SELECT :a + 1, :'b';`),
    ).to.deep.equal(["43|o'clock"]);
  });

  it('\\gexec and \\gdesc', async () => {
    expect(
      await said(`SELECT format('SELECT %s', i) FROM generate_series(1, 3) AS i \\gexec
        SELECT 1 AS a, 'x'::text AS b \\gdesc`),
    ).to.deep.equal(['1', '2', '3', 'a|integer', 'b|text']);
  });

  it('\\watch', async () => {
    // It goes on until something fails.
    const seen = await said(`CREATE SEQUENCE watched;
      SELECT 6 / (3 - nextval('watched')) AS left \\watch 0.1
      SELECT 'after';`);
    expect(seen.filter((line) => /^(3|6|after|ERROR.*zero)$/.test(line))).to.deep.equal([
      '3',
      '6',
      'after',
      'ERROR:  division by zero',
    ]);
  });

  it('FETCH_COUNT', async () => {
    const seen = await said(`\\set FETCH_COUNT 100
      SELECT generate_series(1, 1050);
      SELECT 'after';`);
    expect(seen).to.deep.equal([...Array.from({ length: 1050 }, (_, i) => String(i + 1)), 'after']);
  });

  it('\\lo_import and \\lo_export', async () => {
    const [from, to] = [join(folder.path, 'in.bin'), join(folder.path, 'out.bin')];
    const bytes = new SeededRandom(1).bytes(300_000);
    await writeFile(from, bytes);
    await said(`\\lo_import '${from}'
      \\lo_export :LASTOID '${to}'
      \\lo_unlink :LASTOID`);
    expect((await readFile(to)).equals(bytes), 'the same bytes').to.equal(true);
  });

  it('\\c', async () => {
    const { name } = proxy().database;
    expect(
      await said(`SELECT pg_backend_pid() AS first \\gset
        \\c postgres
        SELECT current_database();
        \\c ${name}
        SELECT current_database(), pg_backend_pid() <> :first;`),
    ).to.deep.equal(['postgres', `${name}|t`]);
  });

  it('LISTEN and NOTIFY', async () => {
    const seen = await said(`LISTEN news;
      SELECT 1 FROM pg_notify('news', 'größer');`);
    expect(seen[0]).to.equal('1');
    expect(seen[1]).to.match(
      /^Asynchronous notification "news" with payload "größer" received from server process with PID \d+\.$/,
    );
  });

  it('-1 -f', async () => {
    const bad = await folder.write('bad.sql', 'CREATE TABLE undone (a int);\nSELECT 1/0;\n');
    const good = await folder.write('good.sql', 'CREATE TABLE done (a int);\n');
    const failed = await runPsql(proxy().url(), '', [
      ...['-v', 'ON_ERROR_STOP=1', '-1', '-f', bad],
    ]);
    expect([failed.code, failed.stderr.includes('division by zero')]).to.deep.equal([3, true]);
    expect((await runPsql(proxy().url(), '', ['-1', '-f', good])).code).to.equal(0);
    expect(await said(`SELECT to_regclass('undone') IS NULL, to_regclass('done');`)).to.deep.equal([
      't|done',
    ]);
  });

  it('ON_ERROR_ROLLBACK', async () => {
    const seen = await said(`\\set ON_ERROR_ROLLBACK on
      BEGIN;
      CREATE TABLE kept (a int);
      SELECT 1/0;
      INSERT INTO kept VALUES (42);
      COMMIT;
      SELECT a FROM kept;`);
    expect(seen).to.deep.equal(['42', 'ERROR:  division by zero']);
  });

  it('\\d', async () => {
    const seen = await said(
      `CREATE TABLE described (a int PRIMARY KEY, b text DEFAULT 'x');
      \\d described
      \\df pg_background_launch_v2`,
    );
    expect(seen[0]).to.equal('a|integer||not null|');
    expect(seen[1]).to.equal("b|text|||'x'::text");
    expect(seen.at(-1)).to.match(/^public\|pg_background_launch_v2\|/);
  });

  it('\\errverbose', async () => {
    const seen = await said('SELECT 1/0;\n\\errverbose');
    expect(seen.slice(0, 2)).to.deep.equal([
      'ERROR:  division by zero',
      'ERROR:  22012: division by zero',
    ]);
    expect(seen[2]).to.match(/^LOCATION: {2}int4div, int\.c:\d+$/);
  });

  it('a worker and its result', async () => {
    expect(
      await said(`SELECT pid, cookie FROM pg_background_launch_v2(
          'SELECT i, i * 1.5 FROM generate_series(1, 3) AS i') \\gset
        SELECT * FROM pg_background_result_v2(:pid, :cookie) AS (x int, y numeric);`),
    ).to.deep.equal(['1|1.5', '2|3.0', '3|4.5']);
  });

  it("a worker's rows to \\copy", async () => {
    const to = join(folder.path, 'worker.csv');
    await said(
      `\\copy (SELECT * FROM pg_background_result(pg_background_launch('SELECT generate_series(1, 3)')) AS (x int)) TO '${to}'`,
    );
    expect(await readFile(to, 'utf8')).to.equal('1\n2\n3\n');
  });

  it("a worker's notices and error", async () => {
    const seen = await said(
      `SELECT * FROM pg_background_result(pg_background_launch(
         'DO $$ BEGIN RAISE NOTICE ''halfway''; RAISE EXCEPTION ''no further''; END $$')) AS (result text);
       SELECT 'after';`,
    );
    expect(seen.filter((line) => /^(NOTICE|ERROR|after)/.test(line))).to.deep.equal([
      'after',
      'NOTICE:  halfway',
      'ERROR:  no further',
    ]);
  });

  itDoesInTerminal(proxy);

  itLogsIn(async (url) => {
    const { stdout, stderr } = await runPsql(
      url,
      `SELECT session_user, who
         FROM pg_background_result(pg_background_launch('SELECT session_user')) AS (who text);`,
    );
    return (stdout.trimEnd() + stderr).split('|');
  });
});
