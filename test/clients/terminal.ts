import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { PROGRAM_TIMEOUT_MS } from './client-suite.ts';

/** A program in a terminal, as somebody who types sees it: `script`, of util-linux, makes one. */
export class Terminal {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  #hasEnded = false;
  /** All that it has shown. */
  shown = '';
  /** What of it was looked at. */
  #seen = 0;

  /** @param command for a shell, which it replaces: one that stays would end by Ctrl-C, too */
  constructor(command: string, environment: Readonly<Record<string, string>>) {
    const program = `exec ${command}`;
    this.#child = spawn('script', ['--quiet', '--return', '--command', program, '/dev/null'], {
      env: { ...process.env, TERM: 'dumb', ...environment },
      stdio: ['pipe', 'pipe', 'inherit'],
      timeout: PROGRAM_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    this.#child.stdout
      ?.setEncoding('utf8')
      .on('data', (text: string) => (this.shown += text.replaceAll('\r\n', '\n')));
    this.#ended = once(this.#child, 'close').then(([code]) => {
      this.#hasEnded = true;
      return code as number | null;
    });
  }

  type(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** Ctrl-C: the terminal sends SIGINT to the program. */
  interrupt(): void {
    this.type('\x03');
  }

  /** What is shown up to a text, from where the last one was found. @throws when the program ends first */
  async until(text: string): Promise<string> {
    for (;;) {
      const at = this.shown.indexOf(text, this.#seen);
      if (at >= 0) {
        const part = this.shown.slice(this.#seen, at);
        this.#seen = at + text.length;
        return part;
      }
      if (this.#hasEnded) throw new Error(`no "${text}" in the terminal: ${this.shown}`);
      await Promise.race([once(this.#child.stdout as NodeJS.ReadableStream, 'data'), this.#ended]);
    }
  }

  /** Types a line that ends the program, and gives its exit code. */
  async end(line: string): Promise<number | null> {
    this.type(line);
    return this.#ended;
  }

  /** For a test that has failed in the middle. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
