// Both session stores, as their documentation shows them.
import connectMemjs from 'connect-memjs';
import { RedisStore } from 'connect-redis';
import session from 'express-session';
import { createClient } from 'redis';

const MemjsStore = connectMemjs(session);

export async function openStore() {
  const { REDIS_URL, MEMCACHE_SERVERS } = process.env;
  if (!REDIS_URL) return new MemjsStore({ servers: [MEMCACHE_SERVERS] });
  const client = createClient({ url: REDIS_URL }).on('error', (error) => console.error(error));
  await client.connect();
  return new RedisStore({ client });
}
