import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import os from 'node:os';
import { versions as php } from './contenders/php.js';
import { BARE, OURS } from './contenders.js';
import { loader } from './load.js';
import { marks } from './marks.js';
import { versionOf } from './processes.js';
import { median, timesOurs } from './statistics.js';

/** The report in Markdown, from what was measured. It is also what the terminal shows. */
export function report({ comparison, byConnections, bySessions, store, long, starts }, plan) {
  return [
    '# What a greeting costs',
    `${conditions(plan)}\n\n${versions()}`,
    '## Marks',
    table(['', 'aim', 'measured', ''], marks({ comparison, long, starts }, plan)),
    '## Side by side',
    `CPU time of the web process per greeting (of nginx and php-fpm together), one process each, 64 connections, each a ` +
      `visitor of its own, memcached on the same machine; @fastify/session and express-session keep their sessions there ` +
      `by connect-memjs, PHP by its memcached extension. The median of ${plan.compare.rounds} interleaved rounds of ` +
      `${plan.compare.seconds} s and, in brackets, the least and the most; in italics how it compares with hello-n's in ` +
      `the same round.`,
    costTable(comparison.cost),
    chart(comparison.cost),
    '## Counts lost',
    '200 requests at once in one session, and then one more to see how far its count got. Two visitors that read the ' +
      'same number are a number repeated.',
    lostTable(comparison.lost),
    countedLine(long),
    '## Latency over one connection',
    latencyTable(comparison.latency),
    '## How cost grows',
    growthTable('connections', byConnections),
    'With 64 connections, each greeting from a random one of the live sessions:',
    growthTable('live sessions', bySessions),
    '## Memory and start',
    `Over ${thousands(plan.greetings)} greetings; in each quarter the median, the least and the most.`,
    memoryTable(long),
    storeLine(store, plan),
    `From its start until it listens, hello-n takes ${spread(starts, 0)} ms.`,
  ].join('\n\n');
}

function conditions({ quick }) {
  const [{ model }] = os.cpus();
  const memory = Math.round(os.totalmem() / 2 ** 30);
  const date = new Date().toISOString().slice(0, 10);
  const rough = quick ? ' A first look only: these rounds are too short to conclude from.' : '';
  return `${date}, ${model.trim()}, ${os.cpus().length} cores, ${memory} GB, ${systemName()}.${rough}`;
}

function systemName() {
  if (process.platform === 'darwin') return `macOS ${execFileSync('sw_vers', ['-productVersion']).toString().trim()}`;
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  return `${/^PRETTY_NAME="(.*)"$/m.exec(release)?.[1] ?? os.type()}, ${os.type()} ${os.release()}`;
}

function versions() {
  const packages = ['fastify', 'memjs', '@fastify/session', 'express', 'express-session', 'connect-memjs'];
  const ofPackage = (name) => {
    const folder = ['node_modules', '../node_modules'].find((at) =>
      existsSync(new URL(`${at}/${name}/`, import.meta.url)),
    );
    return JSON.parse(readFileSync(new URL(`${folder}/${name}/package.json`, import.meta.url), 'utf8')).version;
  };
  const all = [
    `Node.js ${process.versions.node}`,
    `memcached ${versionOf('memcached', '-V')}`,
    ...packages.map((name) => `${name} ${ofPackage(name)}`),
    ...Object.entries(php ?? {}).map(([name, version]) => `${name} ${version}`),
    loader,
  ];
  return `${all.join(', ')}.${php ? '' : ' PHP is not installed: it takes php-fpm, its memcached extension, and nginx.'}`;
}

function costTable(cost) {
  const columns = [
    ['CPU, µs', ({ cpu }) => cpu, 1],
    ['requests/s', ({ rate }) => rate, 0],
    ['median, ms', ({ p50 }) => p50, 2],
    ['99th, ms', ({ p99 }) => p99, 2],
    ['failed', ({ failed }) => failed],
  ];
  const rows = [...cost].map(([name, rounds]) => [
    name,
    ...columns.map(([, valueOf, digits]) => {
      if (digits === undefined) return String(rounds.map(valueOf).reduce((one, other) => one + other));
      return `${spread(rounds.map(valueOf), digits)} *${timesOurs(cost, name, valueOf).toFixed(2)}*`;
    }),
  ]);
  return table(['', ...columns.map(([title]) => title)], rows);
}

