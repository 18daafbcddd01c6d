import { expect } from 'chai';
import { eventually } from '../support/eventually.ts';
import type { TestProxy } from '../support/proxy.ts';
import { PSQL_ENVIRONMENT } from '../support/psql.ts';
import { runs } from './requirements.ts';
import { Terminal } from './terminal.ts';

const hasTerminal = runs('script', ['--version']);

/** Tests of what somebody does who sits in front of psql. */
export function itDoesInTerminal(proxy: () => TestProxy): void {
  const PROMPT = 'ready> ';
  let terminal: Terminal | undefined;

  /** psql, when it waits for a line. */
  async function psql(): Promise<Terminal> {
    terminal = new Terminal(
      `psql -X -q -A -t -n -w -P pager=off -v PROMPT1='${PROMPT}' '${proxy().url()}'`,
      PSQL_ENVIRONMENT,
    );
    await terminal.until(PROMPT);
    return terminal;
  }

  /** Waits until a session is in the middle of a statement. */
  async function running(text: string): Promise<void> {
    const admin = await proxy().database.direct();
    await eventually(async () => {
      const { rowCount } = await admin.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
            AND application_name = 'psql' AND query LIKE '%' || $1 || '%'`,
        [text],
      );
      expect(rowCount, `sessions that run ${text}`).to.equal(1);
    });
  }

  const itTyped = (title: string, body: () => Promise<void>) => {
    if (!hasTerminal) {
      it(`${title} (needs script, of util-linux)`);
      return;
    }
    it(title, async () => {
      try {
        await body();
      } finally {
        terminal?.kill();
      }
    });
  };

  itTyped('Ctrl-C', async () => {
    const shell = await psql();
    shell.type('SELECT pg_sleep(60);\n');
    await running('pg_sleep');
    shell.interrupt();
    expect(await shell.until(PROMPT)).to.include('ERROR:  canceling statement due to user request');
    shell.type(`SELECT 'it ' || 'goes on';\n`);
    await shell.until('it goes on');
    expect(await shell.end('\\q\n')).to.equal(0);
  });

  itTyped('Ctrl-C while it waits for a worker', async () => {
    const shell = await psql();
    shell.type(
      `SELECT pid, cookie FROM pg_background_launch_v2('SELECT 42 FROM pg_sleep(60)') \\gset\n`,
    );
    await shell.until(PROMPT);
    shell.type('SELECT * FROM pg_background_result_v2(:pid, :cookie) AS (x int);\n');
    await running('result_v2');
    shell.interrupt();
    expect(await shell.until(PROMPT)).to.include('ERROR:  canceling statement due to user request');
    // The worker is still there, and is told to end.
    shell.type('SELECT pg_background_cancel_v2(:pid, :cookie);\n');
    await shell.until(PROMPT);
    shell.type('SELECT * FROM pg_background_result_v2(:pid, :cookie) AS (x int);\n');
    expect(await shell.until(PROMPT)).to.include(
      'terminating background worker "pg_background" due to administrator command',
    );
    expect(await shell.end('\\q\n')).to.equal(0);
  });

  itTyped('Ctrl-C in \\watch', async () => {
    const shell = await psql();
    shell.type(`SELECT 'seen', 'again' \\watch 0.1\n`);
    for (let time = 0; time < 3; time++) await shell.until('seen|again');
    shell.interrupt();
    await shell.until(PROMPT);
    shell.type(`SELECT 'it ' || 'goes on';\n`);
    await shell.until('it goes on');
    expect(await shell.end('\\q\n')).to.equal(0);
  });

  itTyped('\\password', async () => {
    const role = `${proxy().database.name}_typist`;
    const admin = await proxy().database.direct();
    await admin.query(`CREATE ROLE ${role}`);
    try {
      const shell = await psql();
      shell.type(`\\password ${role}\n`);
      await shell.until(`Enter new password for user "${role}": `);
      shell.type('secret\n');
      await shell.until('Enter it again: ');
      shell.type('secret\n');
      await shell.until(PROMPT);
      expect(await shell.end('\\q\n')).to.equal(0);
      const { rows } = await admin.query<{ rolpassword: string }>(
        'SELECT rolpassword FROM pg_authid WHERE rolname = $1',
        [role],
      );
      expect(rows[0]?.rolpassword).to.match(/^SCRAM-SHA-256\$4096:/);
    } finally {
      await admin.query(`DROP ROLE ${role}`);
    }
  });
}
