import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { runProgram, startProgram } from './program.ts';
import type { Resources } from './resources.ts';

const main = fileURLToPath(new URL('../proxy/main.js', import.meta.url));

/** A proxy by its command line, as users run it. */
export interface RunningProxy {
  readonly pid: number;
  readonly port: number;
  stop(): Promise<void>;
}

/** Where a proxy keeps its state, and what it is in front of. */
export interface ProxyOptions {
  readonly folder: string;
  readonly upstreamPort: number;
  /** Further options of the command line. */
  readonly options?: readonly string[];
}

/** @throws Error when it ends before it is ready */
export async function startProxy(
  resources: Resources,
  { folder, upstreamPort, options = [] }: ProxyOptions,
): Promise<RunningProxy> {
  const upstream = `postgres://127.0.0.1:${upstreamPort}`;
  const parameters = ['--upstream', upstream, '--auth-type', 'trust', '--listen', '127.0.0.1:0'];
  // Nothing of the developer's own settings: they would change what is measured.
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('PGBG_'));
  const { child, stop } = startProgram(
    resources,
    process.execPath,
    [main, ...parameters, ...options],
    {
      env: { ...Object.fromEntries(inherited), XDG_STATE_HOME: folder },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
    // The second ends its wait for workers.
    ['SIGTERM', 'SIGTERM'],
  );
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (output += text));
  const ended = once(child, 'exit').then(() => {
    throw new Error('the proxy ended before it was ready');
  });
  ended.catch(() => {}); // it ends some time
  for (;;) {
    const port = /^ready: \S+:(\d+)/m.exec(output)?.[1];
    if (port !== undefined) return { pid: child.pid ?? 0, port: Number(port), stop };
    await Promise.race([once(child.stdout as NodeJS.ReadableStream, 'data'), ended]);
  }
}

/** Whether the proxy's command line knows an option. */
export async function hasOption(resources: Resources, option: string): Promise<boolean> {
  const { stdout } = await runProgram(resources, process.execPath, [main, '--help']);
  return stdout.includes(option);
}
