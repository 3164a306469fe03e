import { readFileSync } from 'node:fs';
import tap, { test, type Test } from 'tap';
import type { BrowserContextOptions } from 'playwright-core';
import { startMemcached, withLogin } from '../support/memcached.ts';
import { startWeb } from '../support/web.ts';
import { launchChromium } from './chromium.ts';
import { startDynos, startFront, Visitor } from './visitor.ts';

const PROVED = /^✓ #\d+ to #\d+, each exactly once 50 requests, 5 dynos$/;
const RESTARTED =
  '↺ The count restarted at #1 The store restarted, the session ended, or another app on this host took its cookie';
/** What Chromium itself says of an answer with status 503; nothing that a page could keep it from. */
const OF_CHROMIUM = 'Failed to load resource: the server responded with a status of 503 (Service Unavailable)';
const STEPS = ['Send 50 requests', 'Keep sending while you stop some dynos', 'Remove the shared store'] as const;

const browser = await launchChromium();
tap.teardown(() => browser.close());
const memcached = await startMemcached(tap);
const shared = { MEMCACHE_SERVERS: memcached.address };
const { url } = await startDynos(tap, 5, shared);

function open(t: Test, options?: BrowserContextOptions, address = url): Promise<Visitor> {
  return Visitor.open(t, browser, address, options);
}

function upTo(last: number): number[] {
  return Array.from({ length: last }, (_, index) => index + 1);
}

/** What one dyno after the other says to a visitor with a cookie jar. */
async function replay(addresses: readonly string[]): Promise<number[]> {
  const counts: number[] = [];
  let cookie = '';
  for (const address of addresses) {
    const answer = await fetch(address, { headers: { cookie } });
    cookie = /^[^;]+/.exec(answer.headers.get('set-cookie') ?? '')?.[0] ?? cookie;
    counts.push(Number(/\d+/.exec(await answer.text())));
  }
  return counts;
}

await test('the first visit greets with #1, says who answered, and costs one request', async (t) => {
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const visitor = new Visitor(url, context, await context.newPage());
  const { page } = visitor;
  const requests: string[] = [];
  page.on('request', (request) => requests.push(request.url()));
  const answer = await page.goto(url);
  const dyno = (await answer?.headerValue('x-dyno')) ?? '';
  t.match(dyno, /^web\.[1-5]$/);
  t.equal(await visitor.heading(), 'Hello #1');
  t.equal(await page.title(), 'Hello #1');
  t.equal(await visitor.alone(), 'Hello #1 without a shared store');
  t.match(await page.locator('.line').innerText(), new RegExp(`^Answered by\\s+${dyno}$`));
  t.equal(await visitor.status(), 'Any dyno may answer. Your count never slips.');
  t.same(await visitor.history(), [`#1 from ${dyno}; without a shared store #1`]);
  t.same(await visitor.tour(), [STEPS[0]], 'one step, the one to take now');
  t.notOk(await page.getByText('US$').isVisible());
  t.notOk(await page.getByRole('button', { name: 'Copy result' }).isVisible());
  t.same(
    requests.filter((request) => !request.startsWith('data:')),
    [url],
  );
  t.ok(((await answer?.body())?.length ?? Infinity) <= 18 * 1024);
  t.same(await visitor.faults(), []);
  t.same(visitor.console, []);
});

await test('each refresh adds a tile, and so does coming back', async (t) => {
  const visitor = await open(t);
  const { page } = visitor;
  for (const count of [2, 3, 4]) {
    const answer = await page.reload();
    t.equal(await visitor.heading(), `Hello #${count}`);
    t.match((await visitor.history()).at(-1), `#${count} from ${await answer?.headerValue('x-dyno')}; without`);
  }
  await page.goto('about:blank');
  await page.goBack();
  t.equal(await visitor.heading(), 'Hello #5');
  t.same(await visitor.counts(), upTo(5));
  t.same(visitor.console, []);
});

