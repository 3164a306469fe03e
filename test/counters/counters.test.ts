import { setTimeout as sleep } from 'node:timers/promises';
import { test, type Test } from 'tap';
import type { Counters } from '../../src/counters/counters.ts';
import { MemcachedCounters } from '../../src/counters/memcached.ts';
import { MemoryCounters } from '../../src/counters/memory.ts';
import { draw, openCounters, soon } from '../support/counters.ts';
import { startMemcached } from '../support/memcached.ts';
import { until } from '../../tools/processes.ts';

/** The least that is allowed, in seconds. */
const SHORT = 2;

/** One session, by its key. */
class Session {
  key = draw().key;
  private readonly counters: Counters;

  constructor(counters: Counters) {
    this.counters = counters;
  }

  async start(): Promise<void> {
    this.key = (await this.counters.start(draw, soon())).key;
  }

  increment(): Promise<number | undefined> {
    return this.counters.increment(this.key, soon());
  }

  end(): Promise<void> {
    return this.counters.end(this.key, soon());
  }
}

type Make = (t: Test, ttl?: number) => Promise<Counters>;

const kinds: [string, Make][] = [
  [
    'in memory',
    (t, ttl = 60) => {
      const counters = new MemoryCounters(ttl);
      counters.open();
      t.teardown(() => {
        counters.close();
      });
      return Promise.resolve(counters);
    },
  ],
  ['in Memcached', async (t, ttl) => openCounters(t, [(await startMemcached(t)).port], ttl)],
  [
    'in two Memcacheds',
    async (t, ttl) => openCounters(t, [(await startMemcached(t)).port, (await startMemcached(t)).port], ttl),
  ],
];

