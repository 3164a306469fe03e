import { runCourse } from './course.ts';

// Runs courses until one breaks a promise: from the seed in the first argument on, as many as the second says, or, if that
// is 0, for 15 s and 2000 at the least. A process of its own, because promises are slow in a test's.

const LEAST = 2000;
const ENOUGH = 15_000;

const [first = 0, courses = 0] = process.argv.slice(2).map(Number);
const began = performance.now();
let seed = first;

function isEnough(): boolean {
  if (courses > 0) return seed - first >= courses;
  return seed - first >= LEAST && performance.now() - began > ENOUGH;
}

for (; !isEnough() && process.exitCode === undefined; seed += 1) {
  const broken = await runCourse(seed);
  if (broken.length === 0) continue;
  console.log([`SEED=${seed} COURSES=1 repeats this course:`, ...broken.slice(0, 10)].join('\n  '));
  process.exitCode = 1;
}
console.log(`${seed - first} courses from SEED=${first}, in ${((performance.now() - began) / 1000).toFixed()} s`);
