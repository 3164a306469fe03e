import { writeFileSync } from 'node:fs';
import gifenc from 'gifenc';
import { PNG } from 'pngjs';
import tap, { test } from 'tap';
import { startMemcached } from '../support/memcached.ts';
import { launchChromium } from './chromium.ts';
import { startDynos, startFront, Visitor } from './visitor.ts';

const browser = await launchChromium();
tap.teardown(() => browser.close());
const { address } = await startMemcached(tap);
const { url } = await startDynos(tap, { MEMCACHE_SERVERS: address });

await test('the picture in the README shows how greetings arrive, in at most 1 MB', async (t) => {
  const front = await startFront(t, url);
  const visitor = await Visitor.open(t, browser, front.url, { viewport: { width: 760, height: 860 } });
  const { page } = visitor;
  const frames: { png: Buffer; delay: number }[] = [];
  const take = async (delay: number): Promise<unknown> => frames.push({ png: await page.screenshot(), delay });
  await take(1500);
  // Each answer waits until what came before it has been pictured.
  let last: Promise<unknown> = Promise.resolve();
  let sent = 0;
  front.hold = () => (last = last.then(() => ++sent % 2 && take(80)));
  t.match(await visitor.burst(), /^✓ #2 to #51, each exactly once/);
  await take(4000);

  const encoder = gifenc.GIFEncoder();
  const pixelsOf = (png: Buffer): PNG => PNG.sync.read(png);
  // The last frame has all colours.
  const palette = gifenc.quantize(pixelsOf(frames.at(-1)?.png ?? Buffer.alloc(0)).data, 64);
  for (const { png, delay } of frames) {
    const { data, width, height } = pixelsOf(png);
    encoder.writeFrame(gifenc.applyPalette(data, palette), width, height, { palette, delay });
  }
  encoder.finish();
  const gif = encoder.bytes();
  t.ok(gif.length <= 1_000_000, `${gif.length} bytes`);
  writeFileSync(new URL('../../docs/hello.gif', import.meta.url), gif);
});