await test('a burst keeps six requests at the server at once, and proves that each number is given once', async (t) => {
  const front = await startFront(t, url);
  const visitor = await open(t, {}, front.url);
  const { page } = visitor;
  // None is answered before six have arrived. Chromium opens no more connections to a server (HTTP/1.1).
  let release = (): void => undefined;
  const six = new Promise<void>((resolve) => (release = resolve));
  front.hold = ({ headers }) => {
    t.equal(headers.accept, 'text/plain');
    if (front.inFlight.now === 6) release();
    return six;
  };
  t.equal(await visitor.burst(), '✓ #1 to #51, each exactly once 50 requests, 5 dynos', 'it says what the visitor saw');
  t.equal(front.inFlight.most, 6);
  t.equal(await visitor.heading(), 'Hello #51');
  t.equal(await page.title(), 'Hello #51');
  t.same(await visitor.counts(), upTo(51));
  t.same(await visitor.legend(), ['web.1', 'web.2', 'web.3', 'web.4', 'web.5']);
  t.same(await visitor.tour(), [`${STEPS[0]} ✓ #1 to #51, each exactly once`, STEPS[1]]);
  t.same(await visitor.faults(), []);
  front.hold = () => undefined;
  await page.reload();
  t.equal(await visitor.status(), '✓ #1 to #51, each exactly once 50 requests, 5 dynos', 'a reload keeps the verdict');
  t.same(await visitor.counts(), upTo(52));
  t.equal(await visitor.burst(), '✓ #1 to #102, each exactly once 50 requests, 5 dynos', 'and again');
  t.same(visitor.console, []);
});

