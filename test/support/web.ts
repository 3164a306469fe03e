import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo, Server, Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { isRunning, stop, until } from '../../tools/processes.ts';
import { startProgram, type Owner, type Program } from './program.ts';

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

export const SERVER = fileURLToPath(new URL('../../dist/server.js', import.meta.url));

/** What it logs when it listens; what it says of the store may come first. */
const PORT = /http:.*:(\d+)\//;

/** Makes tap measure no coverage of a process, which would cost each of them half a second. */
export const UNCOVERED = { _TAPJS_PROCESSINFO_COVERAGE_: '0' };

/** Starts the built web process on a free port, with nothing in its environment but what is given, until the test ends. */
export async function startWeb(
  t: Owner,
  env: Record<string, string> = {},
  nodeArgs: readonly string[] = [],
): Promise<Web> {
  const program = startProgram(t, [process.execPath, ...nodeArgs, SERVER], {
    env: { ...systemEnvironment(), PORT: '0', HOST: '127.0.0.1', ...env },
  });
  const { child, out } = program;
  await until('the web process listens', () => PORT.test(out()) || !isRunning(child), 30_000);
  const port = Number(PORT.exec(out())?.[1]);
  return {
    child,
    port,
    url: `http://127.0.0.1:${port}/`,
    get log() {
      return logged(program).map(({ msg }) => msg);
    },
    stop: (signal) => stop(child, signal),
  };
}

/** What a process has logged, line by line. */
export function logged({ out }: Program): { level: number; msg: string; err?: { message: string } }[] {
  const lines = out().split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as ReturnType<typeof logged>[number]);
}

/** Arguments that make Node.js run code before the program. */
export function preload(code: string): string[] {
  return ['--import', `data:text/javascript,${encodeURIComponent(code)}`];
}

/** Makes a server listen until the test ends, on a free port unless one is given. Gives the port. */
export async function listening(t: Owner, server: Server, host = '127.0.0.1', port = 0): Promise<number> {
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
export function systemEnvironment(): NodeJS.ProcessEnv {
  const own = /^(PORT|HOST|DYNO|COUNTERS|SESSION_TTL|LOG_LEVEL|MEMCACH.*)$/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !own.test(name)));
}
