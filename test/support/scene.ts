import type { Test } from 'tap';
import { NO_LOGIN, startMemcached, type Memcached } from './memcached.ts';
import { until } from '../../tools/processes.ts';
import { startProxy, type Proxy } from './proxy.ts';
import { BACK, IN_TIME, violations, Visitor, type Greeting } from './visitors.ts';
import { startWeb, UNCOVERED, type Web } from './web.ts';

export const LOGIN = { username: 'app', password: 'secret' };

export interface Scene {
  readonly memcached: Memcached;
  readonly proxy: Proxy;
  readonly web: Web;
  readonly visitors: readonly Visitor[];
}

/** A web process that reaches a memcached through a proxy, and ten visitors who have been greeted once. */
export async function scene(t: Test, { login = NO_LOGIN === '' } = {}): Promise<Scene> {
  const memcached = await startMemcached(t, login ? { login: LOGIN } : {});
  const proxy = await startProxy(t, memcached.port);
  const web = await startWeb(t, {
    ...UNCOVERED,
    DYNO: 'web.1',
    MEMCACHE_SERVERS: proxy.address,
    ...(login ? { MEMCACHE_USERNAME: LOGIN.username, MEMCACHE_PASSWORD: LOGIN.password } : {}),
  });
  const visitors = Array.from({ length: 10 }, () => new Visitor(web.url));
  t.teardown(() => Promise.all(visitors.map((visitor) => visitor.stop())));
  for (const visitor of visitors) t.equal((await visitor.ask()).count, 1);
  return { memcached, proxy, web, visitors };
}

interface Fault {
  begin: () => unknown;
  /** How long it lasts, in milliseconds. */
  lasts: number;
  end: () => unknown;
}

/** Lets the visitors walk while a fault comes and goes, checks what always holds, and gives the answers during it. */
export async function suffer(t: Test, { visitors, web }: Scene, { begin, lasts, end }: Fault): Promise<Greeting[]> {
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
  t.strictSame(visitors.flatMap(violations), []);
  await until('its return is logged', () => !web.log.at(-1)?.includes('is not available'));
  const lost = web.log.filter((line) => line.includes('is not available')).length;
  const returned = web.log.filter((line) => line.includes('is available again')).length;
  t.equal(lost, returned, 'each time that the store is lost, it is back');
  return all.filter(({ at, took }) => at + took > began && at < ended);
}

export function failedOf(greetings: readonly Greeting[]): Greeting[] {
  return greetings.filter(({ status }) => status === 503);
}

export function longestOf(greetings: readonly Greeting[]): number {
  return Math.max(0, ...greetings.map(({ took }) => took));
}