for (const [kind, make] of kinds) {
  await test(`counts ${kind}`, async (t) => {
    const counters = await make(t);

    await t.test('a session starts at 1 and counts by ones, under the last key drawn', async (t) => {
      for (let n = 0; n < 20; n += 1) {
        const session = new Session(counters);
        await session.start();
        const counts: unknown[] = [];
        for (let count = 2; count <= 11; count += 1) counts.push(await session.increment());
        t.strictSame(counts, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
      }
    });

    await t.test('a session that does not exist is not made by asking for it', async (t) => {
      const session = new Session(counters);
      t.equal(await session.increment(), undefined);
      t.equal(await session.increment(), undefined);
    });

    await t.test('a session that has ended is gone, and to end it again is well', async (t) => {
      const session = new Session(counters);
      await session.end();
      await session.start();
      await session.end();
      t.equal(await session.increment(), undefined);
      await session.end();
    });

    await t.test('of a thousand at once each gets a number of its own', async (t) => {
      const [session, bystander] = [new Session(counters), new Session(counters)];
      await Promise.all([session.start(), bystander.start()]);
      const counts = await Promise.all(Array.from({ length: 1000 }, () => session.increment()));
      const each = Array.from({ length: 1000 }, (_, index) => index + 2);
      t.strictSame(counts, each, 'in the order in which they asked');
      t.equal(await bystander.increment(), 2, 'and nobody else notices');
    });

    await t.test('two that start at once are two', async (t) => {
      const sessions = Array.from({ length: 100 }, () => new Session(counters));
      await Promise.all(sessions.map((session) => session.start()));
      t.equal(new Set(sessions.map(({ key }) => key)).size, 100);
      t.ok((await Promise.all(sessions.map((session) => session.increment()))).every((count) => count === 2));
    });
  });
}

await test('a session in use outlives its time to live, and an unused one ends', async (t) => {
  const check = async ([kind, make]: (typeof kinds)[number]): Promise<void> => {
    const counters = await make(t, SHORT);
    const [used, unused, ended] = [new Session(counters), new Session(counters), new Session(counters)];
    await Promise.all([used.start(), unused.start(), ended.start()]);
    const began = performance.now();
    let count = 1;
    while (performance.now() - began < 2 * SHORT * 1000) {
      await sleep(250);
      t.equal(await used.increment(), (count += 1), `${kind} after ${(performance.now() - began).toFixed()} ms`);
    }
    t.equal(await unused.increment(), undefined, kind);
    await until('the session that was in use ends too', async () => {
      await sleep(SHORT * 1000 + 500);
      return (await used.increment()) === undefined;
    });
  };
  await Promise.all(kinds.map(check));
});

await test('in memory a session that has ended takes no memory', async (t) => {
  const counters = new MemoryCounters(SHORT);
  counters.open();
  t.teardown(() => {
    counters.close();
  });
  for (let n = 0; n < 1000; n += 1) await counters.start(draw);
  t.equal(counters.sessions.size, 1000);
  const last = await counters.start(draw);
  await counters.end(last.key);
  t.equal(counters.sessions.size, 1000);
  const began = performance.now();
  await until('all are forgotten, though nobody asks', () => counters.sessions.size === 0);
  t.ok(performance.now() - began > SHORT * 1000 - 100, 'not before their time');
});

await test('in Memcached a session takes an item of the 96-byte slab class', async (t) => {
  const memcached = await startMemcached(t);
  const counters = openCounters(t, [memcached.port], 86_400);
  let last = new Session(counters);
  for (let n = 0; n < 100; n += 1) {
    const sessions = Array.from({ length: 1000 }, () => (last = new Session(counters)));
    await Promise.all(sessions.map((session) => session.start()));
  }
  const [items, slabs, all] = [await memcached.stats('items'), await memcached.stats('slabs'), await memcached.stats()];
  const classes = [...items].filter(([name]) => name.endsWith(':number')).map(([name]) => name.split(':')[1] ?? '');
  t.strictSame(
    classes.map((slab) => slabs.get(`${slab}:chunk_size`)),
    ['96'],
    'no other class holds any',
  );
  t.equal(all.get('curr_items'), '100000');
  t.comment(`${Number(all.get('bytes')) / 100_000} bytes each, in chunks of 96`);
  // 59 bytes, the key and its digits: a count of five digits still fits.
  await memcached.ask(`set ${last.key} 0 86400 5\r\n99998`);
  t.equal(await last.increment(), 99_999);
  t.equal((await memcached.stats('items')).size, items.size);
});

await test('in Memcached a count goes beyond 32 bits', async (t) => {
  const memcached = await startMemcached(t);
  const session = new Session(openCounters(t, [memcached.port]));
  await session.start();
  for (const count of [2 ** 31 - 1, 2 ** 32 - 1, 2 ** 40]) {
    await memcached.ask(`set ${session.key} 0 60 ${String(count).length}\r\n${count}`);
    t.equal(await session.increment(), count + 1);
    t.equal(await session.increment(), count + 2);
  }
});

await test('two Memcacheds share the sessions between them', async (t) => {
  const memcacheds = [await startMemcached(t), await startMemcached(t)];
  const ports = memcacheds.map(({ port }) => port);
  const [one, other] = [openCounters(t, ports), openCounters(t, ports)];
  const sessions = Array.from({ length: 100 }, () => new Session(one));
  await Promise.all(sessions.map((session) => session.start()));
  for (const { key } of sessions)
    t.equal(await other.increment(key, soon()), 2, 'and every dyno looks in the same one');
  for (const memcached of memcacheds) t.ok(Number((await memcached.stats()).get('curr_items')) > 20);
});

await test('closing lets go of the connection', async (t) => {
  const memcached = await startMemcached(t);
  const counters = openCounters(t, [memcached.port]);
  await new Session(counters).start();
  const connections = async (): Promise<number> => Number((await memcached.stats()).get('curr_connections'));
  const open = await connections();
  // With commands under way, too.
  const asked = Promise.allSettled(Array.from({ length: 10 }, () => new Session(counters).start()));
  counters.close();
  await asked;
  await until('it is gone', async () => (await connections()) < open);
  await sleep(300);
  t.ok((await connections()) < open, 'and does not come back');
  counters.close();
});

await test('the log is told where the counts live, and no login', (t) => {
  const server = { host: 'mc.example', port: 11_211, username: 'somebody', password: 'hunter2' };
  const { place } = new MemcachedCounters([server, { ...server, host: 'mc2.example' }], 60);
  t.match(place, /mc\.example:11211.*mc2\.example:11211/);
  t.notMatch(place, /hunter2|somebody/);
  t.match(new MemoryCounters(60).place, /memory/);
  t.end();
});
