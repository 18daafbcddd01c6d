import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { constants } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { runAs } from './embedded-account.ts';
import type { ServerAccount } from './embedded-account.ts';
import { serverEnvironment } from './embedded-data.ts';
import { hasErrno } from './embedded-files.ts';

const STOP_TIMEOUT_MS = 10_000;
const POLL_INTERVAL_MS = 20;
const LOG_TAIL_BYTES = 8192;

/** What one start of `postgres` needs. */
export interface PostmasterOptions {
  readonly executable: string;
  /** A real path, as prepareDataDirectory gives it. */
  readonly folder: string;
  readonly port: number;
  readonly settings: Readonly<Record<string, string>>;
  readonly account: ServerAccount | undefined;
}

/** One running `postgres`, from its start until its end. The one who starts it stops it. */
export class Postmaster {
  /** Settles when the process has ended, for whatever reason; never rejects. */
  readonly exited: Promise<void>;
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #logStart: number;
  #hasExited = false;
  #failure: Error | undefined;
  #stopping: Promise<void> | undefined;

  private constructor(child: ChildProcess, folder: string, logStart: number) {
    this.#child = child;
    this.#folder = folder;
    this.#logStart = logStart;
    this.exited = new Promise((settle) => {
      const end = (): void => {
        this.#hasExited = true;
        settle();
      };
      child.once('exit', end);
      child.on('error', (failure) => {
        this.#failure = failure; // could not be started at all
        end();
      });
    });
  }

  /** Starts the process; it accepts connections only after `ready`. */
  static async start(options: PostmasterOptions): Promise<Postmaster> {
    const { folder, account } = options;
    const log = await openLog(folder, account);
    try {
      const { size } = await log.stat();
      const child = spawn(options.executable, commandLine(options), {
        cwd: '/',
        env: serverEnvironment(),
        // Its own process group: the terminal's Ctrl-C is for us, and we stop it in order.
        detached: true,
        stdio: ['ignore', log.fd, log.fd],
        ...runAs(account),
      });
      return new Postmaster(child, folder, size);
    } finally {
      await log.close();
    }
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Whether it accepts connections within the time; false when it ended or the time is over. */
  async ready(timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    const deadline = Date.now() + timeoutMs;
    while (!this.#hasExited && Date.now() < deadline) {
      signal?.throwIfAborted();
      const lock = await readLockFile(this.#folder);
      // The file may still be that of an earlier run.
      if (lock?.pid === this.pid && lock.status === 'ready') return true;
      await delay(POLL_INTERVAL_MS);
    }
    if (this.#failure) throw this.#failure;
    return false;
  }

  /** What this run has logged last, for an error message. */
  async logTail(): Promise<string> {
    const log = await open(logPath(this.#folder), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const { size } = await log.stat();
      const start = Math.max(this.#logStart, size - LOG_TAIL_BYTES);
      const { buffer, bytesRead } = await log.read(
        Buffer.alloc(LOG_TAIL_BYTES),
        0,
        LOG_TAIL_BYTES,
        start,
      );
      return buffer.toString('utf8', 0, bytesRead).trim();
    } finally {
      await log.close();
    }
  }

  /** Fast shutdown (clients are disconnected), and an immediate one if that takes over 10 s. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#child.kill('SIGINT');
    const timer = setTimeout(() => this.#child.kill('SIGQUIT'), STOP_TIMEOUT_MS);
    await this.exited;
    clearTimeout(timer);
  }
}

/**
 * Stops a server in this folder that one of our runs started and did not live to stop.
 * A server whose starter still runs is left alone, as is any that we did not start.
 */
export async function stopAbandonedServer(
  folder: string,
  onProgress: (line: string) => void,
): Promise<void> {
  const lock = await readLockFile(folder);
  if (!lock || !(await isAbandoned(lock.pid, folder))) return;
  onProgress(`stopping the server (pid ${lock.pid}) that an earlier run left behind in ${folder}`);
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
    if (await hasEnded(lock.pid, folder, signal)) return;
  }
  throw new Error(
    `the server (pid ${lock.pid}) that an earlier run left behind in "${folder}" does not stop`,
  );
}

function commandLine({ folder, port, settings }: PostmasterOptions): string[] {
  const fixed = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
    [OWNER_SETTING]: String(process.pid),
  };
  const all = Object.entries({ ...settings, ...fixed });
  return ['-D', folder, ...all.flatMap(([name, value]) => ['-c', `${name}=${value}`])];
}

/** Says in the command line which process started the server. PostgreSQL accepts any dotted name. */
const OWNER_SETTING = 'pg_background_proxy.owner_pid';

async function isAbandoned(pid: number, folder: string): Promise<boolean> {
  const found = await readProcess(pid);
  const owner = found?.command.match(/ pg_background_proxy\.owner_pid=(\d+)/)?.[1];
  // The pid may be a stranger's by now, after a restart of the machine.
  if (!found || !owner || !found.command.includes(` -D ${folder} `)) return false;
  // When a parent dies its children get another one: the owner is alive while it is the parent.
  return Number(owner) !== found.parentPid;
}

async function readProcess(
  pid: number,
): Promise<{ parentPid: number; command: string } | undefined> {
  try {
    if (process.platform === 'linux') {
      const status = await readFile(`/proc/${pid}/stat`, 'latin1');
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8');
      // "pid (name) state parent ...", where the name may hold spaces and parentheses.
      const parentPid = Number(status.slice(status.lastIndexOf(')') + 2).split(' ')[1]);
      return { parentPid, command: command.replaceAll('\0', ' ') };
    }
    const { stdout } = await promisify(execFile)('ps', ['-o', 'ppid=,args=', '-p', String(pid)]);
    const [, parentPid, command = ''] = stdout.match(/^\s*(\d+) (.*)/) ?? [];
    return { parentPid: Number(parentPid), command };
  } catch {
    return undefined; // gone, or hidden from us: then it is not ours to stop
  }
}

async function hasEnded(pid: number, folder: string, signal: 'SIGINT' | 'SIGQUIT') {
  const deadline = Date.now() + STOP_TIMEOUT_MS;
  try {
    process.kill(pid, signal);
    while (Date.now() < deadline) {
      process.kill(pid, 0);
      // It removes the file last. The pid may stay: not every container reaps its orphans.
      if ((await readLockFile(folder))?.pid !== pid) return true;
      await delay(POLL_INTERVAL_MS);
    }
    return false;
  } catch (error) {
    if (hasErrno(error, 'ESRCH')) return true;
    throw error;
  }
}

/**
 * Reads postmaster.pid: pid, data folder, start time, port, socket folder, address, shared memory
 * key and status, one a line; the status is padded with blanks and comes last.
 */
async function readLockFile(folder: string): Promise<{ pid: number; status: string } | undefined> {
  try {
    const lines = (await readFile(join(folder, 'postmaster.pid'), 'utf8')).split('\n');
    return { pid: Number(lines[0]), status: (lines[7] ?? '').trim() };
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function logPath(folder: string): string {
  return join(folder, 'server.log');
}

async function openLog(folder: string, account: ServerAccount | undefined) {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW } = constants;
  // Root writes in another user's folder here: a link planted there must not be followed.
  const log = await open(logPath(folder), O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
  if (account) await log.chown(account.uid, account.gid);
  return log;
}
