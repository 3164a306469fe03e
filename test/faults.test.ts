import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test } from 'tap';
import { until } from '../tools/processes.ts';
import { CountersUnavailable } from '../src/counters/counters.ts';
import { draw, openCounters, soon } from './support/counters.ts';
import { startMemcached, withLogin } from './support/memcached.ts';
import { startProxy } from './support/proxy.ts';
import { failedOf, LOGIN, longestOf, scene, suffer } from './support/scene.ts';
import { AT_ONCE, IN_TIME, Visitor } from './support/visitors.ts';
import { startWeb, UNCOVERED } from './support/web.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

for (const login of [true, false]) {
  await test(`a server stalled for 3 s, ${login ? 'with' : 'without'} a login`, withLogin(login), async (t) => {
    const it = await scene(t, { login });
    const during = await suffer(t, it, {
      begin: () => it.memcached.stall(),
      lasts: 3000,
      end: () => it.memcached.resume(),
    });
    t.ok(failedOf(during).length > 10);
    t.equal(it.web.log.filter((line) => line.includes('is not available')).length, 1, 'it is logged once');
    for (const { greetings } of it.visitors) {
      const counts = greetings.flatMap(({ count }) => count ?? []);
      const skipped = (counts.at(-1) ?? 0) - counts.length;
      t.ok(skipped <= 1, `only what was written before the stall may be counted during it: ${skipped} skipped`);
    }
  });
}

await test('a server killed, and started again empty', async (t) => {
  const it = await scene(t);
  const during = await suffer(t, it, {
    begin: () => it.memcached.kill(),
    lasts: 1000,
    end: () => it.memcached.restart(),
  });
  t.ok(longestOf(failedOf(during)) < AT_ONCE, 'it fails at once');
  for (const { greetings } of it.visitors) t.equal(greetings.filter(({ isNew }) => isNew).length, 2);
  t.match(it.web.log[1], /^Memcached at 127\.0\.0\.1:\d+ is not available: .+$/);
  t.match(it.web.log[2], /is available again$/);
  t.equal(it.web.log.length, 3);
});

for (const fault of ['cut', 'finish', 'linger'] as const) {
  const name = fault === 'cut' ? 'a reply cut in the middle' : `a polite close with requests in flight, by ${fault}`;
  await test(name, async (t) => {
    const it = await scene(t);
    const during = await suffer(t, it, {
      begin: async () => {
        const before = it.proxy.accepted;
        await it.proxy.set(fault);
        await until('the connection is lost', () => it.proxy.accepted > before);
        await it.proxy.set('pass');
      },
      lasts: 100,
      end: () => undefined,
    });
    t.ok(failedOf(during).length > 0);
    t.ok(longestOf(failedOf(during)) < AT_ONCE, 'what was in flight fails at once');
  });
}

for (const fault of ['swallow', 'stuck', 'mute'] as const) {
  await test(`connections accepted, never answered (${fault})`, async (t) => {
    const it = await scene(t);
    const newcomer = new Visitor(it.web.url);
    const forger = new Visitor(it.web.url, 'sid=AAAAAAAAAAAAAAAAAAAAAAAA');
    await suffer(t, it, {
      begin: async () => {
        await it.proxy.set(fault);
        for (const greeting of await Promise.all([newcomer.ask(), forger.ask()])) {
          t.equal(greeting.status, 503);
          t.ok(greeting.took < IN_TIME);
        }
      },
      lasts: 2000,
      end: () => it.proxy.set('pass'),
    });
    t.equal(it.web.log.length, 3, 'the loss is logged once, and the return');
    t.equal((await newcomer.ask()).count, 1);
    t.equal((await forger.ask()).count, 1, 'an unknown id was never adopted');
    for (const { greetings } of it.visitors) {
      const counts = greetings.flatMap(({ count }) => count ?? []);
      t.ok((counts.at(-1) ?? 0) - counts.length <= 1, 'what was given up before it was written is not counted later');
    }
  });
}

