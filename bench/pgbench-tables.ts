import { runProgram } from './program.ts';
import type { Workbench } from './workbench.ts';

const SCALE = 10;
const prepared = new WeakSet<Workbench>();

/** Fills pgbench's tables, once for each run. */
export async function prepareTables(bench: Workbench): Promise<void> {
  if (prepared.has(bench)) return;
  const { port } = await bench.server();
  const address = ['-h', '127.0.0.1', '-p', String(port), '-U', 'postgres', 'postgres'];
  const { code, stderr } = await runProgram(bench.resources, 'pgbench', [
    ...['-i', '-q', '-s', String(SCALE)],
    ...address,
  ]);
  if (code !== 0) throw new Error(`pgbench -i failed: ${stderr.trim()}`);
  prepared.add(bench);
}
