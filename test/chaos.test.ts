import fc from 'fast-check';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'tap';
import { startMemcached } from './support/memcached.js';
import { until } from './support/processes.js';
import { startProxy, type Fault } from './support/proxy.js';
import { brokenPromises, IN_TIME, Visitor } from './support/visitors.js';
import { startWeb } from './support/web.js';

type Trouble = Fault | 'stall' | 'kill' | 'close';

const troubles = fc.constantFrom<Trouble>(
  ...(['pass', 'swallow', 'mute', 'delay', 'crumble', 'refuse', 'reset', 'cut', 'finish', 'linger'] as const),
  ...(['stall', 'kill', 'close'] as const),
);
const courses = fc.array(fc.record({ trouble: troubles, lasts: fc.integer({ min: 1, max: 400 }) }), {
  minLength: 3,
  maxLength: 10,
});

// A failure prints the seed: CHAOS_SEED repeats it, CHAOS_RUNS makes for a longer search.
const { CHAOS_SEED, CHAOS_RUNS = '6' } = process.env;

await test('whatever befalls the store, in whatever order', async (t) => {
  const memcached = await startMemcached(t);
  const proxy = await startProxy(t, memcached.port);
  const web = await startWeb(t, { DYNO: 'web.1', MEMCACHE_SERVERS: proxy.address });

  async function cause(trouble: Trouble, lasts: number): Promise<void> {
    if (trouble === 'stall') memcached.stall();
    else if (trouble === 'kill') await memcached.kill();
    else if (trouble === 'close') proxy.closeAll();
    else await proxy.set(trouble);
    await sleep(lasts);
    if (trouble === 'stall') memcached.resume();
    if (trouble === 'kill') await memcached.restart();
  }

  const property = fc.asyncProperty(courses, async (course) => {
    const visitors = Array.from({ length: 10 }, () => new Visitor(web.url));
    for (const visitor of visitors) visitor.walk(5);
    for (const { trouble, lasts } of course) await cause(trouble, lasts);
    await proxy.set('pass');
    const ended = performance.now();
    await until('all are greeted again', () =>
      visitors.every(({ greetings }) => greetings.some(({ at, status }) => at > ended && status === 200)),
    );
    await Promise.all(visitors.map((visitor) => visitor.stop()));
    const slow = visitors.flatMap(({ greetings }) => greetings.filter(({ took }) => took > IN_TIME));
    return visitors.flatMap(brokenPromises).length === 0 && slow.length === 0;
  });
  const search = fc.assert(property, {
    numRuns: Number(CHAOS_RUNS),
    endOnFailure: true,
    ...(CHAOS_SEED === undefined ? {} : { seed: Number(CHAOS_SEED) }),
  });
  await t.resolves(search);
});
