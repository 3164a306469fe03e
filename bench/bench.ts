// Measures hello-n beside bare routes, other session libraries and PHP, and writes results.md. Options:
//   --quick            a first look in about a minute, which writes nothing
//   --only ID,ID       only these contenders, side by side; writes nothing
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { contenders, find, recordAnswers } from './contenders.ts';
import { Figures } from './figures.ts';
import { holdSessions } from './flat.ts';
import { atDistance, FULL, overMany, QUICK, sideBySide } from './measures.ts';
import { costTable, report } from './report.ts';

const DISTANT = ['hello-n', 'plain-memjs', 'fastify-session-redis'];
const QUICK_DISTANT = ['hello-n', 'plain-memjs'];
const QUICK_ONES = ['bare', 'hello-n', 'bare-page', 'hello-n-page', 'plain-memjs'];

const { values: options } = parseArgs({ options: { quick: { type: 'boolean' }, only: { type: 'string' } } });
const plan = options.quick ? QUICK : FULL;
const began = performance.now();
const figures = new Figures();
const bench = { plan, figures, progress, answers: await recordAnswers() };

if (options.only) {
  await sideBySide(bench, options.only.split(',').map(find));
  console.log(`\n${costTable(figures)}`);
} else {
  await sideBySide(bench, options.quick ? QUICK_ONES.map(find) : contenders);
  const distant = options.quick ? QUICK_DISTANT : DISTANT;
  await atDistance(
    bench,
    contenders.filter(({ id }) => distant.includes(id)),
  );
  await overMany(bench);
  await holdSessions(bench);
  const text = report(figures, plan);
  console.log(`\n${text}`);
  if (!options.quick) writeFileSync(join(import.meta.dirname, 'results.md'), text);
}
// A count lost or a descriptor left is a fault. A mark missed is not, nor a 503 on a machine too busy for the store.
const faults = ['lost', 'repeated', 'miscounted', 'descriptors'];
process.exit(faults.some((fault) => figures.of('hello-n', fault).some((count) => count !== 0)) ? 1 : 0);

function progress(what: string): void {
  const seconds = Math.round((performance.now() - began) / 1000);
  const line = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')} ${what}`;
  process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${line}` : `${line}\n`);
}
