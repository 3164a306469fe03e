import { setTimeout as sleep } from 'node:timers/promises';
import tap, { type Test } from 'tap';
import { MemcachedCounters } from '../../src/counters/memcached.ts';
import { MemoryCounters } from '../../src/counters/memory.ts';
import { draw, openCounters, soon } from '../support/counters.ts';
import { startMemcached, type Memcached } from '../support/memcached.ts';
import { until } from '../../tools/processes.ts';
import { startProxy, type Proxy } from '../support/proxy.ts';
import { AT_ONCE, brokenPromises, NOISE, Visitor, type Greeting } from '../support/visitors.ts';
import { startWeb, UNCOVERED } from '../support/web.ts';

// Most of these tests wait for a server's silence to have lasted, so all run at once.
tap.jobs = 6;
const test = (name: string, act: (t: Test) => unknown) => tap.test(name, { buffered: true }, act);

for (const [fault, begin, end] of [
  ['dead', (it: Memcached) => it.kill(), (it: Memcached) => it.restart()],
  ['silent', (it: Memcached) => it.stall(), (it: Memcached) => it.resume()],
  [
    'stuck behind its front end',
    (_: Memcached, it: Proxy) => it.set('stuck'),
    (_: Memcached, it: Proxy) => it.set('pass'),
  ],
] as const) {
  void test(`one server of two ${fault}`, async (t) => {
    const [one, two] = [await startMemcached(t), await startMemcached(t)];
    const proxy = await startProxy(t, one.port);
    const web = await startWeb(t, { ...UNCOVERED, DYNO: 'web.1', MEMCACHE_SERVERS: `${proxy.address},${two.address}` });
    const visitors = Array.from({ length: 20 }, () => new Visitor(web.url));
    t.teardown(() => Promise.all(visitors.map((visitor) => visitor.stop())));
    for (const visitor of visitors) await visitor.ask();
    await begin(one, proxy);
    for (const visitor of visitors) visitor.walk(20);
    const began = performance.now();

    // Newcomers, all the while.
    const newcomers: Greeting[] = [];
    while (performance.now() < began + 4000) {
      const newcomer = new Visitor(web.url);
      newcomers.push(await newcomer.ask());
      await newcomer.stop();
    }
    t.strictSame(
      newcomers.filter(({ count }) => count !== 1),
      [],
      'new sessions are all well',
    );
    const touched = visitors.filter(({ greetings }) => greetings.at(-1)?.status === 503);
    t.ok(touched.length > 0 && touched.length < visitors.length, `${touched.length} sessions are on it`);
    const waits = touched.map(({ greetings }) => greetings.filter(({ took }) => took > AT_ONCE).length);
    t.ok(Math.max(...waits) <= 2, 'only the first few requests wait at all');

    await until('they start again on the other', () =>
      touched.every(({ greetings }) => greetings.at(-1)?.status === 200),
    );
    t.ok(performance.now() - began < 6000 + NOISE);
    await end(one, proxy);
    await until('newcomers are on it again, and it is back in the log', async () => {
      const newcomer = new Visitor(web.url);
      await newcomer.ask();
      await newcomer.stop();
      return web.log.some((line) => line.includes('is available again'));
    });
    const back = performance.now();
    await until('all have gone on', () => visitors.every(({ greetings }) => (greetings.at(-1)?.at ?? 0) > back + 500));
    await Promise.all(visitors.map((visitor) => visitor.stop()));
    for (const visitor of visitors) {
      const { greetings } = visitor;
      const isTouched = touched.includes(visitor);
      t.strictSame(brokenPromises(visitor), []);
      t.equal(greetings.filter(({ isNew }) => isNew).length, isTouched ? 2 : 1, 'nobody starts again a second time');
      if (!isTouched)
        t.strictSame(
          greetings.filter(({ status }) => status !== 200),
          [],
          'the other goes on undisturbed',
        );
    }
  });
}

void test('both servers dead for longer than the silence that one may keep', async (t) => {
  const servers = [await startMemcached(t), await startMemcached(t)];
  const counters = openCounters(
    t,
    servers.map(({ port }) => port),
  );
  const { key } = await counters.start(draw, soon());
  for (const server of servers) await server.kill();
  const killed = performance.now();
  await until('it has been long', async () => {
    await t.rejects(counters.increment(key, soon()), { message: /not available/ });
    await t.rejects(counters.start(draw, soon()), { message: /not available/ });
    await sleep(500);
    return performance.now() - killed > 6000;
  });
  for (const server of servers) await server.restart();
  await until('all is well', () =>
    counters.start(draw, soon()).then(
      () => true,
      () => false,
    ),
  );
  t.equal(await counters.increment(key, soon()), undefined);
});

void test('two slow servers: newcomers and all others are greeted', async (t) => {
  const proxies = [
    await startProxy(t, (await startMemcached(t)).port),
    await startProxy(t, (await startMemcached(t)).port),
  ];
  const counters = openCounters(
    t,
    proxies.map(({ port }) => port),
  );
  const known = await Promise.all(Array.from({ length: 10 }, () => counters.start(draw, soon())));
  for (const { delay } of proxies) delay.down = 550;
  for (let count = 2; count < 5; count += 1) {
    const newcomer = counters.start(draw, soon());
    const counts = await Promise.all(known.map(({ key }) => counters.increment(key, soon())));
    t.strictSame(new Set(counts), new Set([count]));
    t.equal(await counters.increment((await newcomer).key, soon()), 2);
  }
  t.equal(proxies[0]?.accepted, 1, 'over the same connections');
});

void test('a session is ended on the server where its count lives, or not at all', async (t) => {
  const servers = [await startMemcached(t), await startMemcached(t)];
  const counters = openCounters(
    t,
    servers.map(({ port }) => port),
  );
  const sessions = await Promise.all(Array.from({ length: 20 }, () => counters.start(draw, soon())));
  await servers[0]?.stall();
  await Promise.allSettled(sessions.map(({ key }) => counters.increment(key, soon())));
  await sleep(6000);
  const outcomes = await Promise.allSettled(sessions.map(({ key }) => counters.end(key, soon())));
  servers[0]?.resume();
  const kept = sessions.find((_, n) => outcomes[n]?.status === 'rejected')?.key ?? '';
  const countOfKept = (): Promise<number | undefined> => counters.increment(kept, soon()).catch(() => undefined);
  await until('its sessions are served there again', async () => (await countOfKept()) !== undefined);
  for (const [n, { status }] of outcomes.entries()) {
    const count = await counters.increment(sessions[n]?.key ?? '', soon());
    t.equal(count === undefined, status === 'fulfilled');
  }
  t.strictSame(new Set(outcomes.map(({ status }) => status)), new Set(['fulfilled', 'rejected']));
});

void test('options that cannot work are refused', (t) => {
  const server = { host: 'store.example', port: 11_211 };
  for (const ttl of [0, -1, 1.5, NaN, Infinity, 2_592_001]) {
    t.throws(() => new MemcachedCounters([server], ttl), { name: 'RangeError', message: /time to live is/ });
    t.throws(() => new MemoryCounters(ttl), { name: 'RangeError' });
  }
  t.doesNotThrow(() => new MemcachedCounters([server], 2_592_000));
  t.throws(() => new MemcachedCounters([], 60), { message: /at least one/ });
  for (const port of [0, 65_536, NaN]) {
    t.throws(() => new MemcachedCounters([{ ...server, port }], 60), { message: `${port} is not a port` });
  }
  t.end();
});
