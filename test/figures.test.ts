import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { read, root } from './support/docs.ts';

const results = read('bench/results.md');

const isWriting = process.env.FIGURES === 'write';
const LOST = /^(?:counts|numbers) lost$/;
const CPU = /^CPU, µs$/;
const STORE_CPU = /^the store's CPU, µs$/;
/** The figures in sentences and tables: the words before one, and what it must be. Prettier aligns tables afterwards. */
const QUOTED: readonly [file: string, words: string, figure: string][] = [
  ['README.md', 'Of', /(\d+) requests at once/.exec(results)?.[1] ?? ''],
  ['README.md', 'express-session with Redis lost', measured('express-session, Redis', LOST)],
  ['README.md', '@fastify/session with Redis lost', measured('@fastify/session, Redis', LOST)],
  ['README.md', 'This app lost', measured('hello-n', LOST)],
  ['README.md', 'A greeting costs the web process', measured('hello-n', CPU)],
  ['README.md', 'A bare Fastify route without a session costs', measured('bare Fastify, no session', CPU)],
  ['README.md', '@fastify/session with Redis', measured('@fastify/session, Redis', CPU)],
  ['README.md', 'express-session with Redis', measured('express-session, Redis', CPU)],
  ['README.md', 'PHP with nginx', measured('PHP with nginx', CPU)],
  ['docs/capacity.md', '\\| CPU of a dyno \\|', measured('hello-n, the page', CPU)],
  ['docs/capacity.md', 'µs a page \\|', perSecond(measured('hello-n, the page', CPU))],
  ['docs/capacity.md', '\\| memory of a dyno \\|', measured('hello-n', /^last quarter$/)],
  ['docs/capacity.md', '\\| CPU of Memcached \\|', measured('hello-n', STORE_CPU)],
  ['docs/capacity.md', 'µs a greeting \\|', perSecond(measured('hello-n', STORE_CPU))],
  ['docs/capacity.md', '\\| memory of Memcached \\|', session().bytes],
  ['docs/capacity.md', 'bytes a session \\|', session().most],
  ['docs/capacity.md', 'the digits of the count:', session().bytes],
  ['docs/capacity.md', 'into', chunks(1)],
  ['docs/capacity.md', '25 times', chunks(1)],
  ['docs/capacity.md', '25 times \\S+ is', chunks(25)],
  ['docs/capacity.md', 'the free plan is full after', session().most],
];

await test('the figures quoted are those of bench/results.md; FIGURES=write updates them', async (t) => {
  for (const file of ['README.md', 'docs/capacity.md']) {
    let text = read(file);
    for (const [where, words, figure] of QUOTED) {
      if (where !== file) continue;
      const pattern = new RegExp(`(?<=${words.replaceAll(' ', '\\s+')}\\s+)\\d[\\d,.]*(?<=\\d)`);
      t.match(text, pattern, `${file} has the figure after "${words}"`);
      if (isWriting) text = text.replace(pattern, figure);
      else t.equal(pattern.exec(text)?.[0], figure, `${file}: ${words}`);
    }
    if (isWriting) writeFileSync(join(root, file), text);
  }
  const figures = QUOTED.map(([, , figure]) => figure);
  for (const [, figure = ''] of read('README.md').matchAll(/(\S+) µs/g)) t.ok(figures.includes(figure), `${figure} µs`);
  t.equal(chunks(25), session().most, 'the arithmetic gives what was measured');
});

/** How many chunks of 96 bytes memcached makes of so many megabytes, one by one. */
function chunks(megabytes: number): string {
  return (Math.floor(2 ** 20 / 96) * megabytes).toLocaleString('en-GB');
}

/** What a session takes in memcached, and how many fit into 25 MB. */
function session(): { bytes: string; most: string } {
  const [, bytes = '', most = ''] = / takes ([\d,]+) bytes in memcached, .* holds ([\d,]+) of them/.exec(results) ?? [];
  return { bytes, most };
}

function perSecond(microseconds: string): string {
  return Number((1e6 / Number(microseconds)).toPrecision(2)).toLocaleString('en-GB');
}

/** The median in the first table of the report with such a column and row. A cell is like `30.3 (23.3–51.6)`. */
function measured(row: string, column: RegExp): string {
  for (const [table] of results.matchAll(/^\|(?:.*\|\n)+/gm)) {
    const [titles = [], , ...rows] = table.split('\n').map(cells);
    const cell = rows.find(([name]) => name === row)?.[titles.findIndex((title) => column.test(title))];
    if (cell !== undefined) return cell.replace(/ .*/, '');
  }
  throw new Error(`bench/results.md has no ${column.source} of ${row}`);
}

function cells(row: string): string[] {
  const parts = row.split('|').slice(1, -1);
  return parts.map((cell) => cell.trim());
}
