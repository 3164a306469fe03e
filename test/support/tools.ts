import { execFileSync, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { isRunning, until } from '../../tools/processes.ts';
import { startProgram, type Owner } from './program.ts';
import { UNCOVERED } from './web.ts';

/** `npm run dynos`, running. */
export interface Dynos {
  readonly child: ChildProcess;
  /** Where it says to open it. */
  readonly url: string;
  /** Every line that it has printed. */
  readonly lines: string[];
  /** Types a line if given, waits for a line of output that matches, and gives it. */
  says(what: RegExp, typed?: string): Promise<string>;
  /** Types characters, without Enter. */
  type(characters: string): void;
}

/** What became of a program. */
export interface Outcome {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

const BUILD = fileURLToPath(new URL('../../build/tools/', import.meta.url));

/** Runs a tool to its end. Its environment has nothing of the app's or tap's. */
export async function run(tool: string, args: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
  const nobody = { teardown: () => undefined };
  const { child, out, err, ended } = startProgram(nobody, commandOf(tool, args), environment(env));
  await ended;
  return { status: child.exitCode, out: out(), err: err() };
}

/**
 * Starts the dynos on a free port, until the test ends, and waits until they say where to open them. They can be typed to
 * on a terminal only, in which they are a child of `script`.
 */
export async function startDynos(
  t: Owner,
  args: readonly string[] = [],
  env: Record<string, string> = {},
  onTerminal = false,
): Promise<Dynos> {
  const command = commandOf('dynos', args);
  const { child } = startProgram(t, onTerminal ? inTerminal(command) : command, environment({ PORT: '0', ...env }));
  const lines: string[] = [];
  let rest = '';
  for (const output of [child.stdout, child.stderr])
    output?.on('data', (text: string) => {
      const complete = (rest + text).split('\n');
      rest = complete.pop() ?? '';
      lines.push(...complete.map(asShown));
    });
  const find = (what: RegExp, from = 0): string | undefined =>
    [...lines.slice(from), asShown(rest)].find((line) => what.test(line));
  const ready = /^Open (http:\S+\/)/;
  await until('the dynos are up', () => find(ready) !== undefined || !isRunning(child), 60_000);
  const url = ready.exec(find(ready) ?? '')?.[1] ?? '';
  const type = (characters: string): unknown => child.stdin?.write(characters);
  return {
    child,
    url,
    lines,
    type,
    async says(what, typed) {
      const from = lines.length;
      if (typed !== undefined) type(`${typed}\r`);
      await until(`it says ${String(what)}`, () => find(what, from) !== undefined, 30_000);
      return find(what, from) ?? '';
    },
  };
}

/** A line as a terminal shows it after its last erasure, without colours. */
function asShown(line: string): string {
  return (line.split('\x1b[0J').at(-1) ?? '').replace(/\x1b\[[\d;]*[a-z]|\r/gi, '');
}

/** The running processes that a process has started: id and command line. */
export function childrenOf(pid: number | undefined): Map<number, string> {
  const children = processes().filter(({ parent }) => parent === pid);
  return new Map(children.map(({ id, command }) => [id, command]));
}

/** Waits until none of these processes runs. */
export async function gone(ids: Iterable<number>): Promise<void> {
  const awaited = new Set(ids);
  await until('nothing is left behind', () => !processes().some(({ id }) => awaited.has(id)));
}

function processes(): { id: number; parent: number; command: string }[] {
  return execFileSync('ps', ['-A', '-o', 'pid=,ppid=,stat=,args='], { encoding: 'utf8' })
    .split('\n')
    .map((line) => /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? [])
    .filter(([, , , state = 'Z']) => !state.startsWith('Z'))
    .map(([, id, parent, , command = '']) => ({ id: Number(id), parent: Number(parent), command }));
}

function commandOf(tool: string, args: readonly string[]): string[] {
  return [process.execPath, `${BUILD}${tool}.js`, ...args];
}

function environment(env: Record<string, string>): { env: Record<string, string | undefined> } {
  return { env: { ...UNCOVERED, PATH: process.env.PATH, TERM: 'xterm', ...env } };
}

/** What runs a command on a terminal of its own. */
export function inTerminal(command: readonly string[]): string[] {
  if (process.platform === 'darwin') return ['script', '-q', '/dev/null', ...command];
  return ['script', '-qec', `exec ${command.map((argument) => `'${argument}'`).join(' ')}`, '/dev/null'];
}
