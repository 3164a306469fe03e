import { test, type Test } from 'tap';
import { Client } from '../../src/memcached/client.ts';
import { until } from '../../tools/processes.ts';
import { CountedSession, movableClock, openCounters, soon } from '../support/counters.ts';
import { startMemcached, type Memcached } from '../support/memcached.ts';
import { AT_ONCE, IN_TIME } from '../support/visitors.ts';

type Outcome = Awaited<ReturnType<CountedSession['greet']>>;

const UNAVAILABLE = 'ERR_COUNTERS_UNAVAILABLE';

/** Greets all at once, and gives what each was told, and how long the slowest took. */
async function greetAll(sessions: readonly CountedSession[]): Promise<{ outcomes: Outcome[]; took: number }> {
  const began = performance.now();
  const outcomes = await Promise.all(sessions.map((session) => session.greet()));
  return { outcomes, took: performance.now() - began };
}

/** Counters on two servers, their log, and what moves the clock forward. */
async function onTwoServers(t: Test) {
  const servers = [await startMemcached(t), await startMemcached(t)] as const;
  const log: string[] = [];
  const [{ port }, { port: other }] = servers;
  return { servers, log, counters: openCounters(t, [port, other], { log }), forward: movableClock(t) };
}

/** The names of the servers that are asked. */
function spy(t: Test): Set<string> {
  const asked = new Set<string>();
  const call = Reflect.get(Client.prototype, 'call');
  Client.prototype.call = function (this: Client, ...args) {
    asked.add(this.name);
    return call.apply(this, args);
  };
  t.teardown(() => (Client.prototype.call = call));
  return asked;
}

for (const [fault, begin, end] of [
  ['dead', (it: Memcached) => it.kill(), (it: Memcached) => it.restart()],
  ['silent', (it: Memcached) => it.stall(), (it: Memcached) => it.resume()],
] as const) {
  await test(`one server of two ${fault}`, async (t) => {
    const { servers, log, counters, forward } = await onTwoServers(t);
    const [one, two] = servers;
    const asked = spy(t);
    const newcomers = (): CountedSession[] => Array.from({ length: 10 }, () => new CountedSession(counters));
    const sessions = newcomers().concat(newcomers());
    t.strictSame(new Set((await greetAll(sessions)).outcomes), new Set([1]));
    await begin(one);

    const starts = Promise.allSettled(newcomers().map((newcomer) => newcomer.start()));
    const first = await greetAll([...sessions, ...newcomers()]);
    for (const start of await starts)
      if (start.status === 'rejected')
        t.match(start.reason, { cause: { message: `:${one.port}: no response` } }, 'the cause names that server');
    t.ok(first.took < IN_TIME, `${first.took.toFixed()} ms`);
    const isTouched = (_: unknown, n: number): boolean => first.outcomes[n] === UNAVAILABLE;
    const touched = sessions.filter(isTouched);
    const others = sessions.filter((_, n) => !isTouched(_, n));
    t.ok(touched.length > 0 && others.length > 0, `${touched.length} sessions are on it`);
    if (fault === 'dead')
      t.strictSame(new Set(first.outcomes.slice(sessions.length)), new Set([1]), 'no newcomer waits');
    const key = touched[0]?.key ?? '';

    // Not yet for as long as that server has time, even if this machine is slow.
    forward(2500);
    await until('it is known to fail', async () => (await greetAll(newcomers())).took < AT_ONCE);
    let count = 2;
    for (; count < 5; count += 1) {
      t.strictSame(new Set((await greetAll(others)).outcomes), new Set([count + 1]), 'the others notice nothing');
      asked.clear();
      const { outcomes, took } = await greetAll(newcomers());
      t.strictSame(new Set(outcomes), new Set([1]), 'newcomers go to the other server');
      t.strictSame(asked, new Set([`Memcached at 127.0.0.1:${two.port}`]), 'and ask no other');
      t.ok(took < AT_ONCE);
      t.strictSame(new Set((await greetAll(touched)).outcomes), new Set([UNAVAILABLE]), 'its sessions wait for it');
    }
    forward(5000);
    t.strictSame(new Set((await greetAll(touched)).outcomes), new Set([1]), 'then they start again on the other');
    t.matchOnly(log, [/is not available/], 'it is logged once');

    await end(one);
    await until('it is back', async () =>
      counters.end(key, soon()).then(
        () => true,
        () => false,
      ),
    );
    t.strictSame(new Set((await greetAll(touched)).outcomes), new Set([2]), 'nobody starts again a second time');
    t.strictSame(new Set((await greetAll(others)).outcomes), new Set([count + 1]));
    t.matchOnly(log, [/is not available/, /is available again$/]);
    const items = async (): Promise<number> => Number((await one.stats()).get('total_items'));
    const before = await items();
    await greetAll([...newcomers(), ...newcomers()]);
    t.ok((await items()) > before, 'newcomers are on it again');
  });
}

await test('both servers dead for longer than one may be, and then back', async (t) => {
  const { servers, counters, forward } = await onTwoServers(t);
  const session = new CountedSession(counters);
  await session.start();
  for (const server of servers) await server.kill();
  for (let time = 0; time < 3; time += 1) {
    const newcomer = new CountedSession(counters);
    const { outcomes, took } = await greetAll([session, newcomer]);
    t.strictSame(outcomes, [UNAVAILABLE, UNAVAILABLE]);
    t.ok(took < AT_ONCE);
    forward(3000);
  }
  for (const server of servers) await server.restart();
  await until('all is well', async () => (await session.greet()) === 1);
  t.equal(await session.greet(), 2);
});

await test('two slow servers: newcomers and all others are greeted', async (t) => {
  const { servers, log, counters, forward } = await onTwoServers(t);
  const sessions = Array.from({ length: 10 }, () => new CountedSession(counters));
  await greetAll(sessions);
  for (const server of servers) await server.stall();
  const greeted = greetAll([...sessions, new CountedSession(counters)]);
  // More than half of the second that a greeting has.
  forward(600);
  for (const server of servers) server.resume();
  t.strictSame((await greeted).outcomes, [...sessions.map(() => 2), 1]);
  t.strictSame(log, [], 'over the same connections');
});

await test('a session is ended on the server where its count lives, or not at all', async (t) => {
  const { servers, counters, forward } = await onTwoServers(t);
  const sessions = Array.from({ length: 20 }, () => new CountedSession(counters));
  await greetAll(sessions);
  const keys = sessions.map(({ key }) => key);
  await servers[0].stall();
  await until('it is known to fail', async () => (await greetAll(sessions)).took < AT_ONCE);
  forward(6000);
  const { outcomes } = await greetAll(sessions);
  t.ok(outcomes.includes(1) && !outcomes.includes(UNAVAILABLE), 'all are served by the other');
  const ended = await Promise.allSettled(keys.map((key) => counters.end(key, soon())));
  t.strictSame(new Set(ended.map(({ status }) => status)), new Set(['fulfilled', 'rejected']));
  servers[0].resume();
  const kept = keys.filter((_, n) => ended[n]?.status === 'rejected');
  const countOf = (key = ''): Promise<number | undefined> => counters.increment(key, soon()).catch(() => undefined);
  await until('its sessions are served there again', async () => (await countOf(kept[0])) !== undefined);
  for (const key of keys) t.equal((await countOf(key)) !== undefined, kept.includes(key));
});
