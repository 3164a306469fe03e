import fastify from 'fastify';
import { test, type Test } from 'tap';
import type { Counters } from '../../src/counters/counters.ts';
import { MemcachedCounters } from '../../src/counters/memcached.ts';
import { MemoryCounters } from '../../src/counters/memory.ts';
import { session } from '../../src/session.ts';
import { freePort, until } from '../../tools/processes.ts';
import { CountedSession, drawKey, movableClock, openCounters, soon } from '../support/counters.ts';
import { startMemcached, type Memcached } from '../support/memcached.ts';

const QUIET = { info: () => undefined, warn: () => undefined };

function openInMemory(t: Test, ttl = 60): MemoryCounters {
  const counters = new MemoryCounters(ttl);
  counters.open();
  t.teardown(() => counters.close());
  return counters;
}

async function started(counters: Counters, howMany: number): Promise<CountedSession[]> {
  const sessions = Array.from({ length: howMany }, () => new CountedSession(counters));
  await Promise.all(sessions.map((each) => each.start()));
  return sessions;
}

/** Gives what waits until a memcached has so many connections more than now. */
async function connections(memcached: Memcached): Promise<(howMany: number) => Promise<void>> {
  const current = async (): Promise<number> => Number((await memcached.stats()).get('curr_connections'));
  // A connection that was closed may still be counted for a moment.
  let none = Infinity;
  for (let n = 0; n < 10; n += 1) none = Math.min(none, await current());
  return (howMany) => until(`there are ${howMany} connections`, async () => (await current()) === none + howMany);
}

const kinds: [string, (t: Test) => Promise<Counters>][] = [
  ['in memory', async (t) => openInMemory(t)],
  ['in Memcached', async (t) => openCounters(t, [(await startMemcached(t)).port])],
  ['in two Memcacheds', async (t) => openCounters(t, [(await startMemcached(t)).port, (await startMemcached(t)).port])],
];

for (const [kind, open] of kinds) {
  await test(`counts ${kind}`, async (t) => {
    const counters = await open(t);

    await t.test('a session starts at 1 and counts by ones, under the last key drawn', async (t) => {
      for (const one of await started(counters, 20))
        for (let count = 2; count <= 11; count += 1) t.equal(await one.increment(), count);
    });

    await t.test('a session that does not exist is not made by asking for it', async (t) => {
      const unknown = new CountedSession(counters);
      t.equal(await unknown.increment(), undefined);
      t.equal(await unknown.increment(), undefined);
    });

    await t.test('a session that has ended is gone, and to end it again is well', async (t) => {
      const one = new CountedSession(counters);
      await one.end();
      await one.start();
      await one.end();
      t.equal(await one.increment(), undefined);
      await one.end();
    });

    await t.test('of a thousand at once each gets a number of its own', async (t) => {
      const [one, bystander] = (await started(counters, 2)) as [CountedSession, CountedSession];
      const counts = await Promise.all(Array.from({ length: 1000 }, () => one.increment()));
      const each = Array.from({ length: 1000 }, (_, index) => index + 2);
      t.strictSame(counts, each, 'in the order in which they asked');
      t.equal(await bystander.increment(), 2, 'and nobody else notices');
    });

    await t.test('a hundred that start at once are a hundred', async (t) => {
      const sessions = await started(counters, 100);
      t.equal(new Set(sessions.map(({ key }) => key)).size, 100);
      t.strictSame(new Set(await Promise.all(sessions.map((each) => each.increment()))), new Set([2]));
    });
  });
}

await test('in memory a session in use outlives its time to live, and an unused one ends', async (t) => {
  const counters = openInMemory(t, 10);
  const forward = movableClock(t);
  const [used, unused] = (await started(counters, 2)) as [CountedSession, CountedSession];
  for (const count of [2, 3, 4]) {
    forward(9900);
    t.equal(await used.increment(), count);
  }
  t.equal(await unused.increment(), undefined);
  forward(10_001);
  t.equal(await used.increment(), undefined, 'once it is no longer in use it ends as well');
});

