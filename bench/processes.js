import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const running = new Set();
/** Where Debian and Homebrew keep what is mostly run by root. */
const PATH = [process.env.PATH, '/usr/sbin', '/usr/local/sbin', '/opt/homebrew/sbin'].join(delimiter);
const ON_LINUX = process.platform === 'linux';
const TICKS_PER_SECOND = ON_LINUX ? Number(execFileSync('getconf', ['CLK_TCK'])) : 1;

// By SIGTERM, as nginx and php-fpm end their workers only then.
process.on('exit', () => running.forEach((child) => child.kill()));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

/** Starts a program, with nothing in its environment but what is given, to be ended with this process at the latest. */
export function start(command, args, { env = {}, ...options } = {}) {
  const child = spawn(command, args, { stdio: 'ignore', env: { PATH, LC_ALL: 'C', ...env }, ...options });
  running.add(child);
  child.on('exit', () => running.delete(child));
  child.on('error', (error) => {
    throw error;
  });
  return child;
}

export async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill();
  await once(child, 'exit');
}

/** Starts a Node.js program that prints its address as soon as it listens. */
export async function startNode(file, env) {
  const began = performance.now();
  const child = start(process.execPath, [file], {
    env: { NODE_ENV: 'production', HOST: '127.0.0.1', PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exit = once(child, 'exit').then(() => Promise.reject(new Error(`${file} ended before it listened`)));
  const [line] = await Promise.race([once(child.stdout.setEncoding('utf8'), 'data'), exit]);
  const startTime = performance.now() - began;
  exit.catch(() => undefined);
  child.stdout.resume();
  return { port: Number(/http:\/\/[\w.]+:(\d+)/.exec(line)[1]), children: [child], startTime, stop: () => stop(child) };
}

/** The first of these programs that is installed. */
export function installed(...names) {
  return names.find((name) => PATH.split(delimiter).some((folder) => existsSync(join(folder, name))));
}

/** All that a program prints, be it that it fails: wrk tells its version and then does. */
export function outputOf(command, ...args) {
  const { stdout, stderr } = spawnSync(command, args, { env: { PATH }, encoding: 'utf8' });
  return `${stdout}${stderr}`;
}

export function versionOf(command, ...args) {
  return /\d+\.\d+[.\d]*/.exec(outputOf(command, ...args))?.[0] ?? 'of an unknown version';
}

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

export async function until(what, isSo) {
  for (const deadline = performance.now() + 10_000; !(await isSo()); await sleep(10)) {
    if (performance.now() > deadline) throw new Error(`not within 10 s: ${what}`);
  }
}

/** What these processes and all that they have started have used of the processors so far, in seconds. */
export function processorTime(children) {
  return sum(family(children), ({ time }) => time);
}

/** What these processes and all that they have started hold in memory, in MB of 1,000,000 bytes. */
export function resident(children) {
  return sum(family(children), ({ memory }) => memory());
}

function family(children) {
  const all = ON_LINUX ? fromProc() : fromPs();
  const pids = new Set(children.map(({ pid }) => pid));
  // A child mostly comes after its parent, but process ids wrap around.
  for (let size = 0; size < pids.size;) {
    size = pids.size;
    for (const { pid, parent } of all) if (pids.has(parent)) pids.add(pid);
  }
  return all.filter(({ pid }) => pids.has(pid));
}

function fromProc() {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.flatMap((pid) => {
    try {
      // The name, in brackets, may hold anything. The rest begins with field 3 of proc(5), the state.
      const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
        .replace(/^.*\) /s, '')
        .split(' ');
      const [parent, user, system] = [fields[1], fields[11], fields[12]].map(Number);
      const memory = () => Number(/VmRSS:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0);
      return { pid: Number(pid), parent, time: (user + system) / TICKS_PER_SECOND, memory: () => memory() * 1.024e-3 };
    } catch {
      return []; // It has just ended.
    }
  });
}

function fromPs() {
  const lines = execFileSync('ps', ['-axo', 'pid=,ppid=,rss=,time=']).toString().trim().split('\n');
  return lines.map((line) => {
    const [pid, parent, kilobytes, clock] = line.trim().split(/\s+/);
    const time = clock.split(':').reduce((seconds, part) => seconds * 60 + Number(part), 0);
    return { pid: Number(pid), parent: Number(parent), time, memory: () => Number(kilobytes) * 1.024e-3 };
  });
}

function sum(list, valueOf) {
  return list.reduce((total, item) => total + valueOf(item), 0);
}
