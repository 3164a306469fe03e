/** Writes a line of a dyno, or about it. */
export type Log = (source: 'app' | 'local', dyno: string, line: string) => void;

/** Standard output, or what is like it. */
interface Out {
  readonly isTTY: boolean;
  /** Exists on a terminal only, and minds NO_COLOR. */
  hasColors(): boolean;
  write(text: string): unknown;
}

/** Green, yellow, blue, magenta, cyan, red, as ANSI's codes for them. */
const COLOURS = [32, 33, 34, 35, 36, 31];

/** Lines like those of `heroku logs`: when, who, what. Each dyno has its colour, on a terminal that shows any. */
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
