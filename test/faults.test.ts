import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test } from 'tap';
import { until } from '../tools/processes.ts';
import { CountedSession, openCounters } from './support/counters.ts';
import { startMemcached } from './support/memcached.ts';
import { startProxy } from './support/proxy.ts';
import { failedOf, longestOf, scene, suffer } from './support/scene.ts';
import { AT_ONCE, IN_TIME, Visitor } from './support/visitors.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

// All faults hit the same web process and the same visitors, who keep their counts.
await test('faults of a store', async (t) => {
  const it = await scene(t);
  const { memcached, proxy, web, visitors } = it;
  const skippedBefore = new Map<Visitor, number>();
  const skippedBy = (visitor: Visitor): number => {
    const counts = visitor.greetings.flatMap(({ count }) => count ?? []);
    const skipped = (counts.at(-1) ?? 0) - counts.length;
    const since = skipped - (skippedBefore.get(visitor) ?? 0);
    skippedBefore.set(visitor, skipped);
    return since;
  };

  await t.test('stalled for 2 s', async (t) => {
    const during = await suffer(t, it, {
      begin: () => memcached.stall(),
      lasts: 2000,
      end: () => memcached.resume(),
    });
    t.ok(failedOf(during).length > 10);
    t.equal(web.log.length, 3, 'the loss is logged once, and the return');
    t.ok(Math.max(...visitors.map(skippedBy)) <= 1, 'only what was written before the stall is counted during it');
  });

  for (const fault of ['cut', 'finish', 'linger'] as const) {
    const name = fault === 'cut' ? 'a response cut in the middle' : `a polite close with requests in flight (${fault})`;
    await t.test(name, async (t) => {
      const during = await suffer(t, it, {
        begin: async () => {
          const before = proxy.accepted;
          await proxy.set(fault);
          await until('the connection is lost', () => proxy.accepted > before);
          await proxy.set('pass');
        },
        lasts: 100,
        end: () => undefined,
      });
      t.ok(failedOf(during).length > 0);
      t.ok(longestOf(failedOf(during)) < AT_ONCE, 'what was in flight fails at once');
    });
  }

  for (const fault of ['swallow', 'stuck', 'mute'] as const) {
    await t.test(`connections accepted, never answered (${fault})`, async (t) => {
      const [newcomer, forger] = [new Visitor(web.url), new Visitor(web.url, 'sid=AAAAAAAAAAAAAAAAAAAAAAAA')];
      const lines = web.log.length;
      visitors.forEach(skippedBy);
      await suffer(t, it, {
        begin: async () => {
          await proxy.set(fault);
          for (const greeting of await Promise.all([newcomer.ask(), forger.ask()])) {
            t.equal(greeting.status, 503);
            t.ok(greeting.took < IN_TIME);
          }
        },
        lasts: 500,
        end: () => proxy.set('pass'),
      });
      t.equal(web.log.length, lines + 2, 'the loss is logged once, and the return');
      t.equal((await newcomer.ask()).count, 1);
      t.equal((await forger.ask()).count, 1, 'an unknown id was never adopted');
      t.ok(Math.max(...visitors.map(skippedBy)) <= 1, 'what was given up before it was written is not counted later');
      await Promise.all([newcomer.stop(), forger.stop()]);
    });
  }

  for (const fault of ['refuse', 'reset'] as const) {
    await t.test(`connections ${fault === 'refuse' ? 'refused' : 'reset as soon as they are made'}`, async (t) => {
      const before = proxy.accepted;
      const during = await suffer(t, it, {
        begin: () => proxy.set(fault),
        lasts: 1000,
        end: () => proxy.set('pass'),
      });
      t.ok(failedOf(during).length > 10);
      t.ok(longestOf(failedOf(during)) < AT_ONCE, 'it fails at once');
      t.ok(proxy.accepted - before < 12, `${proxy.accepted - before} attempts in 1 s`);
    });
  }

  await t.test('an idle connection closed by the server', async (t) => {
    const lines = web.log.length;
    const counts = visitors.map(({ greetings }) => greetings.at(-1)?.count ?? 0);
    proxy.closeAll();
    await until('it is closed', () => proxy.open === 0);
    for (const [n, visitor] of visitors.entries()) t.equal((await visitor.ask()).count, (counts[n] ?? 0) + 1);
    t.equal(web.log.length, lines, 'nobody notices');
  });

  await t.test('killed, and started again empty', async (t) => {
    const during = await suffer(t, it, {
      begin: () => memcached.kill(),
      lasts: 500,
      end: () => memcached.restart(),
    });
    t.ok(longestOf(failedOf(during)) < AT_ONCE, 'it fails at once');
    for (const { greetings } of visitors)
      t.equal(greetings.filter(({ isNew }) => isNew).length, 2, 'nobody had to start over before');
    t.match(web.log.at(-2), /^Memcached at 127\.0\.0\.1:\d+ is not available: .+$/);
    t.match(web.log.at(-1), /is available again$/);
  });
});

await test('hundreds of faults leave nothing behind', async (t) => {
  const proxy = await startProxy(t, (await startMemcached(t)).port);
  const session = new CountedSession(openCounters(t, [proxy.port]));
  await session.start();
  const resources = (): number => process.getActiveResourcesInfo().length;
  let before = { resources: 0, heap: 0 };
  for (let fault = 0; fault < 250; fault += 1) {
    if (fault === 50) before = { resources: resources(), heap: heap() };
    await proxy.set(fault % 2 ? 'cut' : 'finish');
    t.equal(await session.greet(), 'ERR_COUNTERS_UNAVAILABLE');
    await proxy.set('pass');
    await until('it counts again', async () => typeof (await session.greet()) === 'number');
  }
  t.ok(resources() <= before.resources + 2, 'no socket and no timer');
  t.ok(heap() - before.heap < 1_000_000, 'no memory');
  t.equal(proxy.open, 1);
});

function heap(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}
