import * as tools from '../../tools/memcached.ts';

export type { Login, Memcached } from '../../tools/memcached.ts';

/** Starts a memcached that ends with the test. */
export async function startMemcached(
  t: { teardown(action: () => unknown): void },
  options?: tools.MemcachedOptions,
): Promise<tools.Memcached> {
  const memcached = await tools.startMemcached(options);
  t.teardown(() => memcached.stop());
  return memcached;
}
