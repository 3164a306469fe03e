import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createConnection, createServer, type AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const KEEPER = fileURLToPath(new URL('keeper.js', import.meta.url));
/** How long a child may take to end when asked to, in milliseconds. */
const PATIENCE = 10_000;

/**
 * The processes that this one starts. None outlives it, even if it is killed: a keeper, a process of its own, sees to
 * that. They are out of reach of the terminal's Ctrl-C, so that they end in the order that this process ends them.
 */
export class Children {
  readonly #running = new Set<ChildProcess>();
  readonly #keeper: ChildProcess;
  readonly #onUnkept: () => void;

  /** @param onUnkept is called if the keeper ends before `end` */
  constructor(onUnkept: () => void) {
    this.#onUnkept = onUnkept;
    this.#keeper = spawn(process.execPath, [KEEPER], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
    this.#keeper.once('exit', onUnkept);
    // Writing to a keeper that has ended: that it has is heard above.
    this.#keeper.stdin?.on('error', () => undefined);
  }

  /** Starts a program. `onLine` hears what it says. */
  start(
    command: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv,
    onLine: (line: string) => void,
  ): ChildProcess {
    const child = spawn(command, args, { env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const input of [child.stdout, child.stderr]) createInterface({ input }).on('line', onLine);
    if (child.pid === undefined) return child;
    this.#running.add(child);
    this.#tellKeeper();
    child.once('exit', () => {
      this.#running.delete(child);
      this.#tellKeeper();
    });
    return child;
  }

  /** Asks a child to end, waits until it has, and makes it if need be. */
  async stop(child: ChildProcess): Promise<void> {
    if (!isRunning(child)) return;
    const deadline = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
    child.kill('SIGTERM');
    await once(child, 'close');
    clearTimeout(deadline);
  }

  /** Stops all that still run, and the keeper. */
  async end(): Promise<void> {
    await Promise.all([...this.#running].map((child) => this.stop(child)));
    this.#keeper.off('exit', this.#onUnkept);
    this.#keeper.stdin?.end();
    if (isRunning(this.#keeper)) await once(this.#keeper, 'exit');
  }

  #tellKeeper(): void {
    this.#keeper.stdin?.write(`${[...this.#running].map(({ pid }) => pid).join(' ')}\n`);
  }
}

/** Waits until a child listens on a port. Fails if it ends instead, or could not be started. */
export async function listens(child: ChildProcess, port: number): Promise<void> {
  if (child.pid === undefined) await once(child, 'spawn');
  while (isRunning(child)) {
    if (await accepts(port)) return;
    await sleep(20);
  }
  throw new Error(`ended with ${howEnded(child)}`);
}

/** A port on the loopback address that nobody listens to. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

export function howEnded({ signalCode, exitCode }: ChildProcess): string {
  return signalCode ?? `status ${exitCode}`;
}

function isRunning({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode === null && signalCode === null;
}

/** Whether somebody listens to a port on the loopback address. */
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
