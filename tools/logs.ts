/** Writes a line that a dyno printed (`app`), or that is about it (`local`). */
export type Log = (source: 'app' | 'local', dyno: string, line: string) => void;

/** Standard output, or something like it. */
interface Out {
  readonly isTTY: boolean;
  /** Exists on a terminal only, and obeys NO_COLOR. */
  hasColors(): boolean;
  write(text: string): unknown;
}

/** ANSI's codes for green, yellow, blue, magenta, cyan and red. */
const COLOURS = [32, 33, 34, 35, 36, 31];

/** Writes lines like those of `heroku logs`: when, who, what. On a terminal with colours each dyno has its own. */
export function logTo(out: Out): Log {
  const names: string[] = [];
  const coloured = out.isTTY && out.hasColors();
  return (source, dyno, line) => {
    const head = `${new Date().toISOString().replace('Z', '+00:00')} ${source}[${dyno}]:`;
    out.write(`${coloured ? paint(head, dyno) : head} ${line}\n`);
  };

  function paint(text: string, name: string): string {
    if (!names.includes(name)) names.push(name);
    return `\x1b[${COLOURS[names.indexOf(name) % COLOURS.length]}m${text}\x1b[0m`;
  }
}