/** GitHub draws it. */
function chart(cost) {
  const bars = [...cost].map(([name, rounds]) => [name, median(rounds.map(({ cpu }) => cpu)).toFixed(1)]);
  return [
    '```mermaid',
    '%%{init: {"themeVariables": {"xyChart": {"plotColorPalette": "#2f6fde"}}}}%%',
    'xychart-beta horizontal',
    '    title "CPU time per greeting, in microseconds"',
    `    x-axis [${bars.map(([name]) => `"${name}"`).join(', ')}]`,
    '    y-axis "microseconds" 0 --> ' + Math.ceil(Math.max(...bars.map(([, cpu]) => cpu)) / 50) * 50,
    `    bar [${bars.map(([, cpu]) => cpu).join(', ')}]`,
    '```',
  ].join('\n');
}

function lostTable(lost) {
  const rows = [...lost].map(([name, { lost, repeated, unanswered, seconds }]) => {
    return [name, lost, repeated, unanswered, `${seconds.toFixed(1)} s`];
  });
  return table(['', 'counts lost', 'numbers repeated', 'without a number', 'until the last answer'], rows);
}

function countedLine({ sent, counted, refused }) {
  return (
    `hello-n under load, 64 connections and 64 sessions: ${thousands(sent)} requests sent, ${thousands(refused)} of them ` +
    `refused; the sum of all counts is ${thousands(counted)}.`
  );
}

function latencyTable(latency) {
  const rows = [...latency].map(([name, rounds]) => {
    const [p50, p99] = [rounds.map((round) => round.p50), rounds.map((round) => round.p99)];
    return [name, `${spread(p50, 3)} *${timesOurs(latency, name, (round) => round.p50).toFixed(2)}*`, spread(p99, 3)];
  });
  return table(['', 'median, ms', '99th, ms'], rows);
}

function growthTable(what, results) {
  const digits = { cpu: 1, storeCpu: 1, rate: 0, p99: 2 };
  const rows = [...results].map(([number, rounds]) => [
    thousands(number),
    ...Object.keys(digits).map((name) =>
      spread(
        rounds.map((round) => round[name]),
        digits[name],
      ),
    ),
  ]);
  return table([what, 'CPU, µs', "memcached's, µs", 'requests/s', '99th, ms'], rows);
}

function memoryTable(long) {
  const rows = [OURS, BARE].map((name) => [name, ...long[name].map((samples) => spread(samples, 0))]);
  return table(['resident, MB', 'at the start', '1st quarter', '2nd quarter', '3rd quarter', '4th quarter'], rows);
}

function storeLine({ item, chunk, fitting }, { visitors }) {
  return (
    `Each of ${thousands(visitors)} new sessions takes ${item.toFixed(0)} bytes in memcached, in the slab class of ` +
    `${chunk} bytes. A memcached with 25 MB holds ${thousands(fitting)} of them.`
  );
}

/** The median, and from the least to the most. */
function spread(values, digits) {
  const [middle, least, most] = [median(values), Math.min(...values), Math.max(...values)].map((value) =>
    thousands(value, digits),
  );
  return least === most ? middle : `${middle} (${least}–${most})`;
}

function thousands(value, digits = 0) {
  return value.toLocaleString('en-GB', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A Markdown table with its columns aligned, so that it can be read as it is. */
function table(head, rows) {
  const cells = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_title, column) => Math.max(3, ...cells.map((row) => row[column].length)));
  const [titles, ...lines] = cells.map((row) => `| ${row.map((cell, at) => cell.padEnd(widths[at])).join(' | ')} |`);
  const rule = `| ${widths.map((width, at) => (at === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`;
  return [titles, rule, ...lines].join('\n');
}
