import { createHash } from 'node:crypto';
import dns from 'node:dns';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test, type Test } from 'tap';
import { CountersUnavailable } from '../src/counters/counters.js';
import { MemcachedCounters } from '../src/counters/memcached.js';
import { draw, openCounters, soon } from './support/counters.js';
import { startMemcached, type Memcached } from './support/memcached.js';
import { freePort, until } from './support/processes.js';
import { startProxy, type Proxy } from './support/proxy.js';
import { AT_ONCE, BACK, brokenPromises, IN_TIME, Visitor, type Greeting } from './support/visitors.js';
import { startWeb, type Web } from './support/web.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const LOGIN = { username: 'app', password: 'secret' };

interface Scene {
  readonly memcached: Memcached;
  readonly proxy: Proxy;
  readonly web: Web;
  readonly visitors: readonly Visitor[];
}

/** A web process that reaches a memcached through a proxy, and ten visitors who have been greeted once. */
async function scene(t: Test, { login = true } = {}): Promise<Scene> {
  const memcached = await startMemcached(t, login ? { login: LOGIN } : {});
  const proxy = await startProxy(t, memcached.port);
  const web = await startWeb(t, {
    DYNO: 'web.1',
    MEMCACHE_SERVERS: proxy.address,
    ...(login ? { MEMCACHE_USERNAME: LOGIN.username, MEMCACHE_PASSWORD: LOGIN.password } : {}),
  });
  const visitors = Array.from({ length: 10 }, () => new Visitor(web.url));
  t.teardown(() => Promise.all(visitors.map((visitor) => visitor.stop())));
  for (const visitor of visitors) t.equal((await visitor.ask()).count, 1);
  return { memcached, proxy, web, visitors };
}

interface Course {
  begin: () => unknown;
  /** How long the fault lasts, in milliseconds. */
  lasts: number;
  end: () => unknown;
}

/** Lets the visitors walk while a fault comes and goes, checks what always holds, and gives the answers during it. */
async function suffer(t: Test, { visitors, web }: Scene, { begin, lasts, end }: Course): Promise<Greeting[]> {
  for (const visitor of visitors) visitor.walk(20);
  await until('all are greeted', () => visitors.every(({ greetings }) => greetings.length > 3));
  const began = performance.now();
  await begin();
  await new Promise((resolve) => setTimeout(resolve, lasts));
  await end();
  const ended = performance.now();
  const back = ({ greetings }: Visitor): number[] =>
    greetings.filter(({ status }) => status === 200).map(({ at, took }) => at + took - ended);
  await until('all are greeted again', () => visitors.every((visitor) => back(visitor).some((after) => after > 0)));
  await Promise.all(visitors.map((visitor) => visitor.stop()));

  const slowest = Math.max(...visitors.map((visitor) => Math.min(...back(visitor).filter((after) => after > 0))));
  t.ok(slowest < BACK, `back after ${slowest.toFixed()} ms`);
  const all = visitors.flatMap(({ greetings }) => greetings);
  const longest = Math.max(...all.map(({ took }) => took));
  t.ok(longest < IN_TIME, `the longest answer took ${longest.toFixed()} ms`);
  t.strictSame(visitors.flatMap(brokenPromises), []);
  await until('its return is logged', () => !web.log.at(-1)?.includes('does not answer'));
  const lost = web.log.filter((line) => line.includes('does not answer')).length;
  const returned = web.log.filter((line) => line.includes('answers again')).length;
  t.equal(lost, returned, 'each time that the store is lost, it is back');
  return all.filter(({ at, took }) => at + took > began && at < ended);
}

function failedOf(greetings: readonly Greeting[]): Greeting[] {
  return greetings.filter(({ status }) => status === 503);
}

function longestOf(greetings: readonly Greeting[]): number {
  return Math.max(0, ...greetings.map(({ took }) => took));
}

for (const login of [true, false]) {
  await test(`a server stalled for 3 s, ${login ? 'with' : 'without'} a login`, async (t) => {
    const it = await scene(t, { login });
    const during = await suffer(t, it, { begin: it.memcached.stall, lasts: 3000, end: it.memcached.resume });
    t.ok(failedOf(during).length > 10);
    t.equal(it.web.log.filter((line) => line.includes('does not answer')).length, 1, 'it is logged once');
    for (const { greetings } of it.visitors) {
      const counts = greetings.flatMap(({ count }) => count ?? []);
      const skipped = (counts.at(-1) ?? 0) - counts.length;
      t.ok(skipped <= 1, `only what was written before the stall may be counted during it: ${skipped} skipped`);
    }
  });
}

