import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { read, root } from './support/docs.ts';

const results = read('bench/results.md');

/** What the README quotes, by the names in the report. */
const QUOTED = [
  'hello-n',
  'hello-n, the page',
  'bare Fastify, no session',
  '@fastify/session, Redis',
  'express-session, Redis',
  'PHP with nginx',
];

await test('the figures quoted are those of bench/results.md; FIGURES=write writes them anew', (t) => {
  for (const [file, expected] of [
    ['README.md', costTable()],
    ['docs/capacity.md', capacityTable()],
  ] as const) {
    const text = read(file);
    const [title = ''] = expected.split('\n');
    const quoted = tables(text).find((table) => titles(table) === titles(title)) ?? '';
    t.ok(quoted, `${file} has the table`);
    if (process.env.FIGURES === 'write') writeFileSync(join(root, file), text.replace(quoted, expected));
    else t.equal(quoted, expected, file);
  }
  t.end();
});

function costTable(): string {
  const rows = QUOTED.map((name) => [name, measured(name, 'CPU, µs'), measured(name, 'times hello-n')]);
  return format(['', 'CPU, µs', 'times hello-n'], rows);
}

function capacityTable(): string {
  const cpu = measured('hello-n, the page', 'CPU, µs');
  const storeCpu = measured('hello-n', "the store's CPU, µs");
  const memory = measured('hello-n', 'last quarter');
  const [, bytes = '', sessions = ''] =
    / takes ([\d,]+) bytes in memcached, .* holds ([\d,]+) of them/.exec(results) ?? [];
  return format(
    ['', 'measured', 'one carries'],
    [
      ['CPU of a dyno', `${cpu} µs a page`, `${perSecond(cpu)} pages a second a core`],
      ['memory of a dyno', `${memory} of 512 MB after a million greetings`, 'any number of visitors'],
      ['CPU of Memcached', `${storeCpu} µs a greeting`, `${perSecond(storeCpu)} greetings a second a core`],
      ['memory of Memcached', `${bytes} bytes a session`, `${sessions} sessions in 25 MB`],
    ],
  );
}

function perSecond(microseconds: string): string {
  return Number((1e6 / Number(microseconds)).toPrecision(2)).toLocaleString('en-GB');
}

/** The median in the first table of the report with such a column and row. A cell is like `30.3 (23.3–51.6)`. */
function measured(row: string, column: string): string {
  for (const [titles = [], , ...rows] of tables(results).map((table) => table.split('\n').map(cells))) {
    const cell = rows.find(([name]) => name === row)?.[titles.indexOf(column)];
    if (cell !== undefined) return cell.replace(/ .*/, '');
  }
  throw new Error(`bench/results.md has no ${column} of ${row}`);
}

function tables(text: string): string[] {
  return [...text.matchAll(/^\|(?:.*\|\n)+/gm)].map(([table]) => table);
}

function cells(row: string): string[] {
  return row
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim());
}

function titles(table: string): string {
  return cells(table.split('\n')[0] ?? '').join('|');
}

/** A table as Prettier writes it, with every column but the first to the right. */
function format(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, at) => Math.max(3, title.length, ...rows.map((row) => row[at]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    `| ${widths.map((width, at) => (at === 0 ? row[at]?.padEnd(width) : row[at]?.padStart(width))).join(' | ')} |\n`;
  const rule = widths.map((width, at) => (at === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [head, rule, ...rows].map(line).join('');
}
