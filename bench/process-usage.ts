import { readFile, readdir } from 'node:fs/promises';

/** USER_HZ: the same on every Linux that Node.js runs on. */
const TICKS_PER_SECOND = 100;

/** The processor time that a process and its children have used so far, in seconds; all threads. */
export async function processorTime(pid: number): Promise<number> {
  const pids = new Set([pid]);
  const all = await readAllStats();
  for (let before = 0; before < pids.size;) {
    before = pids.size;
    for (const stat of all) if (pids.has(stat.parentPid)) pids.add(stat.pid);
  }
  const ticks = all.reduce((sum, stat) => sum + (pids.has(stat.pid) ? stat.ticks : 0), 0);
  return ticks / TICKS_PER_SECOND;
}

/** Memory in use now, in bytes. */
export function residentMemory(pid: number): Promise<number> {
  return readMemory(pid, 'VmRSS');
}

/** The most memory that was ever in use, in bytes. */
export function peakMemory(pid: number): Promise<number> {
  return readMemory(pid, 'VmHWM');
}

export async function openFiles(pid: number): Promise<number> {
  return (await readdir(`/proc/${pid}/fd`)).length;
}

async function readMemory(pid: number, field: string): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024;
}

interface ProcessStat {
  readonly pid: number;
  readonly parentPid: number;
  readonly ticks: number;
}

async function readAllStats(): Promise<ProcessStat[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const stats = await Promise.all(pids.map((pid) => readStat(Number(pid))));
  return stats.filter((stat) => stat !== undefined);
}

async function readStat(pid: number): Promise<ProcessStat | undefined> {
  try {
    const line = await readFile(`/proc/${pid}/stat`, 'latin1');
    // "pid (name) state parent …", where the name may hold blanks and parentheses.
    const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
    const ticks = Number(fields[11]) + Number(fields[12]); // utime, stime
    return { pid, parentPid: Number(fields[1]), ticks };
  } catch {
    return undefined; // ended meanwhile
  }
}
