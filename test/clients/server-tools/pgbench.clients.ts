import { expect } from 'chai';
import { clientSuite } from '../client-suite.ts';
import { ScratchFolder } from '../../support/scratch-file.ts';
import { serverTool } from '../requirements.ts';
import { runTool } from './tool.ts';

const CLIENTS = 4;
const TRANSACTIONS = 100;

const pgbench = serverTool('pgbench');
clientSuite('pgbench', { missing: pgbench.missing }, (proxy) => {
  let folder: ScratchFolder;
  before(async () => {
    folder = await ScratchFolder.create();
    await runTool(pgbench, ['--initialize', '--quiet', proxy().url()]);
  });
  after(() => folder?.remove());

  /** Runs a fixed number of transactions, of which none may fail. */
  async function bench(options: readonly string[], transactions = TRANSACTIONS): Promise<void> {
    const { stdout } = await runTool(pgbench, [
      ...['--no-vacuum', '-c', String(CLIENTS), '-j', '2', '-t', String(transactions)],
      ...options,
      proxy().url(),
    ]);
    const all = CLIENTS * transactions;
    expect(stdout).to.include(`number of transactions actually processed: ${all}/${all}`);
    expect(stdout).not.to.match(/number of failed transactions: [1-9]/);
  }

  async function sums(): Promise<{ history: string; count: string }> {
    const admin = await proxy().database.direct();
    const { rows } = await admin.query<Record<string, string>>(
      `SELECT (SELECT sum(abalance) FROM pgbench_accounts) AS accounts,
              (SELECT sum(tbalance) FROM pgbench_tellers) AS tellers,
              (SELECT sum(bbalance) FROM pgbench_branches) AS branches,
              (SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS history,
              (SELECT count(*) FROM pgbench_history) AS count`,
    );
    const { accounts, tellers, branches, history = '', count = '' } = rows[0] ?? {};
    expect([accounts, tellers, branches]).to.deep.equal([history, history, history]);
    return { history, count };
  }

  for (const mode of ['simple', 'extended', 'prepared']) {
    it(`-M ${mode}`, async () => {
      const { count: before } = await sums();
      await bench(['-M', mode]);
      const { count: after } = await sums();
      expect(Number(after) - Number(before)).to.equal(CLIENTS * TRANSACTIONS);
    });

    it(`workers, -M ${mode}`, async () => {
      const script = await folder.write(
        `workers-${mode}.sql`,
        `\\set i random(1, 1000)
         SELECT * FROM pg_background_launch_v2('SELECT ' || :i) \\gset
         SELECT 1 / (x = :i)::int FROM pg_background_result_v2(:pid, :cookie) AS (x int);\n`,
      );
      await bench(['-M', mode, '-f', script], 20);
    });
  }

  for (const mode of ['extended', 'prepared']) {
    it(`\\startpipeline and \\endpipeline, -M ${mode}`, async () => {
      const admin = await proxy().database.direct();
      await admin.query(`CREATE TABLE IF NOT EXISTS piped (a int); TRUNCATE piped`);
      const script = await folder.write(
        `pipeline-${mode}.sql`,
        `\\set i random(1, 1000)
         \\startpipeline
         BEGIN;
         INSERT INTO piped VALUES (:i::int);
         SELECT :i * 2;
         INSERT INTO piped VALUES (-(:i::int));
         END;
         SELECT count(*) FROM pgbench_branches;
         \\endpipeline\n`,
      );
      await bench(['-M', mode, '-f', script]);
      const { rows } = await admin.query('SELECT count(*)::int, sum(a)::int FROM piped');
      expect(rows).to.deep.equal([{ count: 2 * CLIENTS * TRANSACTIONS, sum: 0 }]);
    });
  }
});
