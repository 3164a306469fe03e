// Measures hello-n beside bare routes and its rivals, and writes results.md. Options:
//   --quick            a first look in under a minute, which writes nothing
//   --only ID,ID       only these contenders, side by side; writes nothing
//   --generations N    how many processes of each
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { contenders, find, recordAnswers } from './contenders.ts';
import { Figures } from './figures.ts';
import { atDistance, fill, overMany, sideBySide, type Plan } from './measures.ts';
import { costTable, report } from './report.ts';

const FULL: Plan = {
  generations: 8,
  warmUp: 40_000,
  rounds: 4,
  round: 0.9,
  distances: [1, 10],
  atDistance: 4,
  rate: 400,
  longRuns: 3,
  greetings: 1_000_000,
  sessions: 300_000,
};
const QUICK: Plan = {
  generations: 2,
  warmUp: 2_000,
  rounds: 2,
  round: 0.5,
  distances: [10],
  atDistance: 1,
  rate: 400,
  longRuns: 1,
  greetings: 8_000,
  sessions: 8_000,
};
const DISTANT = ['hello-n', 'plain-memjs', 'fastify-session-redis'];
const QUICK_ONES = ['bare', 'hello-n', 'bare-page', 'hello-n-page', 'plain-memjs'];

const { values: options } = parseArgs({
  options: { quick: { type: 'boolean' }, only: { type: 'string' }, generations: { type: 'string' } },
});
const defaults = options.quick ? QUICK : FULL;
const plan = { ...defaults, generations: Number(options.generations ?? defaults.generations) };
const began = performance.now();
const figures = new Figures();
const bench = { plan, figures, progress, answers: await recordAnswers() };

if (options.only) {
  await sideBySide(bench, options.only.split(',').map(find));
  console.log(`\n${costTable(figures)}`);
} else {
  await sideBySide(bench, options.quick ? QUICK_ONES.map(find) : contenders);
  await atDistance(
    bench,
    contenders.filter(({ id }) => DISTANT.includes(id) && (!options.quick || QUICK_ONES.includes(id))),
  );
  await overMany(bench);
  await fill(bench);
  const file = join(import.meta.dirname, 'results.md');
  const text = report(figures, plan, options.quick ? '' : readFileSync(file, 'utf8'));
  console.log(`\n${text}`);
  if (!options.quick) writeFileSync(file, text);
}
// A count lost is a fault; a mark missed is not.
const faults = ['lost', 'repeated', 'miscounted'].flatMap((figure) => figures.of('hello-n', figure));
process.exit(faults.some((count) => count !== 0) ? 1 : 0);

function progress(what: string): void {
  const seconds = Math.round((performance.now() - began) / 1000);
  const line = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')} ${what}`;
  process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${line}` : `${line}\n`);
}
