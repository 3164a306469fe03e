import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import { startMemcached } from '../support/memcached.ts';
import { launchChromium } from './chromium.ts';
import { startDynos, Visitor } from './visitor.ts';

const FILE = fileURLToPath(new URL('../../docs/hello.png', import.meta.url));

await test('the picture in the README shows the page, after 50 requests to five dynos', async (t) => {
  const browser = await launchChromium();
  t.teardown(() => browser.close());
  const { address } = await startMemcached(t);
  const url = await startDynos(t, 5, { MEMCACHE_SERVERS: address });
  const visitor = await Visitor.open(t, browser, url, {
    viewport: { width: 800, height: 880 },
    deviceScaleFactor: 1.5,
  });
  t.match(await visitor.burst(), /^✓ #2 to #51, each exactly once, from 5 dynos, in /);
  const { page } = visitor;
  await page.mouse.move(0, 0);
  // The last dots are still growing.
  await page.evaluate('Promise.all(document.getAnimations().map(({ finished }) => finished)).then(() => undefined)');
  mkdirSync(dirname(FILE), { recursive: true });
  await page.screenshot({ path: FILE });
});