for (const fault of ['refuse', 'reset'] as const) {
  await test(`connections ${fault === 'refuse' ? 'refused' : 'reset as soon as they are made'}`, async (t) => {
    const it = await scene(t);
    const before = it.proxy.accepted;
    const during = await suffer(t, it, {
      begin: () => it.proxy.set(fault),
      lasts: 3000,
      end: () => it.proxy.set('pass'),
    });
    t.ok(failedOf(during).length > 10);
    t.ok(longestOf(failedOf(during)) < AT_ONCE, 'it fails at once');
    t.ok(it.proxy.accepted - before < 3 * 10, `${it.proxy.accepted - before} attempts in 3 s`);
  });
}

await test('an idle connection closed by the server', async (t) => {
  const { proxy, web, visitors } = await scene(t);
  proxy.closeAll();
  await until('it is closed', () => proxy.open === 0);
  for (const visitor of visitors) t.equal((await visitor.ask()).count, 2);
  t.equal(web.log.length, 1, 'nobody notices');
});

await test('wrong credentials that become right later', withLogin(), async (t) => {
  const memcached = await startMemcached(t, { login: { ...LOGIN, password: 'another' } });
  const web = await startWeb(t, {
    ...UNCOVERED,
    DYNO: 'web.1',
    MEMCACHIER_SERVERS: memcached.address,
    MEMCACHIER_USERNAME: LOGIN.username,
    MEMCACHIER_PASSWORD: LOGIN.password,
  });
  const visitor = new Visitor(web.url);
  t.teardown(() => visitor.stop());
  await until('the login has been refused', () => web.log.length > 1);
  t.match((await visitor.ask()).body, /^The session store is warming up/);
  const page = await visitor.ask({ accept: 'text/html' });
  t.match(page.body, 'warming up');
  t.match(page.headers, { refresh: '2', 'retry-after': '1' });
  t.match(web.log[1], /refuses the login/);
  t.equal(web.log.length, 2, 'it is logged once');
  memcached.setPassword(LOGIN.password);
  await until('the visitor is greeted', async () => (await visitor.ask()).status === 200);
  t.equal((await visitor.ask()).count, 2);
  await until('it is logged', () => web.log.length > 2);
  t.match(web.log[2], /is available again/);
});

await test('a command is given up at its deadline, also while the first connection is being made', async (t) => {
  const memcached = await startMemcached(t);
  const proxy = await startProxy(t, memcached.port);
  await proxy.set('swallow');
  const counters = openCounters(t, [Number(proxy.address.split(':')[1])]);
  await t.rejects(counters.increment(draw().key, performance.now() + 200), {
    cause: { message: /no connection in time/ },
  });
});

await test('a thousand faults leave nothing behind', async (t) => {
  const memcached = await startMemcached(t);
  const proxy = await startProxy(t, memcached.port);
  const counters = openCounters(t, [Number(proxy.address.split(':')[1])]);
  const { key } = await counters.start(draw, soon());
  const resources = (): number => process.getActiveResourcesInfo().length;
  let before = { resources: 0, heap: 0 };
  for (let fault = 0; fault < 1100; fault += 1) {
    if (fault === 100) before = { resources: resources(), heap: heap() };
    await proxy.set(fault % 2 ? 'cut' : 'finish');
    const error: unknown = await counters.increment(key, soon()).catch((reason: unknown) => reason);
    if (!(error instanceof CountersUnavailable)) t.fail(`no failure, but ${String(error)}`);
    await proxy.set('pass');
    await until('it counts again', () => counters.increment(key, soon()).then(Boolean, () => false));
  }
  t.ok(resources() <= before.resources + 2, 'no socket and no timer');
  t.ok(heap() - before.heap < 2_000_000, 'no memory');
  t.equal(proxy.open, 1);
});

function heap(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}
