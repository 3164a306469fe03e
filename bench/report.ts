import { readFileSync } from 'node:fs';
import os from 'node:os';
import { contenders, flags } from './contenders.ts';
import { decimal, type Figures } from './figures.ts';
import { marks } from './marks.ts';
import { PERCENTILES, RATE, type Plan } from './measures.ts';
import { table } from './table.ts';
import { versions } from './versions.ts';

const IDS = contenders.map(({ id }) => id);
const NAMES = new Map([['ping', 'the store itself'], ...contenders.map(({ id, name }) => [id, name] as const)]);

/** The report in Markdown, which is also what the terminal shows. */
export function report(figures: Figures, plan: Plan): string {
  const ours = (figure: string): string => figures.show('hello-n', figure);
  return `# What a greeting costs

${conditions()}

Everything ran on Node.js ${process.versions.node}, with ${versions()}.

Each contender is started ${plan.generations} times. A figure is the median over these processes and, in brackets, the
minimum and the maximum. A ratio is that of the two medians printed here. Where two ranges overlap, these runs do not tell
which of the two is ahead.

## Marks

What this project has set itself to reach.

${table([['', 'mark', 'measured', ''], ...marks(figures, plan.distances)])}

## Side by side

64 connections, each a visitor with a session of its own. The store and the load generator run on the same machine. CPU is
the user and system time of the web process per request; for PHP, of nginx and all php-fpm workers together. Each process
answers ${decimal(plan.warmUp)} requests to warm up, for at most 5 s. Then the contenders take turns, ${plan.rounds} of ${plan.round} s each. The
routes without a session send the headers and the bytes of hello-n.

All Node.js contenders run with \`${flags.join(' ')}\`: the heap that V8 takes on a dyno of 512 MB, and the flags of the
Procfile. Only "V8's choice" is hello-n with the young generation that V8 takes in such a heap, without the Procfile's
\`--max-semi-space-size\`.

${costTable(figures)}

${chart(figures)}

The bars are the medians of the table, which says where the ranges overlap.

## The store at a distance

${RATE} requests a second, at random moments, over 64 connections, with the store behind a proxy that delays each way by half
of the round trip. Latency counts from the moment at which the request was due, so a slow answer does not delay later requests.
The tables show what goes beyond one round trip, in ms. "The store itself" is memcached, asked for nothing through the same proxy.

${plan.distances.map((roundTrip) => distance(figures, roundTrip)).join('\n\n')}

## Counts lost

200 requests at once in one session. The greeting after them shows how many counts were lost. A number that two requests got
is a number repeated.

${columns(figures, IDS, { 'counts lost': 'lost', 'numbers repeated': 'repeated' })}

## Memory and start

Resident memory in MB, within the second and within the last quarter of ${decimal(plan.greetings)} greetings, in
${plan.longRuns} processes of each.

${columns(figures, ['bare', 'hello-n'], { 'second quarter': 'half', 'last quarter': 'full' })}

hello-n listens ${ours('start')} ms after its start. A session takes ${ours('bytes')} bytes in memcached${fitting(ours('sessions'))}.

## Flat cost

One process of hello-n and ${decimal(plan.sessions)} sessions, with the store 10 ms away. Most visitors come over connections that are kept,
some over a fresh one each, and some ask for pages that they read late. Resident memory is ${ours('early')} MB within the second tenth
of the sessions and ${ours('late')} MB within the last. The event loop is delayed by ${delays(figures)}.
Descriptors left open when all visitors have gone: ${ours('descriptors')}.
`;
}

function fitting(sessions: string): string {
  return sessions && `, and a stock memcached with 25 MB holds ${sessions} of them`;
}

function delays(figures: Figures): string {
  const [median, most, longest] = ['50th', '99th', 'longest'].map((figure) => figures.show('event loop', figure));
  return `${median} ms (median), ${most} ms (99th percentile) and ${longest} ms (longest)`;
}

function conditions(): string {
  const [cpu] = os.cpus();
  const [, system] = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8')) ?? [];
  const machine = [cpu?.model.trim(), `${os.cpus().length} cores`, `${Math.round(os.totalmem() / 2 ** 30)} GB`, system];
  return `${new Date().toISOString().slice(0, 10)}, ${machine.join(', ')}, Linux ${os.release()}.`;
}

export function costTable(figures: Figures): string {
  return columns(figures, IDS, {
    'CPU, µs': 'cpu',
    'relative to hello-n': (id) => figures.relative('cpu', id, 'hello-n'),
    'requests/s': 'rate',
    'median, ms': '50th',
    '99th, ms': '99th',
    'one connection, ms': 'alone',
    "the store's CPU, µs": 'storeCpu',
    failed: 'failed',
  });
}

/** GitHub draws it. */
function chart(figures: Figures): string {
  const bars = IDS.map((id) => [NAMES.get(id), figures.median(id, 'cpu')] as const).filter(([, cpu]) => cpu > 0);
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
  const percentiles = PERCENTILES.map((percent) => [`${percent}th percentile`, figure(percent)] as const);
  return `### ${roundTrip} ms

${columns(figures, ['ping', ...IDS], Object.fromEntries(percentiles))}`;
}

/** A table with a row for each id for which there is something to show, from the figure or the text of each column. */
function columns(
  figures: Figures,
  ids: readonly string[],
  shown: Readonly<Record<string, string | ((id: string) => string)>>,
): string {
  const rows = ids.map((id) => [
    NAMES.get(id) ?? id,
    ...Object.values(shown).map((figure) => (typeof figure === 'string' ? figures.show(id, figure) : figure(id))),
  ]);
  return table([['', ...Object.keys(shown)], ...rows.filter(([, ...cells]) => cells.some(Boolean))]);
}
