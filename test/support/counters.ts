import { randomUUID } from 'node:crypto';
import { MemcachedCounters } from '../../src/counters/memcached.ts';

/** Counters in this process, connected to servers on the loopback address, until the test ends. */
export function openCounters(
  t: { teardown(action: () => unknown): void },
  ports: readonly number[],
  ttl = 60,
): MemcachedCounters {
  const counters = new MemcachedCounters(
    ports.map((port) => ({ host: '127.0.0.1', port })),
    ttl,
  );
  counters.open({ info: () => undefined, warn: () => undefined });
  t.teardown(() => {
    counters.close();
  });
  return counters;
}

/** A random key. */
export function draw(): { key: string } {
  return { key: randomUUID().replaceAll('-', '') };
}

/** A deadline like a greeting's. */
export function soon(): number {
  return performance.now() + 1000;
}
