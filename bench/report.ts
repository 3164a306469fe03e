import { readFileSync } from 'node:fs';
import os from 'node:os';
import { contenders, flags } from './contenders.ts';
import { decimal, median, spread, type Figures } from './figures.ts';
import { marks } from './marks.ts';
import { PERCENTILES, type Plan } from './measures.ts';
import { versions } from './versions.ts';

const IDS = contenders.map(({ id }) => id);
const NAMES = new Map([['ping', 'the store itself'], ...contenders.map(({ id, name }) => [id, name] as const)]);

/** The report in Markdown, compared with a previous one. It is also what the terminal shows. */
export function report(figures: Figures, plan: Plan, previous: string): string {
  const text = `# What a greeting costs

${conditions()}

${versions()}.

Each contender is started anew ${plan.generations} times. A figure is the median over these processes and, in brackets, the
least and the most. A ratio is the median of the ratios between two processes that were measured side by side. It may differ
a little from the ratio of the two medians. Where two ranges overlap, the report says so and names no winner.

## Marks

${lines([['', 'mark', 'measured', ''], ...marks(figures, plan.distances)])}

## Side by side

64 connections, each a visitor with a session of its own. The store and the load generator run on the same machine. CPU is
the user and system time of the web process per request; for PHP, of nginx and all php-fpm workers together. Each process
answers ${decimal(plan.warmUp)} requests to warm up, for at most 5 s. Then the contenders take turns, ${plan.rounds} of ${plan.round} s each. The
routes without a session send the headers and the bytes of hello-n.

All run on the same Node.js with \`${flags.join(' ')}\`: the heap that V8 takes on a dyno of 512 MB, and the flags of the
Procfile. Only "V8's choice" is hello-n with the young generation that V8 takes in such a heap, without the Procfile's
\`--max-semi-space-size\`.

${costTable(figures)}

${overlaps(figures, 'cpu', 'CPU time')}

${chart(figures)}

## The store at a distance

${plan.rate} requests a second, at random moments, over 64 connections, with the store behind a proxy that delays each way by half
of the round trip. Latency counts from the moment at which the request was due, so a slow answer does not slow the asking.
The tables show what goes beyond one round trip, in ms. "The store itself" is memcached, asked for nothing through the same proxy.

${plan.distances.map((roundTrip) => distance(figures, roundTrip)).join('\n\n')}

## Counts lost

Of 200 requests at once in one session. Two visitors who see the same number are a number repeated.

${table(
  IDS,
  ['lost', 'repeated'].map((figure) => [`numbers ${figure}`, (id) => spread(figures.of(id, figure), 0)]),
)}

## Memory and start

Resident memory in MB over ${decimal(plan.greetings)} greetings: the medians within the second and within the last quarter, of
${plan.longRuns} processes each.

${table(
  ['bare', 'hello-n'],
  [
    ['second quarter', (id) => spread(figures.of(id, 'half'), 0)],
    ['last quarter', (id) => spread(figures.of(id, 'full'), 0)],
  ],
)}

hello-n listens ${spread(figures.of('hello-n', 'start'), 0)} ms after its start. ${storage(figures)}
`;
  return [text, ...compare(text, previous)].join('\n').replaceAll(/\n{3,}/g, '\n\n');
}

function storage(figures: Figures): string {
  const [bytes, sessions] = ['bytes', 'sessions'].map((figure) => spread(figures.of('hello-n', figure), 0));
  const fitting = sessions ? `, and a stock memcached with 25 MB holds ${sessions} of them` : '';
  return `A session takes ${bytes} bytes in memcached${fitting}.`;
}

function conditions(): string {
  const [cpu] = os.cpus();
  const [, system] = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8')) ?? [];
  const machine = [cpu?.model.trim(), `${os.cpus().length} cores`, `${Math.round(os.totalmem() / 2 ** 30)} GB`, system];
  return `${new Date().toISOString().slice(0, 10)}, ${machine.join(', ')}, Linux ${os.release()}.`;
}

export function costTable(figures: Figures): string {
  const column = (title: string, figure: string, digits: number): Column => [
    title,
    (id) => spread(figures.of(id, figure), digits),
  ];
  return table(IDS, [
    column('CPU, µs', 'cpu', 1),
    ['times hello-n', (id) => spread(figures.ratios('cpu', id, 'hello-n'), 2)],
    column('requests/s', 'rate', 0),
    column('median, ms', '50th', 2),
    column('99th, ms', '99th', 2),
    column('one connection, ms', 'alone', 3),
    column("the store's CPU, µs", 'storeCpu', 1),
    column('failed', 'failed', 0),
  ]);
}

