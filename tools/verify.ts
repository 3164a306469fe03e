import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { byName, faults, greetingsOf, proof, several, tally, type Answer, type Greeting } from './verdict.ts';

/** How long an answer may take, in milliseconds. */
const ANSWER_TIMEOUT = 10_000;
const REDIRECTS = 5;
/** After this many failed requests it sends no more, unless it runs for a time. Then it waits after each. */
const ENOUGH_FAILURES = 20;
const PAUSE_MS = 100;
const PROGRESS_MS = 100;
/** When to say that the first answer is awaited. */
const AWAITED_MS = 2000;
/** Two signals that come closer to each other are one Ctrl-C: npm passes it on. */
const ONE_PRESS_MS = 500;
const BAR = 40;
const UNREACHABLE = 'that host cannot be reached from here';
const FAILURES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'the connection was lost',
  EAI_AGAIN: 'the name of the host cannot be looked up',
  EHOSTUNREACH: UNREACHABLE,
  ENETUNREACH: UNREACHABLE,
  ENOTFOUND: 'there is no such host',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it does not speak https',
  ETIMEDOUT: 'the host does not answer',
  UND_ERR_CONNECT_TIMEOUT: 'the host does not answer',
  UND_ERR_SOCKET: 'the connection was lost',
};
const USAGE = `Usage: npm run verify -- URL [--requests N | --for 60s] [--concurrency N]

Plays one new visitor of a running hello-n, on this machine or on Heroku. The first request gets the cookie, and all
others send it. Says whether each number came exactly once, and which dynos answered.

  --requests     how many requests, 2 to 1000000, 100 by default
  --for          how many seconds to send instead, 1s to 3600s, whatever fails meanwhile: then numbers may be
                 skipped, but in a session none comes twice, and none is lower than one before
  --concurrency  how many at a time, 1 to 1000, 10 by default
  --help         shows this

Ctrl-C sends no more, and shows what came until then.

Exit status: 0 if that is so, 1 if not, 2 if it could not run.`;

const { url, requests, seconds, concurrency } = readArguments();
/** The highest number that the visitor has read, by session. */
const highest = new Map<string, number>();
const visitor = await meet(url);
process.exitCode = report(await greetAgain());

function readArguments(): { url: URL; requests: number; seconds: number; concurrency: number } {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        requests: { type: 'string' },
        for: { type: 'string' },
        concurrency: { type: 'string', default: '10' },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      process.exit(0);
    }
    const [address, ...rest] = positionals;
    if (address === undefined) throw new Error('Give an address: npm run verify -- http://127.0.0.1:5006/ for example');
    if (rest.length > 0) throw new Error(`Give one address, not ${positionals.join(' ')}`);
    if (values.for !== undefined && values.requests !== undefined)
      throw new Error('Give --for or --requests, not both');
    const duration = values.for?.replace(/s$/, '');
    return {
      url: readAddress(address),
      requests: readNumber('--requests', values.requests ?? '100', 2, 1_000_000),
      seconds: duration === undefined ? 0 : readNumber('--for', duration, 1, 3600, 'number of seconds'),
      concurrency: readNumber('--concurrency', values.concurrency, 1, 1000),
    };
  } catch (error) {
    // parseArgs adds advice on positional arguments.
    console.error(`${(error as Error).message.replace(/\. To specify .*/s, '')}. See npm run verify -- --help`);
    process.exit(2);
  }
}

function readAddress(text: string): URL {
  const address = URL.canParse(text) ? new URL(text) : undefined;
  if (address && /^https?:$/.test(address.protocol) && address.username + address.password === '') return address;
  throw new Error(`${JSON.stringify(text)} is not an address that begins with http:// or https://`);
}

function readNumber(name: string, text: string, least: number, most: number, what = 'number'): number {
  if (/^\d{1,7}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text);
  throw new Error(`${name} is ${JSON.stringify(text)}; it must be a ${what} from ${least} to ${most}`);
}

