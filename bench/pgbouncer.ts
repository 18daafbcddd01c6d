import { chown, mkdir, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { findServerAccount, runAs } from '../proxy/embedded-account.ts';
import { startProgram, versionOf } from './program.ts';
import type { Resources } from './resources.ts';

const READY_TIMEOUT_MS = 10_000;
const POLL_INTERVAL_MS = 20;

/** A PgBouncer in session mode. */
export interface RunningPgBouncer {
  readonly pid: number;
  readonly port: number;
}

/** An installed PgBouncer. Debian has it where the path of ordinary users does not lead. */
export async function findPgBouncer(
  resources: Resources,
): Promise<{ program: string; version: string } | undefined> {
  for (const program of ['pgbouncer', '/usr/sbin/pgbouncer']) {
    const version = await versionOf(resources, program);
    if (version !== undefined) return { program, version };
  }
  return undefined;
}

/** Starts one on a free port, as another user for root, whom it refuses. */
export async function startPgBouncer(
  resources: Resources,
  program: string,
  { folder, upstreamPort }: { folder: string; upstreamPort: number },
): Promise<RunningPgBouncer> {
  const home = join(folder, 'pgbouncer');
  const account = await findServerAccount(home);
  const port = await findFreePort();
  await mkdir(home, { recursive: true });
  await writeFile(join(home, 'users.txt'), '"postgres" ""\n');
  await writeFile(join(home, 'pgbouncer.ini'), settings(home, port, upstreamPort));
  if (account) await chown(home, account.uid, account.gid);
  const { child } = startProgram(
    resources,
    program,
    ['-q', join(home, 'pgbouncer.ini')],
    { stdio: ['ignore', 'ignore', 'inherit'], cwd: home, ...runAs(account) },
    ['SIGTERM'],
  );
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (!(await accepts(port))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      throw new Error('PgBouncer does not come up');
    }
    await delay(POLL_INTERVAL_MS);
  }
  return { pid: child.pid ?? 0, port };
}

function settings(home: string, port: number, upstreamPort: number): string {
  return `[databases]
* = host=127.0.0.1 port=${upstreamPort}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${join(home, 'users.txt')}
pool_mode = session
max_client_conn = 1000
default_pool_size = 200
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
`;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

async function findFreePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