await test('the numbers without a shared store are those that COUNTERS=memory gives', async (t) => {
  const { dynos } = await startDynos(t, 5, { COUNTERS: 'memory' });
  const visitor = await open(t);
  await visitor.page.reload();
  t.match(await visitor.burst(), PROVED);
  const tiles = (await visitor.history()).map((title) => /from (\S+); without a shared store #(\d+)/.exec(title) ?? []);
  const addresses = tiles.map(([, dyno = '']) => dynos.get(dyno)?.url ?? '');
  t.equal(addresses.length, 52);
  const counts = await replay(addresses);
  t.same(
    tiles.map(([, , number]) => Number(number)),
    counts,
  );
  t.equal(await visitor.alone(), `Hello #${counts.at(-1)} without a shared store`);
});

await test('a result can be copied and sent, where the browser lets it', async (t) => {
  const visitor = await open(t, { permissions: ['clipboard-read', 'clipboard-write'] });
  const { page } = visitor;
  await visitor.burst();
  await page.reload();
  await visitor.burst();
  const alone = /#\d+/.exec(await visitor.alone())?.[0];
  const dynos = (await visitor.history()).slice(-50).map((title) => Number(/web\.(\d)/.exec(title)?.[1]));
  const squares = dynos.map((dyno) => ['🟦', '🟧', '🟩', '🟥', '🟪'][dyno - 1]);
  await page.getByRole('button', { name: 'Copy result' }).click();
  await page.getByRole('button', { name: 'Copied' }).waitFor();
  t.equal(
    await page.evaluate('navigator.clipboard.readText()'),
    [
      `Hello #102 · 50 requests · 5 dynos · 0 repeats · without a shared store: ${alone}`,
      squares.slice(0, 25).join(''),
      squares.slice(25).join(''),
      url.slice(0, -1),
    ].join('\n'),
  );
  const insecure = await open(t, {}, url.replace('127.0.0.1', 'hello.example'));
  t.match(await insecure.burst(), PROVED);
  t.notOk(await insecure.page.getByText('Copy result').isVisible());
  t.same([...visitor.console, ...insecure.console], []);
});

await test('it keeps sending while dynos leave and return, marks them, and loses no greeting', async (t) => {
  const { url: address, router, dynos } = await startDynos(t, 5, shared);
  const visitor = await open(t, {}, address);
  const { page } = visitor;
  await visitor.burst();
  await page.clock.install();
  await page.getByRole('button', { name: 'Keep sending' }).click();
  t.equal(await visitor.status(), 'Sending');
  const gone = ['web.3', 'web.4', 'web.5'];
  for (const name of gone) router.remove(name);
  const isSo = async (): Promise<boolean> =>
    (await visitor.legend()).filter((entry) => entry.endsWith('left')).length === 3;
  while (!(await isSo())) await page.clock.runFor(200);
  t.equal((await visitor.tour())[1], `${STEPS[1]} ✓ 3 dynos left, 0 greetings lost`, 'ticked as it happens');
  t.equal((await visitor.tour())[2], STEPS[2]);
  const marked = (mark: string): Promise<string[]> =>
    visitor.history().then((titles) => titles.filter((title) => title.endsWith(`; ${mark}`)));
  for (const name of gone) t.equal((await marked('left')).filter((title) => title.includes(` ${name};`)).length, 1);
  t.same(await visitor.faults(), []);
  router.add('web.4', dynos.get('web.4')?.port ?? 0);
  while ((await marked('back')).length === 0) await page.clock.runFor(200);
  t.match(await marked('back'), [/ web\.4; .*; back$/]);
  t.equal((await marked('left')).length, 3, 'where it left is still marked');
  await page.getByRole('button', { name: 'Send 50 requests' }).click({ force: true });
  t.equal(await visitor.status(), 'Sending', 'one thing at a time');
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.clock.runFor(200);
  t.match(await visitor.verdict(), /^✓ #1 to #\d+, each exactly once \d+ requests, [345] dynos$/);
  t.same(visitor.console, []);
});

await test('it stops sending when the page is hidden', async (t) => {
  const visitor = await open(t);
  await visitor.page.getByRole('button', { name: 'Keep sending' }).click();
  await visitor.page.getByRole('heading', { name: 'Hello #3' }).waitFor();
  await visitor.page.evaluate(`
    Object.defineProperty(document, 'hidden', { value: true });
    document.dispatchEvent(new Event('visibilitychange'));
  `);
  t.match(await visitor.verdict(), /^#1 to #\d+, each exactly once|^✓ #1 to #\d+, each exactly once/);
  t.ok(await visitor.page.getByRole('button', { name: 'Keep sending' }).isVisible());
});

await test('a burst continues in a background tab', async (t) => {
  const visitor = await open(t);
  const { page } = visitor;
  await page.getByRole('button', { name: 'Send 50 requests' }).click();
  await (await visitor.context.newPage()).bringToFront();
  t.match(await visitor.verdict(), PROVED);
});

await test('dynos that each count in their own memory are found out', async (t) => {
  const visitor = await open(t, {}, (await startDynos(t, 5, { COUNTERS: 'memory' })).url);
  t.equal(await visitor.status(), 'Each dyno counts alone here. With two, numbers repeat.');
  t.same(await visitor.tour(), [STEPS[2]]);
  const verdict = await visitor.burst();
  const [, again] = /^(\d+) of 50 numbers had been shown before 50 requests, 5 dynos$/.exec(verdict) ?? [];
  const counts = await visitor.counts();
  t.equal(Number(again), 51 - new Set(counts).size);
  t.ok(Number(again) > 25, verdict);
  t.equal(await visitor.heading(), `Hello #${counts.at(-1)}`);
  t.equal(await visitor.alone(), 'after 51 greetings', 'what happened, not what might have');
  t.match((await visitor.history())[16], /^#\d+ from web\.\d; greeting 17$/);
  t.same(await visitor.tour(), [`${STEPS[2]} ✓ ${again} of 50 numbers had been shown before`]);
  t.notMatch(await visitor.page.locator('main').innerText(), /memcached|never slips|✓ #/i);
  t.same(await visitor.faults(), []);
  t.same(visitor.console, []);
});

await test('one dyno proves nothing, and the page says so', async (t) => {
  for (const env of [{}, shared] as Record<string, string>[]) {
    const { url: address } = await startWeb(t, env);
    const visitor = await open(t, {}, address);
    const words = '#1 to #51, each exactly once 50 requests, 1 dyno. One dyno proves nothing yet: add some';
    t.equal(await visitor.burst(), words, 'and there is no tick');
    if (env === shared) t.equal(await visitor.alone(), 'Hello #51 without a shared store');
    t.same(await visitor.faults(), []);
  }
});

await test('starting over cancels what is on its way, which then starts no session', async (t) => {
  const front = await startFront(t, url);
  const visitor = await open(t, {}, front.url);
  const { page } = visitor;
  // Six greetings wait before the app until the session has ended. They would start the next one.
  let ended = (): void => undefined;
  const end = new Promise<void>((resolve) => (ended = resolve));
  const full = new Promise<void>((resolve) => {
    front.hold = ({ method, headers }) => {
      if (front.inFlight.now === 6) resolve();
      if (method === 'GET' && headers.accept === 'text/plain') return end;
      if (method === 'GET') ended();
      return undefined;
    };
  });
  await page.getByRole('button', { name: 'Send 50 requests' }).click();
  await full;
  await page.getByRole('button', { name: 'Start over' }).click();
  await end;
  await page.getByText('never slips').waitFor();
  t.equal(await visitor.heading(), 'Hello #1');
  t.same(await visitor.counts(), [1]);
  await page.reload();
  t.equal(await visitor.heading(), 'Hello #2', 'nobody else has counted');
  t.same(visitor.console, []);
});

await test('while the store is away the page shows what fails, then says why, and returns without a click', async (t) => {
  const front = await startFront(t, url);
  const visitor = await open(t, {}, front.url);
  const { page } = visitor;
  await page.reload();
  await memcached.kill();
  let sent = 0;
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  front.hold = () => (++sent === 50 ? released : undefined);
  await page.getByRole('button', { name: 'Send 50 requests' }).click();
  await page.getByText('49 failed. The session store').waitFor();
  t.match(await visitor.status(), /^Sending 49 failed\./);
  release();
  t.match(await visitor.verdict(), /^50 of 50 requests failed The session store/);
  t.same(await visitor.tour(), [STEPS[0]]);
  t.same(await visitor.counts(), [1, 2]);
  await page.getByRole('button', { name: 'Start over' }).click();
  await page.getByText('Starting over failed').waitFor();
  t.match(await visitor.status(), /^✗ Starting over failed The session store/);
  t.same(await visitor.counts(), [1, 2], 'what could not end is not forgotten');
  await visitor.stay();
  t.equal(await visitor.heading(), 'No count right now');
  t.equal(await page.locator('button:visible').count(), 0);
  t.notMatch(await page.locator('main').innerText(), /never slips|without a shared store/);
  t.same(await visitor.faults(), []);
  await page.goto(front.url);
  await memcached.restart();
  await page.getByRole('heading', { name: 'Hello #1' }).waitFor();
  t.equal(await visitor.status(), RESTARTED, 'no claim outlives what it claims');
  t.same(await visitor.counts(), [1]);
  t.same(new Set(visitor.console), new Set([OF_CHROMIUM]));
});

await test('a store that restarts during a burst is one event', async (t) => {
  const front = await startFront(t, url);
  const visitor = await open(t, {}, front.url);
  let sent = 0;
  front.hold = async () => {
    if (++sent !== 20) return;
    await memcached.kill();
    await memcached.restart();
  };
  const status = await visitor.burst();
  t.equal(status, RESTARTED);
  await visitor.page.reload();
  t.match(await visitor.burst(), PROVED, 'and the count continues from there');
});

await test('a session that ends meanwhile is told from dynos that count alone', async (t) => {
  const visitor = await open(t);
  await visitor.page.reload();
  await visitor.context.clearCookies();
  await visitor.page.reload();
  t.equal(await visitor.status(), RESTARTED);
  t.same(await visitor.counts(), [1]);
});

await test('what another tab counted is not made up', async (t) => {
  const one = await open(t);
  const other = await one.openTab();
  t.equal(await other.alone(), 'Hello #? without a shared store');
  t.match(await other.history(), [/^#2 from .*; without a shared store #\?$/]);
  await one.page.reload();
  t.same(await one.counts(), [1, 3]);
  const front = await startFront(t, url);
  const third = new Visitor(front.url, one.context, await one.context.newPage());
  await third.page.goto(front.url);
  // In the middle of its burst another tab counts.
  let sent = 0;
  let burst: Promise<string> | undefined;
  front.hold = () => (++sent > 25 ? (burst ??= one.burst()) : undefined);
  t.match(await third.burst(), /^✓ 50 numbers from #5 to #104, none twice 50 requests, 5 dynos$/);
  const counts = [...(await one.counts()), ...(await other.counts()), ...(await third.counts())];
  t.same(
    counts.sort((a, b) => a - b),
    upTo(104),
  );
  t.same([...one.console, ...other.console, ...third.console], []);
});

await test('requests that fail are told of, without a tick', async (t) => {
  const visitor = await open(t);
  let requests = 0;
  await visitor.page.route(/./, (route) => {
    requests++;
    if (requests === 20) return route.fulfill({ contentType: 'text/html', body: '<h1>Please log in</h1>' });
    return requests === 30 ? route.abort() : route.continue();
  });
  t.match(
    await visitor.burst(),
    /^2 of 50 requests failed 48 requests, 5 dynos\. #1 to #49, each exactly once\. (No answer came|Not a greeting)$/,
  );
});

await test('it works at an address that holds credentials', async (t) => {
  const visitor = await open(t, {}, url.replace('//', '//user:password@'));
  t.match(await visitor.burst(), PROVED);
  await visitor.page.getByRole('button', { name: 'Start over' }).click();
  await visitor.page.getByText('never slips').waitFor();
  t.equal(await visitor.heading(), 'Hello #1');
});

await test('the last 100 greetings are drawn in rows that begin at 1, 11, 21, and the rest is a count', async (t) => {
  for (const [width, columns] of [
    [320, 5],
    [1280, 10],
  ] as const) {
    const visitor = await open(t, { viewport: { width, height: 640 } });
    // 500 of which this visitor has had; the session is another, so that the count continues from it.
    await visitor.burst();
    await visitor.burst();
    await visitor.remember(upTo(500).map((count) => ({ count: count - 399, dyno: 'web.1' })));
    await visitor.page.reload();
    const counts = await visitor.counts();
    t.equal(counts.length, 100);
    t.equal(counts.at(-1), 102);
    t.equal((await visitor.legend()).at(-1), '401 earlier');
    const lefts = await visitor.page.evaluate<number[]>(
      `[...document.querySelectorAll('.grid li')].map((tile) => tile.getBoundingClientRect().left)`,
    );
    const places = [...new Set(lefts)].sort((a, b) => a - b);
    t.equal(places.length, columns);
    lefts.forEach((left, index) => t.equal(left, places[((counts[index] ?? 0) - 1) % columns]));
    t.same(await visitor.faults(), []);
    t.same(visitor.console, []);
  }
});

await test('without JavaScript it greets, offers a refresh, and claims nothing that it does not show', async (t) => {
  const visitor = await open(t, { javaScriptEnabled: false });
  const { page } = visitor;
  t.match(await page.locator('.line').innerText(), /^Answered by web\.[1-5]$/);
  await page.getByRole('link', { name: 'Refresh' }).click();
  await page.getByRole('heading', { name: 'Hello #2' }).waitFor();
  t.notMatch(await page.locator('main').innerText(), /50 requests|Keep sending|Copy|without a shared store|US\$/);
  await page.getByRole('button', { name: 'Start over' }).click();
  await page.getByRole('heading', { name: 'Hello #1' }).waitFor();
  t.same(visitor.console, []);

  // axe-core itself needs JavaScript; what it sees here is the page without its script.
  const scriptless = await open(t);
  await scriptless.page.route(url, async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, body: (await answer.text()).replace(/<script>[^]*<\/script>/, '') });
  });
  await scriptless.page.reload();
  t.notOk(await scriptless.page.getByRole('button', { name: 'Send 50 requests' }).isVisible());
  t.same(await scriptless.faults(), []);
});

await test('nothing scrolls sideways on a screen of 320 pixels, nor with text of twice the size', async (t) => {
  const visitor = await open(t, { viewport: { width: 320, height: 640 } });
  await visitor.burst();
  await visitor.page.getByText('Is this your app?').click();
  for (const size of ['100%', '200%']) {
    await visitor.page.evaluate(`document.documentElement.style.fontSize = '${size}'`);
    t.equal(await visitor.page.evaluate('document.documentElement.scrollWidth'), 320);
    t.same(await visitor.faults(), []);
  }
});

for (const colorScheme of ['light', 'dark'] as const) {
  await test(`twenty dynos are told apart in ${colorScheme} colours, and without any`, async (t) => {
    const visitor = await open(t, { colorScheme });
    const { page } = visitor;
    for (let visits = 1; visits < 20; visits++) await page.reload();
    await visitor.remember(upTo(20).map((count) => ({ count, dyno: `web.${count}` })));
    await page.reload();
    const tiles = await page.evaluate<[string, string][]>(
      `[...document.querySelectorAll('.tile > [data-sign]')].map((sign) => [sign.dataset.sign, getComputedStyle(sign).color])`,
    );
    t.equal(new Set(tiles.slice(0, 20).map(([sign]) => sign)).size, 20, 'each has a sign of its own');
    const [ground = NaN, ...colours] = [
      await page.evaluate<string>('getComputedStyle(document.body).backgroundColor'),
      ...new Set(tiles.map(([, colour]) => colour)),
    ].map(luminance);
    t.equal(ground < 0.05, colorScheme === 'dark');
    t.equal(colours.length, 5);
    for (const colour of colours) {
      const contrast = (Math.max(colour, ground) + 0.05) / (Math.min(colour, ground) + 0.05);
      t.ok(contrast >= 3, `contrast of ${contrast.toFixed(2)}`);
    }
    t.same(await visitor.faults(), []);
    // Where the system decides on colours, the signs still tell dynos apart.
    await page.emulateMedia({ forcedColors: 'active' });
    const [back = '', front = ''] = await page.evaluate<string[]>(
      `[document.body, document.querySelector('.tile b')].map((part) => part === document.body
        ? getComputedStyle(part).backgroundColor : getComputedStyle(part).color)`,
    );
    t.ok(Math.abs(luminance(back) - luminance(front)) > 0.5, `${front} on ${back}`);
    t.same(visitor.console, []);
  });
}

await test('nothing moves', async (t) => {
  const visitor = await open(t, { reducedMotion: 'no-preference' });
  await visitor.page.getByRole('button', { name: 'Send 50 requests' }).click();
  await visitor.page.locator('.grid li').nth(10).waitFor();
  t.equal(await visitor.page.evaluate('document.getAnimations().length'), 0);
});

await test('the keyboard reaches each control, and shows where it is', async (t) => {
  const visitor = await open(t);
  const focused = async (): Promise<string> => {
    await visitor.page.keyboard.press('Tab');
    return visitor.page.evaluate<string>(
      `(({ innerText }, { outlineStyle, outlineWidth }) => [innerText, outlineStyle, outlineWidth].join(' '))(
        document.activeElement, getComputedStyle(document.activeElement))`,
    );
  };
  t.equal(await focused(), 'Send 50 requests solid 3px');
  await visitor.page.keyboard.press('Enter');
  t.match(await visitor.verdict(), PROVED);
  t.equal(await focused(), 'Keep sending solid 3px');
  t.equal(await focused(), 'Copy result solid 3px');
  t.equal(await focused(), 'Start over solid 3px');
  t.equal(await focused(), 'Is this your app? solid 3px');
  await visitor.page.keyboard.press('Enter');
  t.ok(await visitor.page.getByText('US$125 a month').isVisible());
  t.same(await visitor.faults(), []);
});

await test('printed from dark mode it is ink on paper', async (t) => {
  const visitor = await open(t, { colorScheme: 'dark' });
  await visitor.burst();
  await visitor.page.emulateMedia({ media: 'print' });
  const [ground = '', ink = ''] = await visitor.page.evaluate<string[]>(
    `(({ backgroundColor, color }) => [backgroundColor, color])(getComputedStyle(document.body))`,
  );
  t.ok(luminance(ground) > 0.9 && luminance(ink) < 0.05);
  t.equal(await visitor.page.locator('button:visible').count(), 0);
});

await test('a browser that keeps nothing for the page gets its greeting all the same', async (t) => {
  const context = await browser.newContext();
  t.teardown(() => context.close());
  await context.addInitScript(`
    Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('refused', 'SecurityError') } })
  `);
  const visitor = new Visitor(url, context, await context.newPage());
  await visitor.page.goto(url);
  t.match(await visitor.burst(), PROVED);
  await visitor.page.reload();
  t.match(await visitor.history(), [/^#52 from .*#\?$/]);
  t.same(visitor.console, []);
});

await test('a history that the page did not write is dropped', async (t) => {
  const visitor = await open(t);
  for (const text of ['{', 'null', '7', '[]', '{}', '{"store":"memory"}']) {
    await visitor.page.evaluate(`sessionStorage.setItem('hello-n', '${text}')`);
    await visitor.page.reload();
    t.equal((await visitor.counts()).length, 1, text);
  }
  t.same(visitor.console, []);
});

await test('after a fresh deploy the page says that the store is warming up', withLogin(), async (t) => {
  // A login that is not accepted yet.
  const store = await startMemcached(t, { login: { username: 'app', password: 'right' } });
  const { url: address } = await startWeb(t, {
    MEMCACHIER_SERVERS: store.address,
    MEMCACHIER_USERNAME: 'app',
    MEMCACHIER_PASSWORD: 'early',
  });
  const visitor = await open(t, {}, address);
  t.equal(await visitor.heading(), 'No count right now');
  t.ok(await visitor.page.getByText('The session store is warming up').isVisible());
  await visitor.page.waitForEvent('framenavigated');
  await visitor.stay();
  t.same(await visitor.faults(), []);
});

await test('the page links to its source and to its deployment once its copy is published', async (t) => {
  const { repository } = JSON.parse(readFileSync(new URL('../../app.json', import.meta.url), 'utf8')) as {
    repository: string;
  };
  const visitor = await open(t);
  const links = visitor.page.getByRole('link');
  const targets = await links.evaluateAll((all: { href: string }[]) => all.map(({ href }) => href));
  const published = [repository, `https://www.heroku.com/deploy?template=${repository}`];
  t.same(targets, repository.includes('/OWNER/') ? [] : published);
});

await test('the file opens without a server', async (t) => {
  const visitor = await open(t, {}, new URL('../../views/hello.html', import.meta.url).href);
  t.ok(await visitor.page.getByText('On Heroku an app runs in dynos').isVisible());
  t.notMatch(await visitor.page.locator('main').innerText(), /\{\{/);
  t.same(visitor.console, []);
});

/** The relative luminance of `rgb(0, 0, 0)`, as WCAG 2 defines it. */
function luminance(colour: string): number {
  const [red = NaN, green = NaN, blue = NaN] = [...colour.matchAll(/\d+/g)].map(([value]) => {
    const part = Number(value) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