await test('a server killed, and started again empty', async (t) => {
  const it = await scene(t);
  const during = await suffer(t, it, { begin: it.memcached.kill, lasts: 1000, end: it.memcached.restart });
  t.ok(longestOf(failedOf(during)) < AT_ONCE, 'it fails at once');
  for (const { greetings } of it.visitors) t.equal(greetings.filter(({ isNew }) => isNew).length, 2);
  t.match(it.web.log[1], /^Memcached at 127\.0\.0\.1:\d+ does not answer: .+$/);
  t.match(it.web.log[2], /answers again$/);
  t.equal(it.web.log.length, 3);
});

for (const [fault, times] of [
  ['cut', 1],
  ['cut', 20],
  ['finish', 1],
  ['linger', 1],
] as const) {
  const name = fault === 'cut' ? 'a reply cut in the middle' : `a polite close with requests in flight, by ${fault},`;
  await test(`${name} ${times} times`, async (t) => {
    const it = await scene(t);
    const during = await suffer(t, it, {
      begin: async () => {
        for (let time = 0; time < times; time += 1) {
          const before = it.proxy.accepted;
          await it.proxy.set(fault);
          await until('the connection is lost', () => it.proxy.accepted > before);
          await it.proxy.set('pass');
        }
      },
      lasts: 100,
      end: () => undefined,
    });
    t.ok(failedOf(during).length > 0);
    t.ok(longestOf(failedOf(during)) < AT_ONCE, 'what was in flight fails at once');
  });
}

for (const fault of ['swallow', 'mute'] as const) {
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
    t.equal((await newcomer.ask()).count, 1);
    t.equal((await forger.ask()).count, 1, 'an unknown id was never adopted');
    for (const { greetings } of it.visitors) {
      const counts = greetings.flatMap(({ count }) => count ?? []);
      t.ok((counts.at(-1) ?? 0) - counts.length <= 1, 'what was given up before it was written is not counted later');
    }
  });
}

await test('an unknown id takes two commands, and both together no more than a second', async (t) => {
  const it = await scene(t);
  await it.proxy.set('delay');
  const forger = new Visitor(it.web.url, 'sid=AAAAAAAAAAAAAAAAAAAAAAAA');
  const slow = await forger.ask();
  t.equal(slow.count, 1);
  t.ok(slow.took > 590);
  await it.proxy.set('pass');
});

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

await test('replies 300 ms late, on a connection already logged in', async (t) => {
  const it = await scene(t);
  const during = await suffer(t, it, {
    begin: () => it.proxy.set('delay'),
    lasts: 1500,
    end: () => it.proxy.set('pass'),
  });
  t.strictSame(failedOf(during), []);
  t.equal(it.web.log.length, 1);
});

await test('replies in crumbs', async (t) => {
  const { proxy, web, visitors } = await scene(t, { login: false });
  await proxy.set('crumble');
  for (const count of [2, 3, 4]) {
    const greetings = await Promise.all(visitors.map((visitor) => visitor.ask()));
    t.strictSame(new Set(greetings.map((greeting) => greeting.count)), new Set([count]));
  }
  t.equal(web.log.length, 1, 'nobody notices');
});

await test('an idle connection closed by the server', async (t) => {
  const { proxy, web, visitors } = await scene(t);
  proxy.closeAll();
  await until('it is closed', () => proxy.open === 0);
  for (const visitor of visitors) t.equal((await visitor.ask()).count, 2);
  t.equal(web.log.length, 1, 'nobody notices');
});

await test('wrong credentials that become right later', async (t) => {
  const memcached = await startMemcached(t, { login: { ...LOGIN, password: 'another' } });
  const web = await startWeb(t, {
    DYNO: 'web.1',
    MEMCACHIER_SERVERS: memcached.address,
    MEMCACHIER_USERNAME: LOGIN.username,
    MEMCACHIER_PASSWORD: LOGIN.password,
  });
  const visitor = new Visitor(web.url);
  t.teardown(() => visitor.stop());
  await until('the login has been refused', () => web.log.length > 1);
  t.match((await visitor.ask()).body, /^The session store is warming up.+\n$/);
  const page = await visitor.ask({ accept: 'text/html' });
  t.match(page.body, 'warming up');
  t.match(page.headers, { refresh: '2', 'retry-after': '1' });
  t.match(web.log[1], /authentication failed/);
  t.equal(web.log.length, 2, 'it is logged once');
  memcached.setPassword(LOGIN.password);
  await until('the visitor is greeted', async () => (await visitor.ask()).status === 200);
  t.equal((await visitor.ask()).count, 2);
  await until('it is logged', () => web.log.length > 2);
  t.match(web.log[2], /answers again/);
});