/** Sends the first request, which all others depend on. Gives the address after all redirects. */
async function meet(address: URL): Promise<{ url: URL; cookie: string | undefined; first: Greeting }> {
  const timer = setTimeout(() => console.error(`Waiting for ${address.href}...`), AWAITED_MS);
  try {
    for (let hop = 0; hop <= REDIRECTS; hop++) {
      const start = performance.now();
      const response = await ask(address);
      const location = response.headers.get('location');
      if (response.status < 300 || response.status >= 400 || location === null) {
        const first = await read(response, start);
        return { url: address, cookie: first.session || undefined, first };
      }
      await response.body?.cancel();
      address = new URL(location, address);
    }
  } catch (error) {
    couldNotRun(`${address.href}: ${reason(error)}${aboutProxy(address)}`);
  } finally {
    clearTimeout(timer);
  }
  return couldNotRun(`${address.href} redirects more than ${REDIRECTS} times`);
}

function couldNotRun(why: string): never {
  console.error(`Could not run: ${why}.`);
  process.exit(2);
}

/** Sends all other requests, and gives all answers in the order in which they came. */
async function greetAgain(): Promise<Answer[]> {
  if (seconds > 0) console.error(`Sending requests for ${several(seconds, 'second')}...`);
  const answers: Answer[] = [visitor.first];
  const end = performance.now() + seconds * 1000;
  let asked = 1;
  let failures = 0;
  let interruptedAt = Infinity;
  process.on('SIGINT', () => {
    if (performance.now() - interruptedAt > ONE_PRESS_MS) process.exit(130);
    interruptedAt = Math.min(interruptedAt, performance.now());
  });
  const timer = setInterval(() => {
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    const ofAll = `${answers.length} of ${requests}`;
    showProgress(seconds > 0 ? `${several(answers.length, 'answer')}, ${left} s left` : ofAll);
  }, PROGRESS_MS);

  function goesOn(): boolean {
    if (visitor.cookie === undefined || interruptedAt < Infinity) return false;
    return seconds > 0 ? performance.now() < end : asked < requests && failures < ENOUGH_FAILURES;
  }

  async function greet(): Promise<void> {
    while (goesOn()) {
      asked++;
      const answer = await greetOnce();
      answers.push(answer);
      if ('number' in answer) continue;
      failures++;
      if (seconds > 0) await sleep(PAUSE_MS);
    }
  }

  await Promise.all(Array.from({ length: concurrency }, greet));
  clearInterval(timer);
  showProgress('');
  return answers;
}

async function greetOnce(): Promise<Answer> {
  const start = performance.now();
  const { url, cookie = '' } = visitor;
  const known = highest.get(cookie) ?? 0;
  try {
    const response = await ask(url, cookie);
    if (response.status === 503) return { reason: await refusal(response), status: 503 };
    const greeting = await read(response, start, cookie, known);
    if (greeting.session !== cookie) visitor.cookie = greeting.session;
    return greeting;
  } catch (error) {
    return { reason: reason(error) };
  }
}

function ask(address: URL, cookie?: string): Promise<Response> {
  const headers = { accept: 'text/plain', ...(cookie === undefined ? {} : { cookie }) };
  return fetch(address, { headers, redirect: 'manual', signal: AbortSignal.timeout(ANSWER_TIMEOUT) });
}

/** Reads a greeting. If the response is none, fails with a sentence for people. */
async function read(response: Response, start: number, cookie = '', known = 0): Promise<Greeting> {
  if (response.status !== 200) throw new Error(await refusal(response));
  const text = await response.text();
  const [, digits] = /^Hello #(\d{1,15})\s*$/.exec(text) ?? [];
  const dyno = response.headers.get('x-dyno') ?? '';
  if (digits === undefined) throw new Error('its answer is not a greeting such as "Hello #1", so it is not this app');
  if (!/^[!-~]{1,40}$/.test(dyno)) throw new Error('its greeting names no dyno (X-Dyno), so it is not this app');
  const number = Number(digits);
  const set = sessionCookie(response) ?? cookie;
  const replaced = cookie !== '' && set !== cookie;
  // Over time, a new session replaces one that the store has forgotten.
  const session = replaced && seconds === 0 ? cookie : set;
  highest.set(session, Math.max(highest.get(session) ?? 0, number));
  return { number, dyno, session, took: performance.now() - start, known, replaced };
}

