import { test } from 'tap';
import { startMemcached } from './support/memcached.js';
import { startWeb } from './support/web.js';

await test('a greeting counts', async (t) => {
  const memcached = await startMemcached(t, { login: { username: 'u', password: 'p w' } });
  const web = await startWeb(t, {
    DYNO: 'web.1',
    MEMCACHIER_SERVERS: memcached.address,
    MEMCACHIER_USERNAME: 'u',
    MEMCACHIER_PASSWORD: 'p w',
  });
  t.equal(await (await fetch(web.url)).text(), 'Hello #1\n');
  t.equal(await web.stop(), 0);
});
