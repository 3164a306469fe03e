import { test, type Test } from 'tap';
import { until } from '../tools/processes.ts';
import { FORGED } from './support/app.ts';
import { LOGIN, NO_LOGIN, startMemcached } from './support/memcached.ts';
import { AT_ONCE, BACK, IN_TIME, violations, Visitor, type Greeting } from './support/visitors.ts';
import { startWeb, UNCOVERED, type Web } from './support/web.ts';

// One fault of each kind on real processes and sockets. test/memcached/client.test.ts simulates many more.

interface Fault {
  begin: () => unknown;
  /** How many times each visitor fails before it ends. */
  failures: number;
  end: () => unknown;
}

/** Lets the visitors walk while a fault comes and goes, checks what always holds, and gives the answers that failed. */
async function suffer(
  t: Test,
  web: Web,
  visitors: readonly Visitor[],
  { begin, failures, end }: Fault,
): Promise<Greeting[]> {
  for (const visitor of visitors) visitor.walk(20);
  await until('all are greeted', () => visitors.every(({ greetings }) => greetings.length > 3));
  const began = performance.now();
  await begin();
  const failed = ({ greetings }: Visitor): Greeting[] =>
    greetings.filter(({ status, at, took }) => status === 503 && at + took > began);
  await until('all have failed', () => visitors.every((visitor) => failed(visitor).length >= failures));
  await end();
  const ended = performance.now();
  const back = ({ greetings }: Visitor): number => {
    const first = greetings.find(({ status, at, took }) => status === 200 && at + took > ended);
    return first ? first.at + first.took - ended : Infinity;
  };
  await until('all are greeted again', () => visitors.every((visitor) => back(visitor) < Infinity));
  await Promise.all(visitors.map((visitor) => visitor.stop()));

  const slowest = Math.max(...visitors.map(back));
  t.ok(slowest < BACK, `back after ${slowest.toFixed()} ms`);
  const all = visitors.flatMap(({ greetings }) => greetings);
  const longest = Math.max(...all.map(({ took }) => took));
  t.ok(longest < IN_TIME, `the longest answer took ${longest.toFixed()} ms`);
  t.strictSame(visitors.flatMap(violations), []);
  await until('its return is logged', () => web.log.at(-1)?.includes('is available again') === true);
  return visitors.flatMap(failed).filter(({ at }) => at < ended);
}

// Both faults hit the same web process and the same visitors, who keep their counts.
await test('faults of a store', async (t) => {
  const memcached = await startMemcached(t, NO_LOGIN ? {} : { login: LOGIN });
  const web = await startWeb(t, {
    ...UNCOVERED,
    DYNO: 'web.1',
    MEMCACHE_SERVERS: memcached.address,
    ...(NO_LOGIN ? {} : { MEMCACHE_USERNAME: LOGIN.username, MEMCACHE_PASSWORD: LOGIN.password }),
  });
  const visitors = Array.from({ length: 10 }, () => new Visitor(web.url));
  const [newcomer, forger] = [new Visitor(web.url), new Visitor(web.url, FORGED)];
  t.teardown(() => Promise.all([newcomer, forger, ...visitors].map((visitor) => visitor.stop())));
  for (const visitor of visitors) t.equal((await visitor.ask()).count, 1);

  await t.test('stalled', async (t) => {
    await suffer(t, web, visitors, {
      begin: async () => {
        await memcached.stall();
        for (const { status, took } of await Promise.all([newcomer.ask(), forger.ask()])) {
          t.equal(status, 503);
          t.ok(took < IN_TIME, `${took.toFixed()} ms`);
        }
      },
      failures: 5,
      end: () => memcached.resume(),
    });
    t.match(web.log[1], /^Memcached at 127\.0\.0\.1:\d+ is not available: .+$/);
    t.equal(web.log.length, 3, 'the loss is logged once, and the return');
    for (const { greetings } of visitors) {
      const counts = greetings.flatMap(({ count }) => count ?? []);
      t.ok((counts.at(-1) ?? 0) - counts.length <= 2, 'only what was written before the loss is counted meanwhile');
      t.equal(greetings.filter(({ isNew }) => isNew).length, 1, 'nobody had to start over');
    }
    t.equal((await newcomer.ask()).count, 1);
    t.equal((await forger.ask()).count, 1, 'an unknown id was never adopted');
  });

  await t.test('killed, and started again empty', async (t) => {
    const failed = await suffer(t, web, visitors, {
      begin: () => memcached.kill(),
      failures: 5,
      end: () => memcached.restart(),
    });
    const times = failed.map(({ took }) => took).sort((one, other) => one - other);
    const median = times[times.length >> 1] ?? Infinity;
    t.ok(median < AT_ONCE, `requests fail at once: ${median.toFixed()} ms`);
    for (const { greetings } of visitors)
      t.equal(greetings.filter(({ isNew }) => isNew).length, 2, 'nobody had to start over before');
    t.match(web.log.at(-2), /^Memcached at 127\.0\.0\.1:\d+ is not available: .+$/);
  });
});
