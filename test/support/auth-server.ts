import { chmod, chown, copyFile, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import pg from 'pg';
import type { EmbeddedServer } from '../../proxy/embedded.ts';
import { certificates, hasOpenssl, type Certificate } from './certificates.ts';
import { EmbeddedScratch } from './embedded-scratch.ts';
import { eventually } from './eventually.ts';
import { serverPackage, testedVersion } from './server.ts';

/** A role that logs in with a password. */
export interface PasswordRole {
  readonly name: string;
  readonly password: string;
  /** How the server keeps it; a verifier that is given is kept as it stands. */
  readonly encryption?: 'scram-sha-256' | 'md5';
  /** Of CREATE ROLE. */
  readonly options?: string;
}

/** What pg_hba.conf is to say before anything else: the tests' own way in. */
const WAY_IN = 'host all postgres 127.0.0.1/32 trust';

/**
 * A server that authenticates: TLS is on where there is an openssl to make certificates, pg_hba.conf is
 * the test's. Superuser `postgres` comes in by trust from 127.0.0.1.
 */
export class AuthServer {
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly database: string;
  /** A superuser's connection; ended by stop(). */
  readonly admin: pg.Client;
  readonly #scratch: EmbeddedScratch;
  readonly #server: EmbeddedServer;

  private constructor(scratch: EmbeddedScratch, server: EmbeddedServer, admin: pg.Client) {
    this.#scratch = scratch;
    this.#server = server;
    this.admin = admin;
    this.port = server.port;
    this.database = 'app';
  }

  /** Starts a server with the database `app`; the rules are lines of pg_hba.conf. */
  static async start(rules: readonly string[]): Promise<AuthServer> {
    const scratch = await EmbeddedScratch.create();
    try {
      const packageName = serverPackage();
      const server = await scratch.start({
        ...(packageName === undefined ? {} : { packageName }),
        settings: {
          full_page_writes: 'off',
          autovacuum: 'off',
          // 18 warns of md5 passwords, which are what is tested.
          ...(testedVersion >= 18 && { md5_password_warnings: 'off' }),
        },
      });
      const admin = await connectAsAdmin(server.port);
      const started = new AuthServer(scratch, server, admin);
      await admin.query('CREATE DATABASE app');
      if (hasOpenssl) await started.#turnOnTls();
      await started.useRules(rules);
      return started;
    } catch (error) {
      await scratch.remove();
      throw error;
    }
  }

  /** Replaces pg_hba.conf, and pg_ident.conf, and waits until new sessions are held to them. */
  async useRules(rules: readonly string[], maps: readonly string[] = []): Promise<void> {
    await this.#write('pg_hba.conf', [WAY_IN, ...rules, ''].join('\n'));
    await this.#write('pg_ident.conf', [...maps, ''].join('\n'));
    await this.reload();
  }

  /** Shows another certificate to the clients that come from now on. */
  async useCertificate({ certFile, keyFile }: Certificate): Promise<void> {
    await this.#copy(certFile, 'server.crt');
    await this.#copy(keyFile, 'server.key');
    await this.reload();
  }

  async createRole(role: PasswordRole): Promise<void> {
    const { name, password, encryption = 'scram-sha-256', options = '' } = role;
    await this.admin.query(
      `SET password_encryption = '${encryption}';
       CREATE ROLE ${pg.escapeIdentifier(name)} LOGIN ${options} PASSWORD ${pg.escapeLiteral(password)}`,
    );
  }

  async changePassword(name: string, password: string): Promise<void> {
    await this.admin.query(
      `SET password_encryption = 'scram-sha-256';
       ALTER ROLE ${pg.escapeIdentifier(name)} PASSWORD ${pg.escapeLiteral(password)}`,
    );
  }

  /** What the server keeps of a role's password. */
  async verifierOf(name: string): Promise<string> {
    const { rows } = await this.admin.query<{ rolpassword: string }>(
      'SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1',
      [name],
    );
    return rows[0]?.rolpassword ?? '';
  }

  /** The pids of a role's sessions, but for the test's own that is named `direct`. */
  async backendsOf(role: string): Promise<number[]> {
    const { rows } = await this.admin.query<{ pid: number }>(
      `SELECT pid FROM pg_catalog.pg_stat_activity
        WHERE usename = $1 AND application_name <> 'direct' ORDER BY pid`,
      [role],
    );
    return rows.map(({ pid }) => pid);
  }

  /** The error with which the server itself refuses a login, without the proxy. */
  async refusalOf(config: pg.ClientConfig): Promise<pg.DatabaseError> {
    return loginErrorOf({ host: this.host, port: this.port, database: this.database, ...config });
  }

  async reload(): Promise<void> {
    const before = await this.#loadTime();
    // The time of a load has milliseconds: two loads in one must not look like none.
    await eventually(async () => {
      await this.admin.query('SELECT pg_catalog.pg_reload_conf()');
      // Only a new session tells what the postmaster has read, the rules included.
      expect(await this.#loadTime(), 'the time when the configuration was read').not.to.equal(
        before,
      );
    });
  }

  async stop(): Promise<void> {
    await this.admin.end();
    await this.#scratch.remove();
  }

  async #turnOnTls(): Promise<void> {
    const { authority, server } = certificates();
    await this.#copy(authority.certFile, 'root.crt');
    await this.#copy(server.certFile, 'server.crt');
    await this.#copy(server.keyFile, 'server.key');
    await this.admin.query(`ALTER SYSTEM SET ssl = on`);
    await this.admin.query(`ALTER SYSTEM SET ssl_ca_file = 'root.crt'`);
  }

  async #loadTime(): Promise<string> {
    const client = await connectAsAdmin(this.port);
    try {
      const { rows } = await client.query<{ time: string }>(
        'SELECT pg_catalog.pg_conf_load_time()::text AS time',
      );
      return rows[0]?.time ?? '';
    } finally {
      await client.end();
    }
  }

  async #copy(from: string, name: string): Promise<void> {
    await copyFile(from, await this.#owned(name));
  }

  async #write(name: string, text: string): Promise<void> {
    await writeFile(await this.#owned(name), text);
  }

  /** A file of the data folder that belongs to the user who runs the server, and to nobody else. */
  async #owned(name: string): Promise<string> {
    const path = join(this.#server.dataDirectory, name);
    const { uid, gid } = await stat(this.#server.dataDirectory);
    // Made here, so that a key is never open to others; rewritten in place, it stays as it is.
    await readFile(path).catch(() => writeFile(path, '', { mode: 0o600 }));
    await chmod(path, 0o600);
    if (process.getuid?.() === 0) await chown(path, uid, gid);
    return path;
  }
}

/** The error of a login that must fail. */
export async function loginErrorOf(config: pg.ClientConfig): Promise<pg.DatabaseError> {
  const client = new pg.Client(config);
  client.on('error', () => {});
  try {
    await client.connect();
  } catch (error) {
    if (error instanceof pg.DatabaseError) return error;
    throw error;
  } finally {
    await client.end().catch(() => {});
  }
  throw new Error(`${config.user ?? 'the user'} has logged in`);
}

/** What a refusal says, in all that a client is shown of it. */
export function wordsOf(error: pg.DatabaseError): Record<string, string | undefined> {
  const { severity, code, message, detail, hint, file, routine } = error;
  return { severity, code, message, detail, hint, file, routine };
}

async function connectAsAdmin(port: number): Promise<pg.Client> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port,
    user: 'postgres',
    database: 'postgres',
    application_name: 'direct',
  });
  client.on('error', () => {});
  await client.connect();
  return client;
}
