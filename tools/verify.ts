import { parseArgs } from 'node:util';
import { faults, proof, several, type Answer, type Greeting } from './verdict.js';

/** How long an answer may take, in milliseconds. */
const PATIENCE = 10_000;
const REDIRECTS = 5;
/** After so many failed requests no further one is sent. */
const ENOUGH_FAILURES = 20;
const BAR = 40;
const USAGE = `Usage: npm run verify -- URL [--requests N] [--concurrency N]

Plays one new visitor of a running hello-n, here or on Heroku: one greeting to get the cookie, then all others with it.
Says whether each number came exactly once, and which dynos answered.

  --requests     how many greetings, 2 to 1000000; 100 unless told
  --concurrency  how many at a time, 1 to 1000; 10 unless told
  --help         shows this

Exit status: 0 for a proof, 1 for a disproof, 2 when it could not be tried.`;

/** The visitor, after the first greeting. */
interface Visitor {
  /** Where redirects led to. */
  readonly url: URL;
  /** As a browser sends it, `sid=...` or `__Host-sid=...`. */
  readonly cookie: string | undefined;
  readonly first: Greeting;
}

/** It could not be tried, and why. */
class NotTried extends Error {}

const { url, requests, concurrency } = readArguments();
process.exitCode = await verify();

async function verify(): Promise<number> {
  try {
    const visitor = await meet(url);
    const answers = await greetAgain(visitor);
    return report(visitor, answers);
  } catch (error) {
    if (!(error instanceof NotTried)) throw error;
    console.error(`Not tried: ${error.message}.`);
    return 2;
  }
}

function readArguments(): { url: URL; requests: number; concurrency: number } {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        requests: { type: 'string', default: '100' },
        concurrency: { type: 'string', default: '10' },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      process.exit(0);
    }
    const [address, ...rest] = positionals;
    if (address === undefined) throw new Error('It needs an address, as in npm run verify -- http://127.0.0.1:5006/');
    if (rest.length > 0) throw new Error(`One address is enough, not ${positionals.join(' ')}`);
    return {
      url: readAddress(address),
      requests: readNumber('--requests', values.requests, 2, 1_000_000),
      concurrency: readNumber('--concurrency', values.concurrency, 1, 1000),
    };
  } catch (error) {
    // parseArgs goes on about positional arguments.
    console.error(`${(error as Error).message.replace(/\. To specify .*/s, '')}. npm run verify -- --help says more`);
    process.exit(2);
  }
}

function readAddress(text: string): URL {
  const address = URL.canParse(text) ? new URL(text) : undefined;
  if (address && /^https?:$/.test(address.protocol) && address.username + address.password === '') return address;
  throw new Error(`${JSON.stringify(text)} has to be an address that begins with http:// or https://`);
}

function readNumber(name: string, text: string, least: number, most: number): number {
  if (/^\d{1,7}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text);
  throw new Error(`${name} is ${JSON.stringify(text)}; it has to be a number from ${least} to ${most}`);
}

/** The first greeting, on which all others depend. */
async function meet(address: URL): Promise<Visitor> {
  try {
    for (let hop = 0; hop <= REDIRECTS; hop++) {
      const start = performance.now();
      const response = await ask(address);
      const location = response.headers.get('location');
      if (response.status >= 300 && response.status < 400 && location !== null) {
        await response.body?.cancel();
        address = new URL(location, address);
        continue;
      }
      const { number, dyno } = await read(response);
      const first = { number, dyno, took: performance.now() - start, known: 0, replaced: false };
      return { url: address, cookie: sessionCookie(response), first };
    }
  } catch (error) {
    throw new NotTried(`${address.href}: ${reason(error)}`);
  }
  throw new NotTried(`${address.href} redirects without end`);
}

/** All greetings after the first, in the order in which they were answered, with the first in front. */
async function greetAgain(visitor: Visitor): Promise<Answer[]> {
  const answers: Answer[] = [visitor.first];
  let asked = 1;
  let failures = 0;
  let known = visitor.first.number;

  async function greet(): Promise<void> {
    while (asked < requests && failures < ENOUGH_FAILURES && visitor.cookie !== undefined) {
      asked++;
      const answer = await greetOnce(visitor, known);
      if ('number' in answer) known = Math.max(known, answer.number);
      else failures++;
      answers.push(answer);
      showProgress(`${answers.length} of ${requests}`);
    }
  }

  await Promise.all(Array.from({ length: concurrency }, greet));
  showProgress('');
  return answers;
}

