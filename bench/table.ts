/** A table in Markdown as Prettier writes it, with every column but the first to the right. The first row is its head. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_title, at) => Math.max(3, ...rows.map((row) => row[at]?.length ?? 0)));
  const pad = (row: readonly string[]): string[] =>
    widths.map((width, at) => (at === 0 ? row[at]?.padEnd(width) : row[at]?.padStart(width)) ?? '');
  const [head = [], ...body] = rows.map(pad);
  const rule = widths.map((width, at) => (at === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [head, rule, ...body].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