await test('an error of the server: out of memory', async (t) => {
  const memcached = await startMemcached(t, { args: ['-M', '-m', '2'] });
  const web = await startWeb(t, { DYNO: 'web.1', MEMCACHE_SERVERS: memcached.address });
  const visitor = new Visitor(web.url);
  t.teardown(() => visitor.stop());
  t.equal((await visitor.ask()).count, 1);
  await fill(t, memcached);
  for (let time = 0; time < 3; time += 1) {
    const newcomer = new Visitor(web.url);
    t.equal((await newcomer.ask()).status, 503);
    await newcomer.stop();
  }
  await until('it is logged', () => web.log.length > 1);
  t.match(web.log[1], /refuses a command: Out of memory/);
  t.equal(web.log.length, 2, 'it is logged once');
  t.equal((await visitor.ask()).count, 2, 'a session that is there goes on');
});

await test('an error of the server: no number under the key', async (t) => {
  const memcached = await startMemcached(t);
  const web = await startWeb(t, { DYNO: 'web.1', MEMCACHE_SERVERS: memcached.address });
  const visitor = new Visitor(web.url, 'sid=AAAAAAAAAAAAAAAAAAAAAAAA');
  t.teardown(() => visitor.stop());
  await memcached.ask(`set ${keyOf('AAAAAAAAAAAAAAAAAAAAAAAA')} 0 0 9\r\nno number`);
  const { status, body } = await visitor.ask();
  t.equal(status, 503);
  t.match(body, /^The session store .+\n$/);
  await until('it is logged', () => web.log.length > 1);
  t.match(web.log[1], /refuses a command: Non-numeric/);
});

await test('a server that refuses TOUCH', async (t) => {
  const { proxy, web, visitors } = await scene(t, { login: false });
  await proxy.set('touchless');
  for (const visitor of visitors) t.equal((await visitor.ask()).count, 2, 'greetings go on, without sliding');
  await until('it is logged', () => web.log.length > 1);
  t.match(web.log[1], /refuses TOUCH/);
  t.equal(web.log.length, 2, 'it is logged once');
});

await test('a command is given up at its deadline, also while the first connection is being made', async (t) => {
  const memcached = await startMemcached(t);
  const proxy = await startProxy(t, memcached.port);
  await proxy.set('swallow');
  const counters = openCounters(t, [Number(proxy.address.split(':')[1])]);
  await t.rejects(counters.increment(draw(), performance.now() + 200), { message: /not connected to in time/ });
});

await test('a host with two addresses, and nobody at either', async (t) => {
  const port = await freePort();
  const addresses = ['127.0.0.1', '127.0.0.2'].map((address) => ({ address, family: 4 }));
  t.intercept(dns, 'lookup', {
    value: (_host: string, _options: unknown, done: (error: null, all: typeof addresses) => void) => {
      process.nextTick(done, null, addresses);
    },
  });
  const counters = new MemcachedCounters([{ host: 'store.example', port }], 60);
  t.teardown(() => {
    counters.close();
  });
  const lost = new Promise<string>((resolve) => {
    counters.open({ info: () => undefined, warn: resolve });
  });
  t.match(await lost, /ECONNREFUSED 127\.0\.0\.1.*ECONNREFUSED 127\.0\.0\.2/);
});

await test('a thousand faults leave nothing behind', async (t) => {
  const memcached = await startMemcached(t);
  const proxy = await startProxy(t, memcached.port);
  const counters = openCounters(t, [Number(proxy.address.split(':')[1])]);
  const key = draw();
  await counters.start(() => key, soon());
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

/** The key under which a session's count is kept. */
function keyOf(id: string): string {
  return createHash('sha256').update(id).digest('base64url').slice(0, 32);
}

/** Starts sessions until the server takes no more. */
async function fill(t: Test, { port }: Memcached): Promise<void> {
  const counters = openCounters(t, [port]);
  for (;;) {
    const started = await Promise.allSettled(Array.from({ length: 1000 }, () => counters.start(draw, soon())));
    if (started.some(({ status }) => status === 'rejected')) return;
  }
}