async function greetOnce({ url, cookie = '' }: Visitor, known: number): Promise<Answer> {
  const start = performance.now();
  try {
    const response = await ask(url, cookie);
    const { number, dyno } = await read(response);
    const set = sessionCookie(response);
    return { number, dyno, took: performance.now() - start, known, replaced: set !== undefined && set !== cookie };
  } catch (error) {
    return { reason: reason(error) };
  }
}

function ask(address: URL, cookie?: string): Promise<Response> {
  const headers = { accept: 'text/plain', ...(cookie === undefined ? {} : { cookie }) };
  return fetch(address, { headers, redirect: 'manual', signal: AbortSignal.timeout(PATIENCE) });
}

/** Reads a greeting. Fails if it is none, with words to show. */
async function read(response: Response): Promise<{ number: number; dyno: string }> {
  const text = await response.text();
  if (response.status !== 200) throw new Error(`it answered ${response.status}${quoted(text)}`);
  const [, number] = /^Hello #(\d{1,15})\s*$/.exec(text) ?? [];
  const dyno = response.headers.get('x-dyno') ?? '';
  if (number === undefined) throw new Error('its answer is not a greeting such as "Hello #1", so it is not this app');
  if (!/^[!-~]{1,40}$/.test(dyno)) throw new Error('its greeting names no dyno (X-Dyno), so it is not this app');
  return { number: Number(number), dyno };
}

/** What an answer says, if it is a short line. */
function quoted(text: string): string {
  return /^[ -~]{1,120}\n?$/.test(text) ? ` "${text.trim()}"` : '';
}

function sessionCookie(response: Response): string | undefined {
  const [pair] = response.headers.getSetCookie().flatMap((line) => /^(?:__Host-)?sid=[^;]*/.exec(line) ?? []);
  return pair;
}

/** Why a request failed. fetch hides that in the cause of its error. */
function reason(error: unknown): string {
  const { name, message, cause } = error as Error;
  if (name === 'TimeoutError') return `no answer within ${PATIENCE / 1000} s`;
  if (!(cause instanceof Error)) return message;
  switch ('code' in cause && cause.code) {
    case 'ECONNREFUSED':
      return 'nothing listens there';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'there is no such host';
    case 'ECONNRESET':
    case 'UND_ERR_SOCKET':
      return 'the connection was lost';
    default:
      return cause.message;
  }
}

/** On a terminal: the text replaces the one before. */
function showProgress(text: string): void {
  if (process.stdout.isTTY && process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

/** Shows who answered and how fast, and gives the verdict as an exit status. */
function report({ cookie }: Visitor, answers: readonly Answer[]): number {
  const greetings = answers.filter((answer): answer is Greeting => 'number' in answer);
  for (const line of bars(greetings)) console.log(line);
  const times = greetings.map(({ took }) => took).sort((a, b) => a - b);
  console.log(`Median ${percentile(times, 50)} ms, 99th percentile ${percentile(times, 99)} ms`);

  const found = cookie === undefined ? ['the greeting set no session cookie'] : faults(answers);
  if (found.length === 0) {
    console.log(`Proved: ${proof(greetings)}.`);
    return 0;
  }
  console.log(`Disproved: ${found.join('.\nAlso: ')}.`);
  if (cookie !== undefined && answers.length < requests) {
    console.log(`Gave up after ${several(answers.length, 'request')} of ${requests}.`);
  }
  return 1;
}

/** A bar for each dyno, with how many greetings came from it and which share that is. */
function bars(greetings: readonly Greeting[]): string[] {
  const counts = new Map<string, number>();
  for (const { dyno } of greetings) counts.set(dyno, (counts.get(dyno) ?? 0) + 1);
  const most = Math.max(...counts.values());
  const width = Math.max(...[...counts.keys()].map((dyno) => dyno.length));
  const byName = [...counts].sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }));
  return byName.map(([dyno, count]) => {
    const bar = '█'.repeat(Math.max(1, Math.round((count / most) * BAR))).padEnd(BAR);
    return `${dyno.padEnd(width)} ${bar} ${count} (${Math.round((count / greetings.length) * 100)}%)`;
  });
}

/** By nearest rank, of sorted numbers. */
function percentile(sorted: readonly number[], percent: number): string {
  return (sorted[Math.ceil((sorted.length * percent) / 100) - 1] ?? 0).toFixed(1);
}