await test('in memory a session that has ended takes no memory', async (t) => {
  const counters = openInMemory(t, 10);
  const forward = movableClock(t);
  const [last] = (await started(counters, 1000)).slice(-1);
  await last?.end();
  t.equal(counters.sessions.size, 999);
  forward(10_001);
  await started(counters, 1);
  t.equal(counters.sessions.size, 1, 'those that have expired are forgotten when the next one starts');
});

await test('in Memcached each greeting renews the time to live', async (t) => {
  const memcached = await startMemcached(t);
  const [one] = (await started(openCounters(t, [memcached.port], { ttl: 100 }), 1)) as [CountedSession];
  // The last command is there for its answer, with which `ask` ends.
  const ttl = async (): Promise<number> => {
    return Number(/t(\d+)/.exec(await memcached.ask(`mg ${one.key} t\r\nverbosity 0`))?.[1]);
  };
  t.ok(Math.abs((await ttl()) - 99) <= 1);
  await memcached.ask(`touch ${one.key} 5\r\nverbosity 0`);
  t.ok((await ttl()) <= 5);
  t.equal(await one.increment(), 2);
  await until('its time to live is as at first', async () => Math.abs((await ttl()) - 99) <= 1);
  await memcached.ask(`touch ${one.key} -1\r\nverbosity 0`);
  t.equal(await one.increment(), undefined, 'when it is over, the session ends');
});

await test('in Memcached a session takes an item of the 96-byte slab class, and a count goes beyond 32 bits', async (t) => {
  const memcached = await startMemcached(t);
  const [last] = (await started(openCounters(t, [memcached.port], { ttl: 86_400 }), 1000)).slice(-1);
  const [items, slabs] = [await memcached.stats('items'), await memcached.stats('slabs')];
  const classes = [...items].filter(([name]) => name.endsWith(':number'));
  const held = classes.map(([name, number]) => [slabs.get(`${name.split(':')[1]}:chunk_size`), number]);
  t.strictSame(held, [['96', '1000']], 'no other class holds any');
  for (const count of [99_998, 2 ** 31 - 1, 2 ** 32 - 1, 2 ** 40]) {
    await memcached.ask(`set ${last?.key} 0 60 ${String(count).length}\r\n${count}`);
    t.equal(await last?.increment(), count + 1);
    if (count === 99_998) t.equal((await memcached.stats('items')).size, items.size, 'five digits still fit');
    t.equal(await last?.increment(), count + 2);
  }
});

await test('two Memcacheds share the sessions between them', async (t) => {
  const memcacheds = [await startMemcached(t), await startMemcached(t)];
  const ports = memcacheds.map(({ port }) => port);
  const [one, other] = [openCounters(t, ports), openCounters(t, ports)];
  for (const { key } of await started(one, 100))
    t.equal(await other.increment(key, soon()), 2, 'and every dyno looks in the same one');
  for (const memcached of memcacheds) t.ok(Number((await memcached.stats()).get('curr_items')) > 20);
});

await test('two apps share counters over one connection, until the last of them has closed', async (t) => {
  const memcached = await startMemcached(t);
  const connected = await connections(memcached);
  const counters = new MemcachedCounters([{ host: '127.0.0.1', port: memcached.port }], 60);
  // The second time they were closed before, and the apps close in the other order.
  for (const isReversed of [false, true]) {
    const apps = [fastify(), fastify()];
    for (const app of apps) {
      app.register(session, { counters });
      app.get('/', async (request) => request.session.increment());
      t.equal((await app.inject('/')).body, '1');
    }
    await connected(1);
    const [first, last] = isReversed ? apps.reverse() : apps;
    await first?.close();
    t.equal((await last?.inject('/'))?.body, '1');
    await connected(1);
    await last?.close();
    await connected(0);
    await t.rejects(new CountedSession(counters).start(), { code: 'ERR_COUNTERS_UNAVAILABLE' });
  }
});

