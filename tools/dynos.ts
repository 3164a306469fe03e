import { parseArgs } from 'node:util';
import { providerIn, readConfig } from '../src/config.ts';
import { Formation } from './formation.ts';
import { logTo } from './logs.ts';
import { onSignal } from './processes.ts';
import { startRouter, type Router } from './router.ts';
import { startStore } from './store.ts';
import { Terminal } from './terminal.ts';
import { byName, several, tally } from './verdict.ts';

const MOST = 20;
const USAGE = `Usage: npm run dynos -- [N] [--memory] [--https]

Starts N web dynos on this machine (5 by default), a memcached for their counts, and a router that sends each request
to a random dyno, as Heroku does.

  --memory  keeps the counts in each dyno's own memory, to show the bug that a shared store fixes
  --https   tells the dynos that visitors come over https, so that the cookie is a __Host- cookie;
            over plain http not every browser accepts it
  --help    shows this

The router listens on PORT, 5006 by default. If the environment names a Memcached (MEMCACHIER_SERVERS,
MEMCACHEDCLOUD_SERVERS or MEMCACHE_SERVERS), the dynos use that one. They get all other settings of the app too.`;
const SCALING = `  web=2 or 2      scales to two dynos
  restart web.1   restarts a dyno`;
const STORE = `  store stop      ends memcached, with all counts, until store start
  store stall     keeps memcached from answering, until store resume`;
const OTHERS = `  log             shows each request as heroku logs does, or only how many there were
  help            shows this
  Ctrl-C or exit  stops everything`;

const { quantity, memory, https } = readArguments();
/** The environment variables that all dynos share. */
const settings: NodeJS.ProcessEnv = {
  ...process.env,
  PORT: process.env.PORT || '5006',
  ...(memory && { COUNTERS: 'memory' }),
};
const terminal = new Terminal();
const log = logTo((line) => terminal.print(line), process.stdout.isTTY ? process.stdout.getColorDepth() : 1);
/** Who answered the requests since they were shown last, and whether each is shown at once. */
const answered: string[] = [];
let showsEach = false;
setInterval(showRequests, 1000).unref();
const router = await startRouterOrExit();
terminal.print(`Starting ${several(quantity, 'dyno')}...`);
const formation = new Formation({ router, log, env: settings });
let store: Awaited<ReturnType<typeof startStore>> | undefined;
let stopped: Promise<never> | undefined;
onSignal(() => void stop(0));
// The reader of the output has gone.
process.stdout.on('error', () => void stop(0));

const place = await findCounters();
if (!isStopping()) await open();

async function open(): Promise<void> {
  try {
    await formation.scale(quantity);
  } catch (error) {
    return fail(error);
  }
  terminal.print(`${several(quantity, 'dyno')} up, with the counts in ${place}`);
  const address = `Open http://127.0.0.1:${router.port}/`;
  let done = Promise.resolve();
  const hear = (line: string): void => {
    done = done.then(() => carryOut(line));
  };
  if (terminal.ask(`${address} or type help: `, hear, () => void stop(0))) return;
  terminal.print(`Commands can be typed only in a terminal.\n${address}`);
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
    return exit(`${complaint}. See npm run dynos -- --help`, 2);
  }
}

function exit(complaint: string, status = 1): never {
  console.error(complaint);
  process.exit(status);
}

/** Reads `web=7` or `7`. Fails with a sentence for people. */
function readQuantity(text: string): number {
  const [, digits] = /^(?:web=)?(\d+)$/.exec(text) ?? [];
  const number = Number(digits);
  if (digits === undefined) throw new Error(`${JSON.stringify(text)} is not a number of dynos, such as 7 or web=7`);
  if (number < 1) throw new Error('At least one dyno has to run: web=1');
  if (number > MOST) throw new Error(`${number} dynos are too many for one machine; at most web=${MOST}`);
  return number;
}

/** Also says what is wrong in the settings, once for all dynos. */
async function startRouterOrExit(): Promise<Router> {
  try {
    const { port } = readConfig(settings);
    return await startRouter({ port, https, log: hearRequest });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === undefined) return exit(message);
    const complaint = code === 'EADDRINUSE' ? 'is in use' : `cannot be used (${message})`;
    return exit(`PORT ${settings.PORT} ${complaint}; set PORT to another port`);
  }
}

/** Gives where the counts live, for people. Without a place in the settings, starts a memcached. */
async function findCounters(): Promise<string> {
  if (settings.COUNTERS) return "each dyno's own memory";
  const provider = providerIn(settings);
  if (provider) return `the Memcached that ${provider}_SERVERS names`;
  try {
    store = await startStore(log, (error) => void fail(error));
    settings.MEMCACHE_SERVERS = store.address;
    return `memcached at ${store.address}`;
  } catch (error) {
    return fail(error, 'npm run dynos -- --memory works without it, to show the difference');
  }
}

async function carryOut(command: string): Promise<void> {
  if (isStopping() || command === '') return;
  terminal.print(await obey(command).catch((error: unknown) => (error as Error).message));
}

/** Carries out a command, and gives what to say then. */
async function obey(command: string): Promise<string> {
  const [, name] = /^restart\s+(\S+)$/.exec(command) ?? [];
  const [, order] = /^store\s+(stop|start|stall|resume)$/.exec(command) ?? [];
  if (/^(web=)?\d+$/.test(command)) {
    const wanted = readQuantity(command);
    terminal.print(`Scaling to ${several(wanted, 'dyno')}...`);
    await formation.scale(wanted);
    return `Scaled to ${several(wanted, 'dyno')}`;
  }
  if (name !== undefined) {
    const dyno = formation.find(name);
    terminal.print(`Restarting ${name}...`);
    await dyno.restart();
    return `Restarted ${name}`;
  }
  if (order !== undefined) {
    if (store) return store.change(order);
    throw new Error(`The counts are in ${place}. Only a memcached that was started here can be changed`);
  }
  if (command === 'log') {
    showsEach = !showsEach;
    return showsEach ? 'Each request is shown' : 'Requests are counted';
  }
  if (command === 'exit' || command === 'quit') return stop(0);
  if (command === 'restart') return 'Which one? Type restart web.1';
  if (command === 'help') return [SCALING, ...(store ? [STORE] : []), OTHERS].join('\n');
  return `Unknown command: ${command}; type help`;
}

function hearRequest(line: string, dyno: string | undefined, status: number): void {
  if (showsEach) log('local', 'router', line);
  else answered.push(`${dyno ?? 'no dyno'}${status >= 500 ? ` (${status})` : ''}`);
}

/** All requests since the last time in one line: `web.1 9, web.2 11`. */
function showRequests(): void {
  const counts = byName(tally(answered.splice(0)));
  if (counts.length > 0) log('local', 'router', counts.map(([who, requests]) => `${who} ${requests}`).join(', '));
}

async function fail(error: unknown, advice?: string): Promise<never> {
  terminal.close();
  if (!isStopping()) console.error([(error as Error).message, advice].filter(Boolean).join('; '));
  return stop(1);
}

function isStopping(): boolean {
  return stopped !== undefined;
}

/** Finishes the requests in progress, then stops the dynos, then exits. May be called more than once. */
function stop(status: number): Promise<never> {
  stopped ??= (async () => {
    terminal.close();
    await router.close();
    await formation.scale(0);
    process.exit(status);
  })();
  return stopped;
}
