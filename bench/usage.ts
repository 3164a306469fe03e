import { execFileSync, type ChildProcess } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';

const [ticksPerSecond, bytesPerPage] = ['CLK_TCK', 'PAGESIZE'].map((name) => Number(execFileSync('getconf', [name])));

/**
 * What the process groups of these children use, by proc(5): nginx and php-fpm have several processes each. Gives the user
 * and system time so far, in seconds, and the resident memory, in MB of 1,000,000 bytes.
 */
export function usage(children: readonly ChildProcess[]): { cpu: number; memory: number } {
  const groups = new Set(children.map(({ pid }) => String(pid)));
  const total = { cpu: 0, memory: 0 };
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    // The name, in brackets, may hold anything. The rest begins with field 3, the state.
    const fields = stat(pid)
      .replace(/^.*\) /s, '')
      .split(' ');
    if (!groups.has(fields[2] ?? '')) continue;
    total.cpu += (Number(fields[11]) + Number(fields[12])) / Number(ticksPerSecond);
    total.memory += (Number(fields[21]) * Number(bytesPerPage)) / 1e6;
  }
  return total;
}

function stat(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return ''; // It has just ended.
  }
}
