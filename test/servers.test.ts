import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'tap';
import { draw, openCounters, soon } from './support/counters.js';
import { startMemcached, type Memcached } from './support/memcached.js';
import { until } from './support/processes.js';
import { AT_ONCE, brokenPromises, NOISE, Visitor, type Greeting } from './support/visitors.js';
import { startWeb } from './support/web.js';

for (const [fault, begin, end] of [
  ['dead', (it: Memcached) => it.kill(), (it: Memcached) => it.restart()],
  [
    'silent',
    (it: Memcached) => {
      it.stall();
    },
    (it: Memcached) => {
      it.resume();
    },
  ],
] as const) {
  await test(`one server of two ${fault}`, async (t) => {
    const [one, two] = [await startMemcached(t), await startMemcached(t)];
    const web = await startWeb(t, { DYNO: 'web.1', MEMCACHE_SERVERS: `${one.address},${two.address}` });
    const visitors = Array.from({ length: 20 }, () => new Visitor(web.url));
    t.teardown(() => Promise.all(visitors.map((visitor) => visitor.stop())));
    for (const visitor of visitors) await visitor.ask();
    await begin(one);
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
    await end(one);
    await until('it is back', () => web.log.some((line) => line.includes('answers again')));
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

await test('both servers dead for longer than the silence that one may keep', async (t) => {
  const servers = [await startMemcached(t), await startMemcached(t)];
  const counters = openCounters(
    t,
    servers.map(({ port }) => port),
  );
  let key = '';
  await counters.start(() => (key = draw()), soon());
  for (const server of servers) await server.kill();
  const killed = performance.now();
  await until('it has been long', async () => {
    await t.rejects(counters.increment(key, soon()), { message: /does not answer/ });
    await t.rejects(counters.start(draw, soon()), { message: /does not answer/ });
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
