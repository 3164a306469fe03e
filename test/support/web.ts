import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo, Server, Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { start, stop, until } from '../../tools/processes.ts';

/** A web process, as Heroku runs it. */
export interface Web {
  readonly child: ChildProcess;
  readonly port: number;
  /** Its address, ending in a slash. */
  readonly url: string;
  /** The messages that it has logged. */
  readonly log: string[];
  /** Sends a signal, SIGTERM unless told, and gives the exit status. */
  stop(signal?: NodeJS.Signals): Promise<number | string | null>;
}

const SERVER = fileURLToPath(new URL('../../dist/server.js', import.meta.url));

/** Makes tap measure no coverage of a process, which would cost each of them half a second. */
export const UNCOVERED = { _TAPJS_PROCESSINFO_COVERAGE_: '0' };

/** Starts the built web process on a free port, with nothing in its environment but what is given, until the test ends. */
export async function startWeb(
  t: { teardown(action: () => unknown): void },
  env: Record<string, string> = {},
  nodeArgs: readonly string[] = [],
): Promise<Web> {
  const child = start(process.execPath, [...nodeArgs, SERVER], {
    env: { ...systemEnvironment(), PORT: '0', HOST: '127.0.0.1', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => stop(child));
  const log: string[] = [];
  if (!child.stdout) throw new Error('no stdout');
  createInterface(child.stdout).on('line', (line) => {
    log.push((JSON.parse(line) as { msg: string }).msg);
  });
  // What it says of the store may come first.
  const announced = (): string | undefined => log.map((line) => /http:.*:(\d+)\//.exec(line)?.[1]).find(Boolean);
  await until(
    'the web process listens',
    () => Boolean(announced()) || child.exitCode !== null || child.signalCode !== null,
    30_000,
  );
  const port = Number(announced());
  return { child, port, url: `http://127.0.0.1:${port}/`, log, stop: (signal) => stop(child, signal) };
}

/** Makes a server listen until the test ends, on a free port unless one is given. Gives the port. */
export async function listening(
  t: { teardown(action: () => unknown): void },
  server: Server,
  host = '127.0.0.1',
  port = 0,
): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket.on('error', () => undefined));
    socket.on('close', () => sockets.delete(socket));
  });
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  await once(server.listen(port, host), 'listening');
  return (server.address() as AddressInfo).port;
}

/** What a child needs to run, and to be covered, of this process's environment; none of the app's own variables. */
export function systemEnvironment(): Record<string, string> {
  const own = /^(PORT|HOST|DYNO|COUNTERS|SESSION_TTL|LOG_LEVEL|MEMCACHE.*)$/;
  return Object.fromEntries(
    Object.entries(process.env).filter(
      (entry): entry is [string, string] => entry[1] !== undefined && !own.test(entry[0]),
    ),
  );
}
