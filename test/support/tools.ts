import { execFileSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { start, stop, until } from './processes.js';

interface Test {
  teardown(action: () => unknown): void;
}

/** `npm run dynos`, running. */
export interface Dynos {
  readonly child: ChildProcess;
  /** Where it says to open it. */
  readonly url: string;
  /** All that it has said. */
  readonly lines: string[];
  /** Waits until it says something of that kind, from now on, and gives the line. */
  says(what: RegExp): Promise<string>;
  type(line: string): void;
}

/** What has become of a program. */
export interface Outcome {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

const BUILD = new URL('../../build/', import.meta.url).pathname;

/** Runs a tool to its end, with nothing of the app's or of tap's in its environment but what is given. */
export async function run(tool: string, args: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
  const child = startTool(tool, args, env);
  if (!child.stdout || !child.stderr) throw new Error('no output');
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { status: child.exitCode, out, err };
}

/** Starts the dynos on a free port and waits until it says where they are, until the test ends. */
export async function startDynos(
  t: Test,
  args: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<Dynos> {
  const child = startTool('dynos', args, { PORT: '0', ...env });
  t.teardown(() => stop(child));
  const lines: string[] = [];
  if (!child.stdout || !child.stderr) throw new Error('no output');
  for (const input of [child.stdout, child.stderr]) createInterface({ input }).on('line', (line) => lines.push(line));
  const isSaid = (): string | undefined => lines.find((line) => line.startsWith('Hello #N is at '));
  await until('the dynos are up', () => isSaid() !== undefined || child.exitCode !== null, 30_000);
  return {
    child,
    url: /http:\S+\//.exec(isSaid() ?? '')?.[0] ?? '',
    lines,
    async says(what) {
      const from = lines.length;
      const find = (): string | undefined => lines.slice(from).find((line) => what.test(line));
      await until(`it says ${String(what)}`, () => find() !== undefined, 30_000);
      return find() ?? '';
    },
    type: (line) => child.stdin?.write(`${line}\n`),
  };
}

/** The processes that a process has started, and which still run: id and command line. */
export function childrenOf({ pid }: ChildProcess): Map<number, string> {
  return new Map(
    processes()
      .filter(({ parent }) => parent === pid)
      .map(({ id, command }) => [id, command]),
  );
}

/** Waits until none of these processes is there. */
export async function gone(ids: Iterable<number>): Promise<void> {
  const gone = new Set(ids);
  await until('nothing is left behind', () => !processes().some(({ id }) => gone.has(id)));
}

function processes(): { id: number; parent: number; command: string }[] {
  return execFileSync('ps', ['-A', '-o', 'pid=,ppid=,stat=,args='], { encoding: 'utf8' })
    .split('\n')
    .map((line) => /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? [])
    .filter(([, , , state = 'Z']) => !state.startsWith('Z'))
    .map(([, id, parent, , command = '']) => ({ id: Number(id), parent: Number(parent), command }));
}

function startTool(tool: string, args: readonly string[], env: Record<string, string>): ChildProcess {
  return start(process.execPath, [`${BUILD}${tool}.js`, ...args], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}
