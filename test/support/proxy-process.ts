import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../proxy/main.js', import.meta.url));

/** One process, unless a test is about several, or whoever runs the tests wants all of them with several. */
const workers = process.env['PGBG_TEST_WORKERS'] ?? '1';

/** The proxy as a process of its own, as users run it. */
export class ProxyProcess {
  stdout = '';
  stderr = '';
  readonly child: ChildProcess;
  /** Settles with the exit code, or the signal that ended it. */
  readonly ended: Promise<number | string | null>;

  constructor(options: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    // Nothing of the developer's own settings: they would change what is tested.
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('PGBG_'));
    this.child = spawn(process.execPath, [main, ...options], {
      env: { ...Object.fromEntries(inherited), PGBG_WORKERS: workers, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.stdout += text));
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.ended = once(this.child, 'close').then(
      ([code, signal]) => (code ?? signal) as number | string,
    );
  }

  /** The connection string of the ready line. @throws when the process ends first */
  async ready(): Promise<string> {
    for (;;) {
      const url = /^ready: (\S+)$/m.exec(this.stdout)?.[1];
      if (url !== undefined) return url;
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        throw new Error(`the proxy ended before it was ready: ${this.stderr}`);
      }
      await Promise.race([once(this.child.stdout as NodeJS.ReadableStream, 'data'), this.ended]);
    }
  }

  /** The most memory that the process has had, in bytes. Linux only. */
  get peakMemory(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string | null> {
    this.child.kill(signal);
    return this.ended;
  }
}
