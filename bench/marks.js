import { versions as php } from './contenders/php.js';
import { BARE, EXPRESS_SESSION, FASTIFY_SESSION, OURS, PHP, PLAIN } from './contenders.js';
import { median, timesOurs } from './statistics.js';

/** With that much a greeting, in bytes, each would be leaving something behind: no object takes less. */
const LITTER = 16;

/** What is aimed at, and whether it was reached, as rows of a table. */
export function marks({ comparison: { cost, lost, latency }, long, starts }, { greetings, quick }) {
  const cpu = (name) => timesOurs(cost, name, (round) => round.cpu);
  const [, , second, , last] = long[OURS].map(median);
  const { lost: missing, repeated } = lost.get(OURS);
  const rows = [
    atLeast(0.9, '', `greetings per CPU second, of ${BARE}`, cpu(BARE)),
    atLeast(4, ' times', `CPU time of ${FASTIFY_SESSION}`, cpu(FASTIFY_SESSION)),
    atLeast(10, ' times', `CPU time of ${EXPRESS_SESSION}`, cpu(EXPRESS_SESSION)),
    atLeast(2.5, ' times', `CPU time of ${PHP}`, php ? cpu(PHP) : undefined),
    atMost(1.15, '', `latency over one connection, of ${PLAIN}`, 1 / timesOurs(latency, PLAIN, ({ p50 }) => p50)),
    atMost(500, ' ms', 'start until it listens', median(starts)),
    atMost(0, '', 'counts lost or repeated, of 200 at once', missing + repeated),
    atMost(0, '', 'difference of the greetings sent and the sum of all counts', miscounted(long)),
  ];
  // Within a few thousand greetings the memory has not settled.
  if (quick) return rows;
  return [
    ...rows,
    atMost(60, ' MB', `memory above that of ${BARE}`, last - median(long[BARE].at(-1))),
    atMost((LITTER * greetings) / 2e6, ' MB', 'memory gained over the second half of the greetings', last - second),
  ];
}

/** A refused greeting may have been counted, and need not have been. */
export function miscounted({ sent, refused, counted }) {
  return Math.max(0, counted - sent, sent - refused - counted);
}

function atLeast(aim, unit, what, value) {
  return mark(what, `at least ${aim}${unit}`, value, unit, value >= aim);
}

function atMost(aim, unit, what, value) {
  return mark(what, aim === 0 ? 'none' : `at most ${aim}${unit}`, value, unit, value <= aim);
}

function mark(what, aim, value, unit, met) {
  if (value === undefined) return [what, aim, 'not installed', ''];
  return [what, aim, `${Number(value.toPrecision(3))}${unit}`, met ? 'met' : '**not met**'];
}
