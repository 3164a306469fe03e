import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Children, freePort, howEnded, listens } from './children.js';
import { Formation } from './formation.js';
import { logTo } from './logs.js';
import { startRouter, type Router } from './router.js';

const MOST = 20;
const PROVIDERS = ['MEMCACHIER', 'MEMCACHEDCLOUD', 'MEMCACHE'];
const USAGE = `Usage: npm run dynos -- [web=N] [--memory] [--https]

Starts web dynos on this machine, 5 or as many as web=N says, with a memcached for their counts, and a router that
sends each request to one of them at random, as on Heroku. While it runs, type web=N to scale, and Ctrl-C to stop.

  --memory  gives each dyno counts of its own: the fault that a shared store cures
  --https   says to the dynos that visitors come over https, so that the cookie is a __Host- one;
            over plain http not every browser takes it
  --help    shows this

PORT says where the router listens, 5006 if it is not set. Where the environment names a Memcached (MEMCACHIER_SERVERS,
MEMCACHEDCLOUD_SERVERS or MEMCACHE_SERVERS), that is used. Other settings of the app are passed on to each dyno.
`;

const { quantity, memory, https } = readArguments();
const port = readPort();
const log = logTo(process.stdout);
const router = await startRouterOrExit();
const children = new Children(() => {
  void fail('A part of dynos itself has ended, so it stops');
});
let formation: Formation | undefined;
let stopped: Promise<void> | undefined;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void stop(0));
// Nobody reads on.
process.stdout.on('error', () => void stop(0));

const { place, env } = await findCounters();
if (!isStopping()) await open(new Formation({ children, router, log, env: { ...process.env, ...env } }));

async function open(formed: Formation): Promise<void> {
  formation = formed;
  try {
    await formed.scale(quantity);
  } catch (error) {
    return fail((error as Error).message);
  }
  console.log(`Hello #N is at http://127.0.0.1:${router.port}/, on ${dynos(quantity)}, with the counts in ${place}`);
  console.log('Type web=2 to scale to two dynos, Ctrl-C to stop');
  readOrders(formed);
}

function readArguments(): { quantity: number; memory: boolean; https: boolean } {
  const flag = { type: 'boolean', default: false } as const;
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { memory: flag, https: flag, help: flag },
    });
    if (values.help) {
      console.log(USAGE.trim());
      process.exit(0);
    }
    if (positionals.length > 1) throw new Error(`One web=N is enough, not ${positionals.join(' ')}`);
    return { ...values, quantity: positionals[0] === undefined ? 5 : readQuantity(positionals[0]) };
  } catch (error) {
    // parseArgs goes on about positional arguments.
    console.error(
      `${(error as Error).message.replace(/\. To specify .*/s, '')}. npm run dynos -- --help says what there is`,
    );
    process.exit(2);
  }
}

/** Reads `web=7`. Fails with a plain sentence. */
function readQuantity(text: string): number {
  const [, digits] = /^web=(\d+)$/.exec(text) ?? [];
  const number = Number(digits);
  if (digits === undefined) throw new Error(`${JSON.stringify(text)} is not understood; web=7 would be`);
  if (number < 1) throw new Error('web=0 would leave nobody to answer; web=1 is the least');
  if (number > MOST) throw new Error(`${text} is too many for one machine; web=${MOST} is the most`);
  return number;
}

function readPort(): number {
  const text = process.env.PORT || '5006';
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65_535) return Number(text);
  console.error(`PORT is ${JSON.stringify(text)}; it has to be a port from 0 to 65535`);
  process.exit(1);
}

async function startRouterOrExit(): Promise<Router> {
  try {
    return await startRouter({ port, https, log: (line) => log('local', 'router', line) });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const trouble = code === 'EADDRINUSE' ? 'is taken' : `cannot be listened to (${code})`;
    console.error(`Port ${port} ${trouble}; PORT=${port + 1} npm run dynos takes another`);
    process.exit(1);
  }
}

/** Where the counts are to live, for people, and what the environment has to say so that they do. */
async function findCounters(): Promise<{ place: string; env: NodeJS.ProcessEnv }> {
  if (memory || process.env.COUNTERS === 'memory') {
    return { place: "each dyno's own memory", env: { COUNTERS: 'memory' } };
  }
  const provider = PROVIDERS.find((name) =>
    ['SERVERS', 'USERNAME', 'PASSWORD'].some((suffix) => process.env[`${name}_${suffix}`]),
  );
  if (provider) return { place: `the Memcached that ${provider}_SERVERS names`, env: {} };
  const memcachedPort = await freePort();
  await runMemcached(memcachedPort);
  const address = `127.0.0.1:${memcachedPort}`;
  return { place: `memcached at ${address}`, env: { MEMCACHE_SERVERS: address } };
}

async function runMemcached(memcachedPort: number): Promise<void> {
  const user = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
  const args = ['-l', '127.0.0.1', '-p', String(memcachedPort), '-U', '0', ...user];
  const child = children.start('memcached', args, process.env, (line) => log('local', 'memcached', line));
  try {
    await listens(child, memcachedPort);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return fail(code === 'ENOENT' ? noMemcached() : `memcached does not start: ${message}`);
  }
  child.once('exit', () => void restartMemcached(child, memcachedPort));
}

async function restartMemcached(ended: ChildProcess, memcachedPort: number): Promise<void> {
  if (isStopping()) return;
  log('local', 'memcached', `crashed, ended with ${howEnded(ended)}; starts again in 1 s, with no counts`);
  await sleep(1000);
  if (!isStopping()) await runMemcached(memcachedPort);
}

function noMemcached(): string {
  return (
    'There is no memcached on this machine; "apt-get install memcached" or "brew install memcached" adds it, ' +
    'and "npm run dynos -- --memory" goes without, to show the difference'
  );
}

/** Takes orders to scale, one a line, one after the other. */
function readOrders(formed: Formation): void {
  let done = Promise.resolve();
  createInterface({ input: process.stdin }).on('line', (line) => {
    if (line.trim() === '') return;
    done = done.then(() => scale(formed, line.trim()));
  });
}

async function scale(formed: Formation, order: string): Promise<void> {
  if (isStopping()) return;
  try {
    const wanted = readQuantity(order);
    await formed.scale(wanted);
    console.log(`Scaled to ${dynos(wanted)}`);
  } catch (error) {
    console.log((error as Error).message);
  }
}

function dynos(number: number): string {
  return number === 1 ? '1 dyno' : `${number} dynos`;
}

async function fail(complaint: string): Promise<void> {
  if (!isStopping()) console.error(complaint);
  await stop(1);
}

function isStopping(): boolean {
  return stopped !== undefined;
}

/** Answers what is under way, and ends every part in turn. May be asked for more than once. */
function stop(status: number): Promise<void> {
  stopped ??= (async () => {
    await router.close();
    await formation?.scale(0);
    await children.end();
    process.exit(status);
  })();
  return stopped;
}
