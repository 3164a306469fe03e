import { simulate } from './simulation.ts';

// Runs simulations until one has a violation: from the seed in the first argument on, as many as the second says, or, if that
// is 0, for 10 s and 2000 at the least, but for a minute at most. A process of its own, because promises are slow in a test's.

const LEAST = 2000;
const ENOUGH_MS = 10_000;
const TOO_LONG_MS = 60_000;

const [first = 0, simulations = 0] = process.argv.slice(2).map(Number);
const began = performance.now();
const rejections: string[] = [];
let seed = first;

function isEnough(): boolean {
  if (simulations > 0) return seed - first >= simulations;
  const took = performance.now() - began;
  return took > TOO_LONG_MS || (seed - first >= LEAST && took > ENOUGH_MS);
}

// Errors are made by the thousand, and their stacks take a tenth of the time. Only who repeats one simulation looks at them.
if (simulations !== 1) Error.stackTraceLimit = 0;
process.on('unhandledRejection', (reason) => rejections.push(`nobody hears of ${(reason as Error).stack}`));
for (; !isEnough() && process.exitCode === undefined; seed += 1) {
  const violations = await simulate(seed);
  // Only then does Node.js tell of rejections.
  await new Promise(setImmediate);
  violations.push(...rejections.splice(0));
  if (violations.length === 0) continue;
  console.log([`node test/support/search.ts ${seed} 1 repeats this:`, ...violations.slice(0, 10)].join('\n  '));
  process.exitCode = 1;
}
console.log(`${seed - first} simulations from seed ${first}, in ${((performance.now() - began) / 1000).toFixed()} s`);
