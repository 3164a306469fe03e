import * as tools from '../../tools/memcached.ts';
import type { Owner } from './program.ts';

export type { Login, Memcached } from '../../tools/memcached.ts';

export const LOGIN = { username: 'app', password: 'secret' };

/** Why a test that logs in cannot run here; empty if it can. In CI it has to. */
export const NO_LOGIN = process.env.CI ? '' : tools.whyNoLogin();

/** The options of a test that logs in to memcached: it is skipped, and says why, where memcached has no logins. */
export function withLogin(isNeeded = true): { skip: string | false } {
  return { skip: isNeeded && NO_LOGIN !== '' && NO_LOGIN };
}

/** Starts a memcached that ends with the test. */
export async function startMemcached(t: Owner, options?: tools.MemcachedOptions): Promise<tools.Memcached> {
  const memcached = await tools.startMemcached(options);
  t.teardown(() => memcached.stop());
  return memcached;
}
