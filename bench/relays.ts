import type { Workbench } from './workbench.ts';

/** One way to the server. */
export interface RelaySide {
  readonly name: string;
  readonly port: number;
  /** Undefined for the server itself. */
  readonly pid: number | undefined;
}

/** The server itself, PgBouncer where it is installed, and proxies: side by side. */
export interface Relays {
  readonly sides: readonly RelaySide[];
  /** The name of the side that the proxy is measured against. */
  readonly reference: string;
}

/** Starts all ways to the server; the proxy with two processes only where it has that option. */
export async function startRelays(bench: Workbench): Promise<Relays> {
  const { port } = await bench.server();
  const pooler = await bench.startPgBouncer();
  const { hasWorkersOption } = bench.tools;
  const one = await bench.startProxy(hasWorkersOption ? ['--workers', '1'] : []);
  const two = hasWorkersOption ? await bench.startProxy(['--workers', '2']) : undefined;
  const sides: RelaySide[] = [{ name: 'direct', port, pid: undefined }];
  if (pooler) sides.push({ name: 'PgBouncer', port: pooler.port, pid: pooler.pid });
  sides.push({ name: 'proxy', port: one.port, pid: one.pid });
  if (two) sides.push({ name: 'proxy, 2 processes', port: two.port, pid: two.pid });
  return {
    sides,
    reference: pooler ? 'PgBouncer' : 'direct',
  };
}