await test('open and close may come in any order, and with commands under way', async (t) => {
  const memcached = await startMemcached(t);
  const connected = await connections(memcached);
  const counters = new MemcachedCounters([{ host: '127.0.0.1', port: memcached.port }], 60);
  const one = new CountedSession(counters);
  const resources = (): number => process.getActiveResourcesInfo().length;
  const before = resources();
  counters.close();
  await t.rejects(one.increment(), { code: 'ERR_COUNTERS_UNAVAILABLE' }, 'closed without having been opened');
  for (let time = 0; time < 20; time += 1) {
    counters.open(QUIET);
    if (time % 2) counters.open(QUIET);
    await one.start();
    if (time % 3 === 0) await memcached.stall();
    const asked = Promise.allSettled(Array.from({ length: 10 }, () => one.increment()));
    counters.close();
    if (time % 2) counters.close();
    if (time % 5 === 0) counters.close();
    t.strictSame(new Set((await asked).map(({ status }) => status)), new Set(['rejected']));
    memcached.resume();
  }
  // So nothing can come back.
  await until('no timer and no socket is left', () => resources() <= before);
  await connected(0);
});

await test('the log of a user who has closed hears nothing more', async (t) => {
  const counters = new MemcachedCounters([{ host: '127.0.0.1', port: await freePort() }], 60);
  const logs: string[][] = [[], []];
  for (const log of logs) {
    counters.open({ ...QUIET, warn: (line) => log.push(line) });
    await until('the log says that it is not available', () => log.length > 0);
    counters.close();
  }
  for (const log of logs) t.equal(log.length, 1);
});

await test('the log is told where the counts live, and no login', async (t) => {
  const server = { host: 'mc.example', port: 11_211, username: 'somebody', password: 'hunter2' };
  const { place } = new MemcachedCounters([server, { ...server, host: 'mc2.example' }], 60);
  t.equal(place, 'Memcached at mc.example:11211, Memcached at mc2.example:11211');
  t.notMatch(place, /hunter2|somebody/);
  t.match(new MemoryCounters(60).place, /memory/);
});

await test('options that cannot work are refused', async (t) => {
  const server = { host: 'store.example', port: 11_211 };
  for (const ttl of [0, -1, 1.5, NaN, Infinity, 2_592_001]) {
    t.throws(() => new MemcachedCounters([server], ttl), { name: 'RangeError', message: /time to live is/ });
    t.throws(() => new MemoryCounters(ttl), { name: 'RangeError' });
  }
  for (const ttl of [1, 2_592_000]) t.doesNotThrow(() => new MemcachedCounters([server], ttl));
  for (const port of [1, 65_535]) t.doesNotThrow(() => new MemcachedCounters([{ ...server, port }], 60));
  t.throws(() => new MemcachedCounters([], 60), { message: /at least one/ });
  for (const port of [0, 65_536, NaN])
    t.throws(() => new MemcachedCounters([{ ...server, port }], 60), {
      message: `The port of store.example is ${port}`,
    });
  t.throws(() => new MemcachedCounters([{ ...server, host: '' }], 60), { name: 'RangeError', message: /needs a host/ });
  for (const half of [{ username: 'somebody' }, { password: 'hunter2' }])
    t.throws(() => new MemcachedCounters([{ ...server, ...half }], 60), { name: 'RangeError', message: /needs both/ });
});

await test('a key that would be misread on the wire is refused', async (t) => {
  const counters = new MemcachedCounters([{ host: 'store.example', port: 11_211 }], 60);
  for (const key of ['', 'k'.repeat(31), 'k'.repeat(33), '\u00e4'.repeat(32), ' '.repeat(32)]) {
    const refusal = { name: 'RangeError', message: 'A key is 32 visible ASCII characters' };
    await t.rejects(counters.increment(key, soon()), refusal);
    await t.rejects(counters.end(key, soon()), refusal);
    await t.rejects(
      counters.start(() => key, soon()),
      refusal,
    );
  }
});

await test('a fault of its own is not taken for a store that is unavailable', async (t) => {
  const server = { host: 'store.example', port: 11_211 };
  const counters = new MemcachedCounters([server, server], 60);
  const deadline = soon();
  const now = performance.now.bind(performance);
  let isFaulty = false;
  t.intercept(performance, 'now', {
    value: () => {
      if (!isFaulty) return now();
      isFaulty = false;
      throw new Error('a fault');
    },
  });
  isFaulty = true;
  await t.rejects(counters.increment(drawKey(), deadline), { name: 'Error', message: 'a fault' });
  isFaulty = true;
  await t.rejects(counters.start(drawKey, deadline), { name: 'Error', message: 'a fault' });
});
