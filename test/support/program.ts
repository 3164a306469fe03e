import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { start, stop } from '../../tools/processes.ts';

/** A test, as far as what it starts has to know it. */
export interface Owner {
  teardown(action: () => unknown): void;
  passing?(): boolean;
}

/** A program that runs until its test ends, and all that it has printed. */
export interface Program {
  readonly child: ChildProcess;
  readonly out: () => string;
  readonly err: () => string;
  /** Its exit status, once all has been read that it printed. */
  readonly ended: Promise<unknown>;
}

/** Starts a program, and stops it when the test ends. If the test has failed then, shows what the program printed. */
export function startProgram(
  t: Owner,
  [command = '', ...args]: readonly string[],
  options: Omit<SpawnOptions, 'stdio'>,
): Program {
  const child = start(command, args, { ...options, stdio: 'pipe' });
  let [out, err] = ['', ''];
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (err += text));
  t.teardown(async () => {
    await stop(child);
    if (t.passing?.() === false) console.error(`Process ${child.pid}, ${args.at(-1)}, printed:\n${out}${err}`);
  });
  return {
    child,
    out: () => out,
    err: () => err,
    ended: once(child, 'close').then(([status]: unknown[]) => status),
  };
}
