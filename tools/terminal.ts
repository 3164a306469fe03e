import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { clearScreenDown, createInterface, cursorTo, type Interface } from 'node:readline';
import { isatty } from 'node:tty';

/** Standard output, with a prompt below the lines that it shows if somebody can type there. */
export class Terminal {
  #prompt: Interface | undefined;

  /** Shows a line, above what is being typed. */
  print(line: string): void {
    if (this.#prompt) {
      cursorTo(process.stdout, 0);
      clearScreenDown(process.stdout);
    }
    process.stdout.write(`${line}\n`);
    this.#prompt?.prompt(true);
  }

  /** Shows a prompt, and hands on each line that is typed, until `close`. Gives false if nobody can type. */
  ask(prompt: string, hear: (line: string) => void, end: () => void): boolean {
    if (!isatty(1) || !isInForeground()) return false;
    this.#prompt = createInterface({ input: process.stdin, output: process.stdout, prompt });
    this.#prompt.on('line', (line) => {
      hear(line.trim());
      this.#prompt?.prompt();
    });
    // Ctrl-C and Ctrl-D
    this.#prompt.on('SIGINT', end).on('close', end);
    this.#prompt.prompt();
    return true;
  }

  close(): void {
    const prompt = this.#prompt;
    this.#prompt = undefined;
    if (!prompt) return;
    prompt.removeAllListeners('close').close();
    process.stdout.write('\n');
  }
}

/** Whether standard input is a terminal that this process may read. In the background it would be stopped. */
function isInForeground(): boolean {
  if (!isatty(0)) return false;
  if (process.platform === 'win32') return true;
  if (process.platform !== 'linux')
    return execFileSync('ps', ['-o', 'stat=', '-p', String(process.pid)], { encoding: 'utf8' }).includes('+');
  // Behind the name: state, parent, process group, session, terminal, and the terminal's foreground group.
  const [, , group, , , foreground] = readFileSync('/proc/self/stat', 'utf8').replace(/.*\) /s, '').split(' ');
  return group === foreground;
}