/** Says which ranges overlap with that of hello-n, or of its page with that of the other page. */
function overlaps(figures: Figures, figure: string, what: string): string {
  const pairs = contenders.map(({ id }) => [id === 'bare-page' ? 'hello-n-page' : 'hello-n', id] as const);
  return pairs
    .filter(([ours, id]) => ours !== id && figures.overlap(figure, ours, id))
    .map(
      ([ours, id]) =>
        `The ranges of ${NAMES.get(ours)} and ${NAMES.get(id)} overlap in the ${what}, so neither is ahead.`,
    )
    .join('\n');
}

/** GitHub draws it. */
function chart(figures: Figures): string {
  const bars = IDS.map((id) => [NAMES.get(id), median(figures.of(id, 'cpu'))] as const).filter(([, cpu]) => cpu > 0);
  return `\`\`\`mermaid
%%{init: {"themeVariables": {"xyChart": {"plotColorPalette": "#2f6fde"}}}}%%
xychart-beta horizontal
    title "CPU time per request, in microseconds"
    x-axis [${bars.map(([name]) => `"${name}"`).join(', ')}]
    y-axis "microseconds" 0 --> ${Math.ceil(Math.max(...bars.map(([, cpu]) => cpu)) / 50) * 50}
    bar [${bars.map(([, cpu]) => cpu.toFixed(1)).join(', ')}]
\`\`\``;
}

function distance(figures: Figures, roundTrip: number): string {
  const figure = (percent: number): string => `${roundTrip} ms, ${percent}th`;
  const columns = PERCENTILES.map((percent): Column => [
    `${percent}th percentile`,
    (id) => spread(figures.of(id, figure(percent)), 2),
  ]);
  return `### ${roundTrip} ms

${table(['ping', ...IDS], columns)}

${PERCENTILES.map((percent) => overlaps(figures, figure(percent), `${percent}th percentile`))
  .filter(Boolean)
  .join('\n')}

The proxy itself was late by ${PERCENTILES.map((percent) => decimal(median(figures.of('proxy', figure(percent))), 3)).join(', ')} ms in these percentiles.`;
}

/** Which marks and ratios differ by more than 10 % from those of a previous report, as a section of this one. */
function compare(text: string, previous: string): string[] {
  const [now, then] = [numbers(text), numbers(previous)];
  const common = [...now.keys()].filter((what) => then.has(what));
  if (common.length === 0) return [];
  const differing = common.filter((what) => Math.abs((now.get(what) ?? 0) / (then.get(what) ?? 0) - 1) > 0.1);
  const within = `Of ${common.length} marks and ratios, ${common.length - differing.length} are within 10 % of those of the run before`;
  if (differing.length === 0) return [`## The run before\n\n${within}.\n`];
  const column = (title: string, of: Map<string, number>): Column => [title, (what) => String(of.get(what))];
  return [
    `## The run before\n\n${within}. These are not; processes of the same code differ as much, as the ranges show:\n`,
    `${table(differing, [column('then', then), column('now', now)])}\n`,
  ];
}

/** The numbers in the columns that are compared, by the names of their rows. */
function numbers(report: string): Map<string, number> {
  const found = new Map<string, number>();
  let column = -1;
  for (const line of report.split('\n').filter((line) => line.startsWith('| '))) {
    const [name = '', ...cells] = line
      .split('|')
      .slice(1)
      .map((cell) => cell.trim());
    if (name === '') column = cells.findIndex((title) => ['measured', 'times hello-n'].includes(title));
    else if (/^\d/.test(cells[column] ?? '')) found.set(name, parseFloat(cells[column]?.replaceAll(',', '') ?? ''));
  }
  return found;
}

type Column = readonly [title: string, cell: (id: string) => string];

/** A table with a row for each id for which there is something to show. */
function table(ids: readonly string[], columns: readonly Column[]): string {
  const rows = ids.map((id) => [NAMES.get(id) ?? id, ...columns.map(([, cell]) => cell(id))]);
  return lines([['', ...columns.map(([title]) => title)], ...rows.filter(([, ...cells]) => cells.some(Boolean))]);
}

/** Markdown, with its columns aligned. */
function lines(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_title, at) => Math.max(3, ...rows.map((row) => row[at]?.length ?? 0)));
  const pad = (row: readonly string[]): string[] =>
    widths.map((width, at) => (at === 0 ? row[at]?.padEnd(width) : row[at]?.padStart(width)) ?? '');
  const [head = [], ...body] = rows.map(pad);
  const rule = widths.map((width, at) => (at === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [head, rule, ...body].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
