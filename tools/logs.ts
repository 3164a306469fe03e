/** Writes a line that a dyno printed (`app`), or that is about it (`local`). */
export type Log = (source: 'app' | 'local', dyno: string, line: string) => void;

/** The colours that the page gives web.1 to web.5, and again from web.6. */
export const COLOURS = ['#2f6bea', '#e2660a', '#009f89', '#b0165e', '#3f1f8c'];

/**
 * Gives lines like those of `heroku logs` to `print`: when, who, what.
 *
 * @param depth how many bits of colour the terminal shows: 24, 8, or fewer, which is none here
 */
export function logTo(print: (line: string) => void, depth: number): Log {
  return (source, dyno, line) => {
    const head = `${new Date().toISOString().replace('Z', '+00:00')} ${source}[${dyno}]:`;
    print(`${paint(head, dyno, depth)} ${line}`);
  };
}

function paint(text: string, dyno: string, depth: number): string {
  const [, number] = /^web\.(\d+)$/.exec(dyno) ?? [];
  const colour = COLOURS[(Number(number) - 1) % COLOURS.length];
  if (colour === undefined || depth < 8) return text;
  const [red = 0, green = 0, blue = 0] = (colour.match(/\w\w/g) ?? []).map((hex) => parseInt(hex, 16));
  const level = (value: number): number => Math.round(value / 51);
  // In 8 bits each part of a colour has six levels.
  const cube = 16 + 36 * level(red) + 6 * level(green) + level(blue);
  return `\x1b[38;${depth < 24 ? `5;${cube}` : `2;${red};${green};${blue}`}m${text}\x1b[0m`;
}
