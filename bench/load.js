import autocannon from 'autocannon';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { idOf } from './memcached.js';
import { installed, start, versionOf } from './processes.js';

const WRK_SCRIPT = fileURLToPath(new URL('wrk.lua', import.meta.url));
/** One visitor a thread, up to here; beyond it several connections share a visitor. */
const MOST_THREADS = 64;

export const loader = installed('wrk')
  ? `wrk ${versionOf('wrk', '-v')}`
  : `autocannon ${createRequire(import.meta.url)('autocannon/package.json').version}`;

/**
 * Asks for so many seconds, over so many connections, each a visitor with one of the cookies; or, given a number of
 * sessions, each time as a random one of those that were filled in. Latencies are in milliseconds.
 */
export async function load(options) {
  return loader.startsWith('wrk') ? byWrk(options) : byAutocannon(options);
}

/**
 * Asks exactly so many times, and gives how many were refused. wrk drops at its end what is under way, and nobody can
 * tell whether that counted.
 */
export async function loadExactly(total, options) {
  const { requests, refused, failed } = await byAutocannon({ ...options, total });
  if (requests !== total || failed > refused) throw new Error(`of ${total} requests ${requests} were answered`);
  return refused;
}

async function byWrk({ port, connections, seconds, cookies = [], sessions }) {
  const args = ['-t', Math.min(connections, MOST_THREADS), '-c', connections, '-d', `${seconds}s`, '-s', WRK_SCRIPT];
  const wrk = start('wrk', [...args, '--timeout', '10s', `http://127.0.0.1:${port}/`].map(String), {
    env: { COOKIES: cookies.join('\n'), ...(sessions && { SESSIONS: sessions }) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  wrk.stdout.setEncoding('utf8').on('data', (chunk) => (output += chunk));
  await once(wrk, 'close');
  const [summary] = /^\{.*\}$/m.exec(output) ?? [];
  if (!summary) throw new Error(`wrk says ${output}`);
  return JSON.parse(summary);
}

async function byAutocannon({ port, connections, seconds, total, cookies = [], sessions }) {
  let visitor = 0;
  const latencies = [];
  const running = autocannon({
    url: `http://127.0.0.1:${port}/`,
    connections,
    ...(total ? { amount: total } : { duration: seconds }),
    ...(sessions
      ? { requests: [{ setupRequest: (request) => ({ ...request, headers: { cookie: randomSession(sessions) } }) }] }
      : cookies.length > 0 && {
          setupClient: (client) => client.setHeaders({ cookie: cookies[visitor++ % cookies.length] }),
        }),
  });
  // Its own histogram knows whole milliseconds only.
  if (!total) running.on('response', (_client, _status, _bytes, time) => latencies.push(time));
  const result = await running;
  latencies.sort((a, b) => a - b);
  return {
    requests: result['2xx'] + result.non2xx,
    seconds: result.duration,
    p50: latencies[Math.floor(latencies.length * 0.5)],
    p99: latencies[Math.floor(latencies.length * 0.99)],
    refused: result.non2xx,
    failed: result.non2xx + result.errors,
  };
}

function randomSession(sessions) {
  return `sid=${idOf(Math.ceil(Math.random() * sessions))}`;
}
