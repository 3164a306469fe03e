/** An answer that greeted the visitor. */
export interface Greeting {
  readonly number: number;
  readonly dyno: string;
  /** The cookie under which it was counted, where sessions are told apart. */
  readonly session?: string;
  /** How many milliseconds the answer took. */
  readonly took: number;
  /** The highest number that the visitor had read before this request. */
  readonly known: number;
  /** Whether it set another cookie, because the dyno did not know the visitor's. */
  readonly replaced: boolean;
}

/** Another answer, or none. */
export interface Failure {
  readonly reason: string;
  readonly status?: number;
}

export type Answer = Greeting | Failure;

/** If more than one greeting in so many sets another cookie, it is not that a store has restarted. */
const RARE = 10;
/** How many numbers or reasons a sentence lists. */
const NAMED = 5;

/**
 * Judges what one new visitor saw. Requests under way at the same time may be counted in any order, so the count has
 * fallen back only if a number is lower than one that the visitor had read before the request.
 *
 * @param seconds for how long requests were sent, while dynos and store came and went. What is answered 503 then may be
 *   counted or not; a store that restarts has forgotten the session, and the next one starts at 1. 0 if neither may be.
 * @returns what is wrong, one sentence each; empty if each number came exactly once, or over time at most once
 */
export function faults(answers: readonly Answer[], seconds = 0): string[] {
  const greetings = greetingsOf(answers);
  const failures = failuresOf(answers).filter(({ status }) => seconds === 0 || status !== 503);
  const forgotten = seconds > 0 ? greetings.filter(({ replaced }) => replaced) : [];
  return [
    failures.length > 0 ? failed(failures, answers.length) : '',
    fallenBack(
      answers,
      greetings.filter(({ replaced }) => seconds === 0 || !replaced),
    ),
    repeated(greetings),
    seconds === 0 ? missing(greetings, failures.length) : '',
    forgotten.length > greetings.length / RARE
      ? `another cookie was set ${forgotten.length} times: the dynos do not share a store`
      : '',
  ].filter(Boolean);
}

/** What is so where nothing is wrong, one sentence each. */
export function proof(answers: readonly Answer[], seconds: number): string[] {
  const greetings = greetingsOf(answers);
  const over = `over ${several(new Set(greetings.map(({ dyno }) => dyno)).size, 'dyno')}`;
  if (seconds === 0) return [`each number from 1 to ${greetings.length} came exactly once, ${over}`];
  const failures = failuresOf(answers);
  const forgotten = greetings.filter(({ replaced }) => replaced).length;
  const inSession = forgotten > 0 ? ' in its session' : '';
  return [
    `of ${greetings.length} numbers none came twice${inSession}, and none was lower than one before, ${over}`,
    failures.length > 0 ? failed(failures, answers.length) : 'No request failed',
    // Each of the requests that were under way when the store forgot started one.
    ...(forgotten > 0 ? [`The store forgot the session, and ${several(forgotten, 'new one')} started at 1`] : []),
  ];
}

export function greetingsOf(answers: readonly Answer[]): Greeting[] {
  return answers.filter((answer): answer is Greeting => 'number' in answer);
}

function failuresOf(answers: readonly Answer[]): Failure[] {
  return answers.filter((answer): answer is Failure => 'reason' in answer);
}

function failed(failures: readonly Failure[], requests: number): string {
  const counts = tally(failures.map(({ reason }) => reason));
  const reasons = [...counts].map(([reason, times]) =>
    times > 1 && counts.size > 1 ? `${reason} (${times} times)` : reason,
  );
  return `${failures.length} of ${several(requests, 'request')} failed: ${shortened(reasons)}`;
}

function fallenBack(answers: readonly Answer[], greetings: readonly Greeting[]): string {
  const isBack = ({ number, known, replaced }: Greeting): boolean => number < known || replaced;
  const first = greetings.find(isBack);
  if (!first) return '';
  const at = `at greeting ${answers.indexOf(first) + 1}, answered by ${first.dyno}`;
  if (first.number > first.known)
    return `another cookie was set ${at}, though the count continued with ${first.number}`;
  const line = `the count fell back to ${first.number} ${at}`;
  const replacing = new Set(greetings.filter(({ replaced }) => replaced).map(({ dyno }) => dyno));
  if (replacing.size === 0) return `${line}, after ${first.known} had been shown`;
  const knowing = greetings.filter(({ replaced }) => !replaced);
  // Each dyno either always knew the session, or never did.
  const divided = !knowing.some(({ dyno }) => replacing.has(dyno));
  return `${line}: ${divided ? 'the dynos do not share a store' : 'the session was lost, and another cookie set'}`;
}

function repeated(greetings: readonly Greeting[]): string {
  const shown = tally(greetings.map(({ number, session = '' }) => `${number} ${session}`));
  const numbers = [...shown].filter(([, times]) => times > 1).map(([key, times]) => [parseInt(key), times] as const);
  if (numbers.length === 0) return '';
  const times = numbers
    .sort(([a], [b]) => a - b)
    .map(([number, count]) => (count === 2 ? `${number} (twice)` : `${number} (${count} times)`));
  return `numbers were shown more than once: ${shortened(times)}`;
}

function missing(greetings: readonly Greeting[], failures: number): string {
  const shown = [...new Set(greetings.map(({ number }) => number))].sort((a, b) => a - b);
  // Nobody knows whether failed requests were counted last.
  const highest = failures > 0 ? (shown.at(-1) ?? 0) : greetings.length;
  const gaps: string[] = [];
  let count = 0;
  let next = 1;
  for (const number of [...shown.filter((number) => number <= highest), highest + 1]) {
    if (number > next) gaps.push(number - 1 > next ? `${next} to ${number - 1}` : `${next}`);
    count += Math.max(0, number - next);
    next = number + 1;
  }
  if (count === 0) return '';
  const line = `${count} of the numbers 1 to ${highest} ${count === 1 ? 'is' : 'are'} missing: ${shortened(gaps)}`;
  return count <= failures ? `${line} (a request that failed may have been counted)` : line;
}

/** Sorts what belongs to dynos: web.2 before web.10. */
export function byName<Value>(values: Iterable<[dyno: string, Value]>): [dyno: string, Value][] {
  return [...values].sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }));
}

/** How often each value occurs. */
export function tally<Value>(values: readonly Value[]): Map<Value, number> {
  const counts = new Map<Value, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

function shortened(list: readonly string[]): string {
  const rest = list.length - NAMED;
  return list.slice(0, NAMED).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}

export function several(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
