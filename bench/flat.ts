import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createConnection } from 'node:net';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { find, flags, startContender, startDistantStores } from './contenders.ts';
import { connected, Visitor } from './load.ts';
import { memoryDuring, type Bench } from './measures.ts';

/** In ms. */
const ROUND_TRIP = 10;
/** How many visitors of each kind there are at a time. */
const [KEPT, FRESH, SLOW] = [32, 16, 4];
/** What a slow reader asks for before it reads: 8 MB, of which the system's buffers hold half, the web process the rest. */
const PAGES = 500;

/** Measures what many sessions leave behind in one process and in memcached, and how they delay the event loop. */
export async function holdSessions({ plan, answers, figures, progress }: Bench): Promise<void> {
  const stores = await startDistantStores(ROUND_TRIP, 25);
  const watched = { ...find('hello-n'), flags: [...flags, '--import', import.meta.resolve('./contenders/delay.js')] };
  const { port, children, stop } = await startContender(watched, stores, answers);
  const [child] = children as [ChildProcess];
  const before = await descriptors(child);
  let wrong = 0;
  // The memory at a tenth of the way is that within the second tenth.
  const memory: number[] = [];
  for (const tenths of [1, 1, 7, 1]) {
    progress(`${plan.sessions} sessions, the next ${tenths} tenths of them`);
    memory.push(await memoryDuring(children, async () => (wrong += await visit(port, (plan.sessions * tenths) / 10))));
  }
  const [, early = NaN, , late = NaN] = memory;
  figures.add('hello-n', { early, late, wrong, descriptors: (await descriptors(child)) - before });
  const stats = await stores.memcached.stats();
  const [items = 0, bytes = 0] = ['curr_items', 'bytes'].map((name) => Number(stats.get(name)));
  figures.add('hello-n', { bytes: bytes / items, ...(stats.get('evictions') !== '0' && { sessions: items }) });
  const delays = text(child.stdio[3] as Readable);
  await stop();
  figures.add('event loop', JSON.parse(await delays) as Record<string, number>);
  await stores.stop();
}

/** Starts at least so many sessions, by all kinds of visitors at once. Gives how many requests went wrong. */
async function visit(port: number, sessions: number): Promise<number> {
  let [left, wrong] = [sessions, 0];
  const visitors = (length: number): Visitor[] => Array.from({ length }, () => new Visitor(port));
  const repeat = async (take: number, act: () => Promise<number>): Promise<void> => {
    while (left > 0) {
      left -= take;
      const more = await act();
      wrong += more;
    }
  };
  const [kept, fresh] = [visitors(KEPT), visitors(FRESH)];
  await Promise.all([
    connected(kept, () => Promise.all(kept.map((visitor) => repeat(1, () => greetTwice(visitor))))),
    ...fresh.map((visitor) => repeat(1, () => connected([visitor], () => greetTwice(visitor)))),
    ...Array.from({ length: SLOW }, () => repeat(PAGES, () => readLate(port))),
  ]);
  return wrong;
}

/** Starts a session, as a browser without a cookie does, and greets once more in it. */
async function greetTwice(visitor: Visitor): Promise<number> {
  visitor.cookie = '';
  await visitor.ask();
  await visitor.ask();
  return visitor.count === 2 ? 0 : 1;
}

/** Asks for many pages over one connection, each in a session of its own, and reads none before all are asked for. */
async function readLate(port: number): Promise<number> {
  const socket = createConnection({ port, host: '127.0.0.1' });
  await once(socket, 'connect');
  for (let page = 1; page <= PAGES; page++) {
    const connection = page < PAGES ? 'keep-alive' : 'close';
    socket.write(`GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\nConnection: ${connection}\r\n\r\n`);
    await sleep(2);
  }
  return PAGES - (await text(socket)).split('HTTP/1.1 200 ').length + 1;
}

/** The fewest that a process has open within a second, as it closes a connection a moment after the visitor left. */
async function descriptors({ pid }: ChildProcess): Promise<number> {
  let fewest = Infinity;
  for (const end = performance.now() + 1000; performance.now() < end; await sleep(20)) {
    fewest = Math.min(fewest, readdirSync(`/proc/${pid}/fd`).length);
  }
  return fewest;
}
