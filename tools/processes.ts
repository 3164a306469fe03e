import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { createConnection, createServer, type AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const running = new Set<ChildProcess>();
let endThisProcess = (): void => process.exit(1);

// No child outlives this process, unless SIGKILL ends it. SIGALRM is how tap ends a test file that takes too long.
process.on('exit', killAll).on('SIGALRM', killAll);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => endThisProcess());

/** First by SIGTERM, so that a program can end what it has started itself; a moment later by SIGKILL. */
function killAll(): void {
  for (const child of running) child.kill();
  if (running.size > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  for (const child of running) child.kill('SIGKILL');
}

/** Replaces what SIGINT, SIGTERM and SIGHUP do to this process. By default it exits with status 1. */
export function onSignal(action: () => void): void {
  endThisProcess = action;
}

/** Starts a program in a process group of its own, so that a terminal's Ctrl-C reaches only this process. */
export function start(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
  const child = spawn(command, args, { ...options, detached: true, windowsHide: true });
  if (child.pid === undefined) return child;
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

/** Calls `hear` with each line that a child prints, on standard output and standard error. */
export function readLines(child: ChildProcess, hear: (line: string) => void): void {
  for (const input of [child.stdout, child.stderr]) if (input) createInterface({ input }).on('line', hear);
}

/**
 * Sends a signal to a program and waits for its end, after 10 s by SIGKILL.
 *
 * @returns its exit status, or the signal that ended it
 */
export async function stop(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string | null> {
  if (isRunning(child)) {
    const exit = once(child, 'exit');
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
    child.kill(signal);
    await exit;
    clearTimeout(timer);
  }
  return child.exitCode ?? child.signalCode;
}

export function isRunning({ pid, exitCode, signalCode }: ChildProcess): boolean {
  return pid !== undefined && exitCode === null && signalCode === null;
}

export function howEnded({ signalCode, exitCode }: ChildProcess): string {
  return signalCode ?? `status ${exitCode}`;
}

/** A port of 127.0.0.1 on which nothing listens. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Whether something listens on a port of 127.0.0.1. */
export async function accepts(port: number): Promise<boolean> {
  const socket = createConnection(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** Waits until a child listens on a port of 127.0.0.1. Fails if it ends first, or could not be started. */
export async function listens(child: ChildProcess, port: number): Promise<void> {
  if (child.pid === undefined) await once(child, 'spawn');
  await until(`port ${port} accepts connections`, async () => {
    if (!isRunning(child)) throw new Error(`ended with ${howEnded(child)}`);
    return accepts(port);
  });
}

/** Waits until something is so. Fails after `timeout` milliseconds, with the name of what was awaited. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>, timeout = 10_000): Promise<void> {
  const deadline = performance.now() + timeout;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeout} ms: ${what}`);
    await sleep(10);
  }
}
