// Measures hello-n beside a bare route and its rivals. `--quick` gives a first look in under a minute, and writes nothing.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { OURS } from './contenders.js';
import { miscounted } from './marks.js';
import { compare, growByConnections, growBySessions, lastLong, startTimes, store } from './measures.js';
import { report } from './report.js';

const FULL = {
  compare: { rounds: 7, seconds: 4, warmUp: 4 },
  latency: { rounds: 5, seconds: 4, warmUp: 2 },
  growth: { rounds: 3, seconds: 4, warmUp: 2 },
  connections: [1, 8, 64, 512],
  sessions: [10, 10_000, 1_000_000],
  visitors: 100_000,
  greetings: 1_000_000,
  starts: 7,
};
const QUICK = {
  quick: true,
  compare: { rounds: 2, seconds: 1, warmUp: 1 },
  latency: { rounds: 1, seconds: 1, warmUp: 1 },
  growth: { rounds: 1, seconds: 1, warmUp: 1 },
  connections: [1, 512],
  sessions: [10, 10_000],
  visitors: 5_000,
  greetings: 10_000,
  starts: 3,
};

const { values } = parseArgs({ options: { quick: { type: 'boolean', default: false } } });
const plan = values.quick ? QUICK : FULL;
const began = performance.now();
const results = {
  comparison: await compare(plan, progress),
  byConnections: await growByConnections(plan, progress),
  bySessions: await growBySessions(plan, progress),
  store: await store(plan, progress),
  long: await lastLong(plan, progress),
  starts: await startTimes(plan, progress),
};
progress('done');
const text = report(results, plan);
// The chart is for GitHub.
console.log(`\n${text.replace(/```mermaid.*?```\n\n/s, '')}`);
if (!plan.quick) writeFileSync(new URL('results.md', import.meta.url), `${text}\n`);
// A count lost is a fault, a mark missed is not.
process.exit(miscounted(results.long) + results.comparison.lost.get(OURS).lost === 0 ? 0 : 1);

function progress(what) {
  const seconds = Math.round((performance.now() - began) / 1000);
  const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${clock} ${what}${what === 'done' ? '\n' : ''}`);
  else process.stderr.write(`${clock} ${what}\n`);
}
