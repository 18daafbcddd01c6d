import pg from 'pg';
import { sharedServer } from './server.ts';

let count = 0;

/** A fresh database on the shared server, for one test file. */
export interface TestDatabase {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** A connection that goes around the proxy; closed by drop(). */
  direct(user?: string): Promise<pg.Client>;
  /** Closes the connections that go around the proxy. */
  disconnect(): Promise<void>;
  drop(): Promise<void>;
}

export async function createDatabase(options = ''): Promise<TestDatabase> {
  const { host, port } = await sharedServer();
  const name = `test_${process.pid}_${++count}`;
  const admin = new pg.Client({ host, port, user: 'postgres', database: 'postgres' });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${name} ${options}`);
  const database = existingDatabase({ host, port, name });
  return {
    ...database,
    async drop() {
      await database.disconnect();
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
      await admin.end();
    },
  };
}

/** A database that is somebody else's: drop() leaves it alone. */
export function existingDatabase(place: {
  readonly host: string;
  readonly port: number;
  readonly name: string;
}): TestDatabase {
  const { host, port, name } = place;
  const clients: pg.Client[] = [];
  const disconnect = async () => {
    await Promise.all(clients.splice(0).map((client) => client.end()));
  };
  return {
    name,
    host,
    port,
    async direct(user = 'postgres') {
      const client = new pg.Client({
        host,
        port,
        user,
        database: name,
        application_name: 'direct',
      });
      client.on('error', () => {}); // terminated, or its server stopped
      await client.connect();
      clients.push(client);
      return client;
    },
    disconnect,
    drop: disconnect,
  };
}
