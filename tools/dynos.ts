import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { providerIn, readConfig, type Config } from '../src/config.ts';
import { Formation } from './formation.ts';
import { logTo } from './logs.ts';
import { startMemcached, type Memcached } from './memcached.ts';
import { howEnded, onSignal } from './processes.ts';
import { startRouter, type Router } from './router.ts';

const MOST = 20;
const USAGE = `Usage: npm run dynos -- [N] [--memory] [--https]

Starts N web dynos on this machine (5 by default), a memcached for their counts, and a router that sends each request
to a random dyno, as Heroku does.

  --memory  keeps the counts in each dyno's own memory, to show the fault that a shared store cures
  --https   tells the dynos that visitors come over https, so that the cookie is a __Host- cookie;
            over plain http not every browser accepts it
  --help    shows this

The router listens on PORT, 5006 by default. If the environment names a Memcached (MEMCACHIER_SERVERS,
MEMCACHEDCLOUD_SERVERS or MEMCACHE_SERVERS), the dynos use that one. They get all other settings of the app too.`;
const ORDERS = `  web=2 or 2      scales to two dynos
  restart web.1   restarts a dyno
  help            shows this
  Ctrl-C          stops everything`;

const { quantity, memory, https } = readArguments();
/** What the dynos get in their environment, apart from what differs from dyno to dyno. */
const settings = { ...process.env, PORT: process.env.PORT || '5006', ...(memory && { COUNTERS: 'memory' }) };
const { port } = readConfigOrExit();
const log = logTo(process.stdout);
const router = await startRouterOrExit();
let formation: Formation | undefined;
let stopped: Promise<never> | undefined;
onSignal(() => void stop(0));
// Whoever read the output has gone.
process.stdout.on('error', () => void stop(0));

const { place, env } = await findCounters();
if (!isStopping()) await open(new Formation({ router, log, env: { ...settings, ...env } }));

async function open(formed: Formation): Promise<void> {
  formation = formed;
  try {
    await formed.scale(quantity);
  } catch (error) {
    return fail(error);
  }
  console.log(`\n${dynos(quantity)} up, with the counts in ${place}. Type here:\n${ORDERS}`);
  console.log(`Open http://127.0.0.1:${router.port}/\n`);
  takeOrders(formed);
}

function readArguments(): { quantity: number; memory: boolean; https: boolean } {
  const flag = { type: 'boolean', default: false } as const;
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { memory: flag, https: flag, help: flag },
    });
    if (values.help) {
      console.log(USAGE);
      process.exit(0);
    }
    if (positionals.length > 1) throw new Error(`Give one number of dynos, not ${positionals.join(' ')}`);
    return { ...values, quantity: readQuantity(positionals[0] ?? '5') };
  } catch (error) {
    // parseArgs adds advice on positional arguments.
    const complaint = (error as Error).message.replace(/\. To specify .*/s, '');
    console.error(`${complaint}. See npm run dynos -- --help`);
    process.exit(2);
  }
}

/** Reads `web=7` or `7`. Fails with a sentence for people. */
function readQuantity(text: string): number {
  const [, digits] = /^(?:web=)?(\d+)$/.exec(text) ?? [];
  const number = Number(digits);
  if (digits === undefined) throw new Error(`${JSON.stringify(text)} is not a number of dynos, such as 7 or web=7`);
  if (number < 1) throw new Error('At least one dyno has to run: web=1');
  if (number > MOST) throw new Error(`${number} dynos are too many for one machine; the most is web=${MOST}`);
  return number;
}

function readConfigOrExit(): Config {
  try {
    return readConfig(settings);
  } catch (error) {
    console.error((error as Error).message);
    process.exit(1);
  }
}

async function startRouterOrExit(): Promise<Router> {
  try {
    return await startRouter({ port, https, log: (line) => log('local', 'router', line) });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const complaint = `PORT ${port} ${code === 'EADDRINUSE' ? 'is in use' : `cannot be used (${message})`}`;
    console.error(`${complaint}; PORT=${port + 1} npm run dynos takes another`);
    process.exit(1);
  }
}

/** Where the counts live, for people, and what the dynos' environment says about it. */
async function findCounters(): Promise<{ place: string; env: NodeJS.ProcessEnv }> {
  if (settings.COUNTERS) return { place: "each dyno's own memory", env: {} };
  const provider = providerIn(settings);
  if (provider) return { place: `the Memcached that ${provider}_SERVERS names`, env: {} };
  try {
    const memcached = await startMemcached();
    restartWhenItEnds(memcached);
    return { place: `memcached at ${memcached.address}`, env: { MEMCACHE_SERVERS: memcached.address } };
  } catch (error) {
    return fail(error, 'npm run dynos -- --memory goes without, to show the difference');
  }
}

function restartWhenItEnds(memcached: Memcached): void {
  const { child } = memcached;
  child.once('exit', () => void restart().catch(fail));

  async function restart(): Promise<void> {
    if (isStopping()) return;
    log('local', 'memcached', `crashed, ended with ${howEnded(child)}; starts again in 1 s, with no counts`);
    await sleep(1000);
    await memcached.restart();
    restartWhenItEnds(memcached);
  }
}

/** Carries out one order after the other, each on a line of standard input. */
function takeOrders(formed: Formation): void {
  let done = Promise.resolve();
  createInterface({ input: process.stdin }).on('line', (line) => {
    done = done.then(() => carryOut(formed, line.trim()));
  });
}

async function carryOut(formed: Formation, order: string): Promise<void> {
  if (isStopping() || order === '') return;
  const [, restarted] = /^restart\s+(\S+)$/.exec(order) ?? [];
  try {
    if (order === 'help') {
      console.log(ORDERS);
    } else if (restarted !== undefined) {
      await formed.restart(restarted);
      console.log(`Restarted ${restarted}`);
    } else if (/^(web=)?\d+$/.test(order)) {
      const wanted = readQuantity(order);
      await formed.scale(wanted);
      console.log(`Scaled to ${dynos(wanted)}`);
    } else {
      console.log(`${JSON.stringify(order)} is not an order. Type:\n${ORDERS}`);
    }
  } catch (error) {
    console.log((error as Error).message);
  }
}

function dynos(number: number): string {
  return number === 1 ? '1 dyno' : `${number} dynos`;
}

async function fail(error: unknown, advice?: string): Promise<never> {
  if (!isStopping()) console.error([(error as Error).message, advice].filter(Boolean).join('; '));
  return stop(1);
}

function isStopping(): boolean {
  return stopped !== undefined;
}

/** Answers the requests under way, then stops the dynos, then exits. May be called more than once. */
function stop(status: number): Promise<never> {
  stopped ??= (async () => {
    await router.close();
    await formation?.scale(0);
    process.exit(status);
  })();
  return stopped;
}
