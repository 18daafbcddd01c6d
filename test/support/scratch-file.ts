import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A temporary folder for the files of a test; whoever made it removes it. */
export class ScratchFolder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<ScratchFolder> {
    return new ScratchFolder(await mkdtemp(join(tmpdir(), 'pgbg-scratch-')));
  }

  /** Writes a file of mode 0600 and gives its path. */
  async write(name: string, text: string): Promise<string> {
    const path = join(this.path, name);
    await writeFile(path, text, { mode: 0o600 });
    return path;
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

/** A logger that keeps what is said from warnings on. */
export function keepingLogger() {
  const warnings: { details: object; message: string }[] = [];
  const keep = (details: object, message: string) => void warnings.push({ details, message });
  return { warnings, logger: { debug() {}, info() {}, warn: keep, error: keep } };
}
