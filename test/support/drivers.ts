import pg from 'pg';
import postgres from 'postgres';
import { hasPsql, runPsql } from './psql.ts';

/** Where and as whom a client logs in. */
export interface Login {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  /** TLS, with the certificate of the authority that the server's must come from, in a file and as text. */
  readonly tls?: { readonly caFile: string; readonly ca: string };
}

/** A client as people use it. */
export interface Driver {
  readonly name: string;
  /** Whether it is here. */
  readonly isPresent: boolean;
  /** Logs in, runs statements one after the other, and gives the first column of the last one's first row. */
  value(login: Login, ...statements: readonly string[]): Promise<string>;
}

/** Launches a worker that says who it is and reads its result: session_user and current_user. */
export const WHO_LAUNCHES = `SELECT who FROM pg_background_result(pg_background_launch(
  'SELECT session_user || '' as '' || current_user')) AS (who text)`;

/** What psql, pg and postgres.js have in common, each with its own words for it. */
export const drivers: readonly Driver[] = [
  {
    name: 'psql',
    isPresent: hasPsql,
    async value(login, ...statements) {
      const { stdout, stderr, code } = await runPsql(
        // A connection string would put the password in front of everybody who may run ps.
        '',
        statements.map((statement) => `${statement};\n`).join(''),
        ['-A', '-t', '-v', 'ON_ERROR_STOP=1'],
        psqlEnvironment(login),
      );
      if (code !== 0) throw new Error(stderr.trim());
      return stdout.trimEnd().split('\n').at(-1) ?? '';
    },
  },
  {
    name: 'pg',
    isPresent: true,
    async value({ tls, ...login }, ...statements) {
      const client = new pg.Client({ ...login, ...(tls && { ssl: { ca: tls.ca } }) });
      client.on('error', () => {});
      try {
        await client.connect();
        let value: unknown;
        for (const text of statements) {
          value = (await client.query<unknown[]>({ text, rowMode: 'array' })).rows[0]?.[0];
        }
        return String(value);
      } finally {
        await client.end().catch(() => {});
      }
    },
  },
  {
    name: 'postgres.js',
    isPresent: true,
    async value({ tls, ...login }, ...statements) {
      const sql = postgres({
        ...login,
        max: 1,
        fetch_types: false,
        onnotice: () => {},
        ssl: tls ? { ca: tls.ca } : false,
      });
      try {
        let value: unknown;
        for (const text of statements) {
          value = ((await sql.unsafe(text).values()) as unknown[][])[0]?.[0];
        }
        return String(value);
      } finally {
        await sql.end();
      }
    },
  },
];

/** The login as psql takes it from its environment. */
export function psqlEnvironment(login: Login): Record<string, string> {
  return {
    PGHOST: login.host,
    PGPORT: String(login.port),
    PGUSER: login.user,
    PGDATABASE: login.database,
    PGPASSWORD: login.password,
    PGSSLMODE: login.tls === undefined ? 'disable' : 'verify-full',
    ...(login.tls && { PGSSLROOTCERT: login.tls.caFile }),
    PGGSSENCMODE: 'disable',
  };
}
