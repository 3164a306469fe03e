import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

export { accepts, freePort } from '../../tools/children.js';

const running = new Set<ChildProcess>();

// Whatever becomes of the test, nothing that it started is left behind. SIGALRM is how tap tells it that its time is over.
function killAll(): void {
  for (const child of running) child.kill('SIGKILL');
}
process.on('exit', killAll).on('SIGALRM', killAll);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1));

/** Starts a program, to be ended with the test process at the latest. */
export function start(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const child = spawn(command, args, options);
  running.add(child);
  child.on('exit', () => running.delete(child));
  return child;
}

/** Ends a program by a signal and gives its exit status, or the signal that ended it. */
export async function stop(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string | null> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill(signal);
    await once(child, 'exit');
  }
  return child.exitCode ?? child.signalCode;
}

/** Waits until something is so. Fails with what was awaited. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>, timeout = 10_000): Promise<void> {
  const deadline = performance.now() + timeout;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeout} ms: ${what}`);
    await sleep(10);
  }
}