/** The status of an answer, and its text if that is a short line. */
async function refusal(response: Response): Promise<string> {
  const text = await response.text();
  return `the app answered ${response.status}${/^[ -~]{1,120}\n?$/.test(text) ? ` "${text.trim()}"` : ''}`;
}

function sessionCookie(response: Response): string | undefined {
  const [pair] = response.headers.getSetCookie().flatMap((line) => /^(?:__Host-)?sid=[^;]*/.exec(line) ?? []);
  return pair;
}

/** Why a request failed, for people. */
function reason(error: unknown): string {
  const { name, message, cause } = error as Error;
  if (name === 'TimeoutError') return `no answer within ${ANSWER_TIMEOUT / 1000} s`;
  // fetch puts the reason into the cause of its error.
  if (!(cause instanceof Error)) return message;
  const code = 'code' in cause ? String(cause.code) : '';
  return FAILURES[code] ?? cause.message.replace(/\.+$/, '');
}

/** What a proxy in the environment has to do with a failure, if there is one. */
function aboutProxy({ protocol }: URL): string {
  const name = `${protocol.slice(0, -1)}_proxy`;
  const [proxy] = [name, name.toUpperCase()].filter((variable) => process.env[variable]);
  if (proxy === undefined) return '';
  if (process.env.NODE_USE_ENV_PROXY === '1') return `, through the proxy that ${proxy} names`;
  return `, without the proxy that ${proxy} names; from Node.js 24 on, NODE_USE_ENV_PROXY=1 makes fetch use it`;
}

/** On a terminal, replaces the text shown before. */
function showProgress(text: string): void {
  if (process.stdout.isTTY && process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

/** Prints which dynos answered, how fast, and the verdict. Gives the exit status. */
function report(answers: readonly Answer[]): number {
  const greetings = greetingsOf(answers);
  for (const line of bars(greetings)) console.log(line);
  const times = greetings.map(({ took }) => took).sort((a, b) => a - b);
  console.log(`Median ${percentile(times, 50)} ms, 99th percentile ${percentile(times, 99)} ms`);

  const { cookie } = visitor;
  const found = cookie === undefined ? ['the greeting set no session cookie'] : faults(answers, seconds);
  if (found.length === 0) {
    console.log(`Proved: ${proof(answers, seconds).join('.\n')}.`);
    return 0;
  }
  console.log(`Failed: ${found.join('.\nAlso: ')}.`);
  if (seconds === 0 && cookie !== undefined && answers.length < requests)
    console.log(`Gave up after ${several(answers.length, 'request')} of ${requests}.`);
  return 1;
}

/** A line for each dyno: a bar, how many greetings came from it, and their share. */
function bars(greetings: readonly Greeting[]): string[] {
  const counts = tally(greetings.map(({ dyno }) => dyno));
  const most = Math.max(...counts.values());
  const width = Math.max(...[...counts.keys()].map((dyno) => dyno.length));
  return byName(counts).map(([dyno, count]) => {
    const bar = '█'.repeat(Math.max(1, Math.round((count / most) * BAR))).padEnd(BAR);
    return `${dyno.padEnd(width)} ${bar} ${count} (${Math.round((count / greetings.length) * 100)}%)`;
  });
}

/** The percentile of sorted numbers, by nearest rank. */
function percentile(sorted: readonly number[], percent: number): string {
  return (sorted[Math.ceil((sorted.length * percent) / 100) - 1] ?? 0).toFixed(1);
}
