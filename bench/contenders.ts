import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { startMemcached } from '../tools/memcached.ts';
import { freePort, listens, start, stop, until } from '../tools/processes.ts';
import { startPhp } from './contenders/php.ts';
import { Distance } from './distance.ts';
import { askOnce, closedLoop, Visitor } from './load.ts';
import { php, redis } from './versions.ts';

export interface Contender {
  /** For `--only`. */
  readonly id: string;
  readonly name: string;
  /** A Node.js program; without it, PHP. */
  readonly file?: string;
  readonly store?: 'memcached' | 'redis';
  readonly answers?: keyof Answers;
  /** Instead of those that all others get. */
  readonly flags?: readonly string[];
}

export interface Running {
  readonly port: number;
  readonly children: readonly ChildProcess[];
  /** From its start until it listens, in ms. */
  readonly startTime: number;
  readonly stop: () => Promise<unknown>;
}

interface Store {
  readonly port: number;
  readonly child: ChildProcess;
}

export type Stores = Readonly<Record<'memcached' | 'redis', Store>>;

interface Answer {
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** What hello-n answers, and so do the routes without a session. */
export type Answers = Readonly<Record<'text' | 'page', Answer>>;

const OURS = '../../dist/server.js';
const FOLDER = join(import.meta.dirname, 'contenders');
/** V8 sizes its heap by the memory there is. This makes it choose as in the 512 MB of a Standard-1X dyno. */
const DYNO_HEAP = '--max-heap-size=259';
/** For all Node.js contenders alike: a dyno's heap, and what the Procfile sets. */
export const flags = [
  DYNO_HEAP,
  ...(readFileSync(join(import.meta.dirname, '../Procfile'), 'utf8').match(/--\S+/g) ?? []),
];
const defaultYoung = flags.filter((flag) => !flag.startsWith('--max-semi-space-size'));
/** What Node.js adds, and what a new visitor gets. */
const NOT_COPIED = /^(date|connection|keep-alive|content-length|set-cookie)$/;

const all: readonly Contender[] = [
  { id: 'node-http', name: 'node:http, no session', file: 'node-http.js' },
  { id: 'bare', name: 'bare Fastify, no session', file: 'bare.js' },
  { id: 'hello-n', name: 'hello-n', file: OURS, store: 'memcached' },
  { id: 'small-heap', name: "hello-n, V8's choice", file: OURS, store: 'memcached', flags: defaultYoung },
  { id: 'bare-page', name: 'bare Fastify, the same page', file: 'bare.js', answers: 'page' },
  { id: 'hello-n-page', name: 'hello-n, the page', file: OURS, store: 'memcached', answers: 'page' },
  { id: 'plain-memjs', name: 'Fastify with plain memjs', file: 'plain-memjs.js', store: 'memcached' },
  { id: 'fastify-session-memjs', name: '@fastify/session, memjs', file: 'fastify-session.js', store: 'memcached' },
  { id: 'fastify-session-redis', name: '@fastify/session, Redis', file: 'fastify-session.js', store: 'redis' },
  { id: 'express-session-memjs', name: 'express-session, memjs', file: 'express-session.js', store: 'memcached' },
  { id: 'express-session-redis', name: 'express-session, Redis', file: 'express-session.js', store: 'redis' },
  { id: 'php', name: 'PHP with nginx', store: 'memcached' },
];
/** Those for which everything is installed. */
export const contenders = all.filter(({ file, store }) => (file ? (store === 'redis' ? redis : true) : php));

export function find(id: string): Contender {
  const found = contenders.find((contender) => contender.id === id);
  if (!found) throw new Error(`there is no contender ${id}, only ${contenders.map((each) => each.id).join(', ')}`);
  return found;
}

/** Starts a Node.js program on a free port. */
async function startNode(contender: Contender, stores: Stores, recorded?: Answers) {
  const { file = '', store, answers = 'text' } = contender;
  const port = await freePort();
  const began = performance.now();
  const child = start(process.execPath, [...(contender.flags ?? flags), join(FOLDER, file)], {
    env: {
      ...{ NODE_ENV: 'production', HOST: '127.0.0.1', PORT: `${port}`, DYNO: 'web.1' },
      ...(store === 'memcached' && { MEMCACHE_SERVERS: `127.0.0.1:${stores.memcached.port}` }),
      ...(store === 'redis' && { REDIS_URL: `redis://127.0.0.1:${stores.redis.port}` }),
      ...(!store && { ANSWER: JSON.stringify(recorded?.[answers]) }),
    },
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  });
  await listens(child, port);
  return { port, children: [child], startTime: performance.now() - began, stop: () => stop(child) };
}

/** Starts a contender and waits until it greets. */
export async function startContender(contender: Contender, stores: Stores, recorded: Answers): Promise<Running> {
  const running = await (contender.file ? startNode(contender, stores, recorded) : startPhp(stores.memcached.port));
  const visitor = await firstVisitor(running.port, contender.answers);
  if (contender.store || isDeepStrictEqual(answerOf(visitor), recorded[contender.answers ?? 'text'])) return running;
  throw new Error(`${contender.name} answers something else than hello-n`);
}

async function firstVisitor(port: number, answers?: keyof Answers): Promise<Visitor> {
  const visitor = new Visitor(port, answers);
  await until('a visitor is greeted', async () => {
    await askOnce([visitor]);
    return visitor.answer.startsWith('HTTP/1.1 200 ');
  });
  return visitor;
}

/** What hello-n answers to visitors with a count of four digits. */
export async function recordAnswers(): Promise<Answers> {
  const stores = await startStores();
  const ours = await startNode(find('hello-n'), stores);
  const record = async (answers: keyof Answers): Promise<Answer> => {
    const visitor = await firstVisitor(ours.port, answers);
    await closedLoop([visitor], 1233);
    return answerOf(visitor);
  };
  const recorded = { text: await record('text'), page: await record('page') };
  await Promise.all([ours.stop(), stores.stop()]);
  return recorded;
}

function answerOf({ headers, body }: Visitor): Answer {
  return { headers: Object.fromEntries(headers.filter(([name]) => !NOT_COPIED.test(name))), body };
}

/** Starts a memcached and, if it is installed, a Redis that writes nothing to the disk. Both are empty. */
export async function startStores(megabytes = 64) {
  const memcached = await startMemcached({ args: ['-c', '4096', '-m', String(megabytes)] });
  if (!redis) return { memcached, redis: memcached, stop: () => memcached.stop() };
  const port = await freePort();
  const child = start('redis-server', ['--bind', '127.0.0.1', '--port', String(port), '--save', ''], {
    stdio: 'ignore',
  });
  await listens(child, port);
  return { memcached, redis: { port, child }, stop: () => Promise.all([memcached.stop(), stop(child)]) };
}

/** The same, with each store behind a proxy at a distance. */
export async function startDistantStores(roundTrip: number, megabytes?: number) {
  const { memcached, redis, stop } = await startStores(megabytes);
  const proxies = [await Distance.to(memcached.port, roundTrip), await Distance.to(redis.port, roundTrip)] as const;
  return {
    memcached: { ...memcached, port: proxies[0].port },
    redis: { ...redis, port: proxies[1].port },
    stop() {
      for (const proxy of proxies) proxy.close();
      return stop();
    },
  };
}
