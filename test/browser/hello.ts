import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import tap, { test, type Test } from 'tap';
import type { BrowserContextOptions } from 'playwright-core';
import { startMemcached } from '../support/memcached.ts';
import { launchChromium } from './chromium.ts';
import { startDynos, startFront, Visitor } from './visitor.ts';

const PROVED = /^✓ #\d+ to #\d+, each exactly once 50 requests, 5 dynos$/;
const RESTARTED = '↺ The count restarted, now #1 The store forgot it, the session ended, or the cookie was lost';
const STEPS = ['Send 50 requests', 'Keep sending while you stop some dynos', 'Send 50 without a shared store'] as const;

const browser = await launchChromium();
tap.teardown(() => browser.close());
const memcached = await startMemcached(tap);
const shared = await startDynos(tap, { MEMCACHE_SERVERS: memcached.address });
const separate = await startDynos(tap, { COUNTERS: 'memory' });
const { url } = shared;

function open(t: Test, options?: BrowserContextOptions, address = url): Promise<Visitor> {
  return Visitor.open(t, browser, address, options);
}

function upTo(last: number): number[] {
  return Array.from({ length: last }, (_, index) => index + 1);
}

await test('a visit greets, says who answered, and costs one request, also by a reload and by going back', async (t) => {
  const visitor = await open(t);
  const { page } = visitor;
  t.equal(await visitor.heading(), 'Hello #1');
  t.equal(await page.title(), 'Hello #1');
  t.equal(await visitor.alone(), 'Without a shared store: Hello #1');
  const [, dyno] = /^Answered by\s+(web\.[1-5])$/.exec(await page.locator('.line').innerText()) ?? [];
  t.equal(await visitor.status(), 'Any dyno may answer. All share one count.');
  t.same(await visitor.history(), [`#1 from ${dyno}; without a shared store #1`]);
  t.same(await visitor.tour(), [STEPS[0]], 'one step, the one to take now');
  t.notOk(await page.getByText('US$').isVisible());
  t.notOk(await page.getByText('Copy result').isVisible());
  const isPublished = !readFileSync('app.json', 'utf8').includes('/OWNER/');
  t.equal(await page.getByRole('link').count(), isPublished ? 2 : 0, 'its source, and how to deploy it');
  t.same(await page.evaluate('performance.getEntriesByType("resource")'), []);
  t.same(await visitor.faults(), []);
  const answer = await page.reload();
  t.equal(await visitor.heading(), 'Hello #2');
  t.match((await visitor.history())[1], `#2 from ${await answer?.headerValue('x-dyno')}; without`);
  await page.goto('about:blank');
  await page.goBack();
  t.equal(await visitor.heading(), 'Hello #3');
  // As a browser that has kept the page in memory shows it again.
  await page.evaluate(`dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))`);
  await page.getByRole('heading', { name: 'Hello #4' }).waitFor();
  t.same(await visitor.counts(), [1, 2, 3, 4]);
});

await test('a burst keeps six requests at the server at once, and proves that each number is given once', async (t) => {
  const front = await startFront(t, url);
  const visitor = await open(t, {}, front.url);
  const { page } = visitor;
  // None is answered before six have arrived. Chromium opens no more connections to a server (HTTP/1.1).
  const arrivals = new EventEmitter();
  const six = once(arrivals, '6');
  front.hold = ({ headers }) => {
    t.equal(headers.accept, 'text/plain');
    t.ok(front.inFlight <= 6);
    arrivals.emit(String(front.inFlight));
    return six;
  };
  t.equal(await visitor.burst(), '✓ #2 to #51, each exactly once 50 requests, 5 dynos', 'it says what was sent');
  t.equal(await visitor.heading(), 'Hello #51');
  t.equal(await page.title(), 'Hello #51');
  t.same(await visitor.counts(), upTo(51));
  t.same(await visitor.legend(), ['web.1', 'web.2', 'web.3', 'web.4', 'web.5']);
  t.same(await visitor.tour(), [`${STEPS[0]} ✓ #2 to #51, each exactly once`, STEPS[1]]);
  front.hold = undefined;
  await page.reload();
  t.equal(await visitor.status(), '✓ #2 to #51, each exactly once 50 requests, 5 dynos', 'a reload keeps the verdict');
  t.same(await visitor.counts(), upTo(52));
  t.equal(await visitor.burst(), '✓ #53 to #102, each exactly once 50 requests, 5 dynos', 'and again');
});

await test('the numbers without a shared store are those that COUNTERS=memory gives', async (t) => {
  const visitor = await open(t);
  await visitor.page.reload();
  t.match(await visitor.burst(), PROVED);
  const history = await visitor.history();
  t.equal(history.length, 52);
  let [cookie, last] = ['', ''];
  for (const title of history) {
    const [, dyno, number] = /from web\.(\d); without a shared store (#\d+)$/.exec(title) ?? [];
    const answer = await fetch(separate.dynos[Number(dyno) - 1]?.url ?? '', { headers: { cookie } });
    cookie = answer.headers.getSetCookie()[0]?.replace(/;.*/, '') ?? cookie;
    last = (await answer.text()).trim();
    t.equal(last, `Hello ${number}`, title);
  }
  t.equal(await visitor.alone(), `Without a shared store: ${last}`);
});

await test('a result can be copied and sent', async (t) => {
  const visitor = await open(t, { permissions: ['clipboard-read', 'clipboard-write'] });
  await visitor.burst();
  await visitor.page.reload();
  await visitor.burst();
  const alone = /#\d+/.exec(await visitor.alone())?.[0];
  const dynos = (await visitor.history()).slice(-50).map((title) => Number(/web\.(\d)/.exec(title)?.[1]));
  const squares = dynos.map((dyno) => ['🟦', '🟧', '🟩', '🟥', '🟪'][dyno - 1]);
  await visitor.click('Copy result');
  await visitor.page.getByRole('button', { name: 'Copied' }).waitFor();
  t.equal(
    await visitor.page.evaluate('navigator.clipboard.readText()'),
    [
      `Hello #102 · 50 requests · 5 dynos · 0 repeats · without a shared store: ${alone}`,
      squares.join(''),
      url.slice(0, -1),
    ].join('\n'),
  );
  await visitor.click('Keep sending');
  await visitor.page.getByRole('heading', { name: 'Hello #104' }).waitFor();
  await visitor.click('Stop');
  const [, requests] = / (\d+) requests?,/.exec(await visitor.verdict()) ?? [];
  await visitor.click('Copy result');
  await visitor.page.getByRole('button', { name: 'Copied' }).waitFor();
  const lines = String(await visitor.page.evaluate('navigator.clipboard.readText()')).split('\n');
  t.equal(lines.length, 3, 'few requests take one line');
  t.equal(lines[1]?.match(/./gu)?.length, Number(requests), 'a square for each');
  await visitor.page.evaluate(`navigator.clipboard.writeText = () => Promise.reject(new DOMException('refused'))`);
  await visitor.click('Copied');
  await visitor.page.getByRole('button', { name: 'Not copied' }).waitFor();
});

await test('a burst works at an address that holds credentials, and at one without https, where nothing is copied', async (t) => {
  for (const host of ['user:password@127.0.0.1', 'hello.example']) {
    const visitor = await open(t, {}, url.replace('127.0.0.1', host));
    t.match(await visitor.burst(), PROVED, host);
    t.equal(await visitor.page.getByText('Copy result').isVisible(), host !== 'hello.example');
  }
});

await test('it keeps sending while dynos leave and return, marks them, and loses no greeting', async (t) => {
  const { router, dynos } = shared;
  t.teardown(() => dynos.forEach(({ port }, index) => router.add(`web.${index + 1}`, port)));
  const visitor = await open(t);
  const { page } = visitor;
  await visitor.burst();
  await visitor.keepSending();
  t.equal(await visitor.status(), 'Sending');
  const marked = async (mark: string): Promise<string[]> =>
    (await visitor.history()).filter((title) => title.endsWith(`; ${mark}`));
  const gone = ['web.3', 'web.4', 'web.5'];
  for (const name of gone) router.remove(name);
  while ((await marked('gone')).length < 3) await visitor.tick();
  const left = (await marked('gone')).map((title) => /web\.\d/.exec(title)?.[0]);
  t.same(left.sort(), gone);
  t.same((await visitor.legend()).slice(0, 5), ['web.1', 'web.2', 'web.3 gone', 'web.4 gone', 'web.5 gone']);
  const [first, second, ...others] = await visitor.tour();
  t.match(second, new RegExp(`^${STEPS[1]} ✓ 3 dynos gone, 0 of \\d+ greetings lost$`));
  t.same(others, [STEPS[2]]);
  t.same(await visitor.faults(), []);
  router.add('web.4', dynos[3]?.port ?? 0);
  while ((await marked('back')).length === 0) await visitor.tick();
  t.matchOnly(await marked('back'), [/ web\.4; .*; back$/]);
  t.equal((await marked('gone')).length, 3, 'where it left is still marked');
  t.match((await visitor.tour())[1], /✓ 3 dynos gone, 0 of /, 'the most that were gone at once');
  await page.getByRole('button', { name: 'Send 50 requests' }).click({ force: true });
  t.equal(await visitor.status(), 'Sending', 'one thing at a time');
  await visitor.click('Stop');
  await visitor.tick();
  t.match(await visitor.verdict(), /^✓ #52 to #\d+, each exactly once \d+ requests, 5 dynos$/);
  t.equal((await visitor.tour())[0], first, 'it stays with the 50 requests that it is about');
});

await test('a page that is hidden stops an endless stream, and finishes a burst, in which nothing moves', async (t) => {
  const visitor = await open(t);
  await visitor.page.evaluate(`Object.defineProperty(document, 'hidden', { value: true })`);
  const hide = (): Promise<unknown> => visitor.page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`);
  await visitor.click('Keep sending');
  await visitor.page.getByRole('heading', { name: 'Hello #3' }).waitFor();
  await hide();
  t.match(await visitor.verdict(), /^(✓ )?#2 to #\d+, each exactly once/);
  t.same(await visitor.tour(), [STEPS[0]], 'so few are no proof');
  t.ok(await visitor.page.getByRole('button', { name: 'Keep sending' }).isVisible());
  await visitor.click('Send 50 requests');
  await visitor.page.locator('.grid li').nth(10).waitFor();
  t.equal(await visitor.page.evaluate('document.getAnimations().length'), 0);
  await hide();
  t.match(await visitor.verdict(), PROVED);
});

await test('dynos that each count in their own memory are found out', async (t) => {
  const visitor = await open(t, {}, separate.url);
  t.equal(await visitor.status(), 'Each dyno counts alone here. With two, numbers repeat.');
  t.same(await visitor.tour(), [STEPS[2]]);
  const verdict = await visitor.burst();
  const [, again] = /^(\d+) of 50 numbers had been shown before 50 requests, 5 dynos$/.exec(verdict) ?? [];
  const counts = await visitor.counts();
  t.equal(Number(again), 51 - new Set(counts).size);
  t.ok(Number(again) > 25, verdict);
  t.equal(await visitor.heading(), `Hello #${counts.at(-1)}`);
  t.equal(await visitor.alone(), 'Your greeting 51', 'what happened, not what might have');
  t.match((await visitor.history())[16], /^#\d+ from web\.\d; greeting 17$/);
  t.same(await visitor.tour(), [`${STEPS[2]} ✓ ${again} of 50 numbers had been shown before`]);
  t.notMatch(await visitor.page.locator('main').innerText(), /memcached|share one count|✓ #/i);
  t.same(await visitor.faults(), []);
  const { router, dynos } = separate;
  t.teardown(() => router.add('web.5', dynos[4]?.port ?? 0));
  await visitor.keepSending();
  router.remove('web.5');
  while (!(await visitor.legend()).includes('web.5 gone')) await visitor.tick();
  t.equal((await visitor.tour()).length, 1, 'who leaves takes its counts along');
});

await test('one dyno proves nothing, and the page says so', async (t) => {
  for (const { dynos } of [separate, shared]) {
    const visitor = await open(t, {}, dynos[0]?.url);
    const words = '#2 to #51, each exactly once 50 requests, 1 dyno. One dyno proves nothing yet';
    t.equal(await visitor.burst(), words, 'and there is no tick');
  }
  const { router, dynos } = shared;
  const others = dynos.slice(1).map((dyno, index) => [`web.${index + 2}`, dyno.port] as const);
  const addOthers = (): void => others.forEach(([name, port]) => router.add(name, port));
  t.teardown(addOthers);
  const visitor = await open(t);
  t.match(await visitor.burst(), PROVED);
  for (const [name] of others) router.remove(name);
  await visitor.click('Start over');
  await visitor.page.getByRole('heading', { name: 'Hello #1', exact: true }).waitFor();
  t.match(
    await visitor.burst(),
    /^#2 to #51, each exactly once 50 requests, 1 dyno\./,
    'nor if five proved the same before',
  );
});

await test('numbers are told from the lowest that this burst gave, if the tab began with a higher one', async (t) => {
  const visitor = await open(t, {}, separate.dynos[0]?.url);
  await visitor.remember([{ count: 500, dyno: 'web.1' }], 'memory');
  t.match(await visitor.burst(), /^#3 to #52, each exactly once /);
  await visitor.remember([{ count: 60, dyno: 'web.1' }], 'memory');
  t.equal(await visitor.burst(), '1 of 50 numbers had been shown before 50 requests, 1 dyno', 'which proves something');
});

await test('a dyno is back from its first greeting after it had left, in whatever order they arrived', async (t) => {
  const visitor = await open(t);
  const dynoOf = (count: number): string => (count % 30 === 1 ? 'web.1' : 'web.2');
  await visitor.remember(upTo(32).map((count) => ({ count: count - 40, dyno: dynoOf(count) })));
  const marks = (await visitor.history()).filter((title) => /; (gone|back)$/.test(title));
  t.matchOnly(marks, [/^#-39 from web\.1; .*; gone$/, /^#-9 from web\.1; .*; back$/]);
});

await test('a dyno has left without a loss if it answered and left in one run in which no request failed', async (t) => {
  const { router, dynos } = shared;
  t.teardown(() => dynos.forEach(({ port }, index) => router.add(`web.${index + 1}`, port)));
  const visitor = await open(t);
  const { page } = visitor;
  let requests = 0;
  await page.route(/./, (route) => (++requests === 50 ? route.abort() : route.continue()));
  t.match(await visitor.burst(), /^1 of 50 requests failed/);
  t.notOk(await page.getByText('Copy result').isVisible(), 'nor is there a result to be copied');
  await page.clock.install();
  router.remove('web.5');
  await visitor.click('Keep sending');
  while (!(await visitor.legend()).includes('web.5 gone')) await visitor.tick();
  t.same(await visitor.tour(), [STEPS[0]], 'it had left before');
  router.remove('web.4');
  while (!(await visitor.legend()).includes('web.4 gone')) await visitor.tick();
  t.matchOnly(await visitor.tour(), [STEPS[0], /✓ 1 dyno gone, 0 of \d+ greetings lost$/]);
});

await test('starting over cancels what is on its way, which then starts no session', async (t) => {
  const front = await startFront(t, url);
  const visitor = await open(t, {}, front.url);
  // Six greetings wait before the app until the session has ended. They would start the next one.
  const events = new EventEmitter();
  const [full, end] = [once(events, 'full'), once(events, 'end')];
  front.hold = ({ method, headers }) => {
    if (front.inFlight === 6) events.emit('full');
    if (method === 'GET' && headers.accept === 'text/plain') return end;
    return method === 'GET' && events.emit('end');
  };
  await visitor.click('Send 50 requests');
  await full;
  await visitor.click('Start over');
  await end;
  await visitor.page.getByText('share one count').waitFor();
  t.equal(await visitor.heading(), 'Hello #1');
  t.same(await visitor.counts(), [1]);
  await visitor.page.reload();
  t.equal(await visitor.heading(), 'Hello #2', 'nobody else has counted');
});

await test('while the store is away the page shows what fails, then says why, and returns without a click', async (t) => {
  const front = await startFront(t, url);
  const visitor = await open(t, {}, front.url);
  const { page } = visitor;
  await page.reload();
  await memcached.kill();
  const events = new EventEmitter();
  const shown = once(events, 'shown');
  let sent = 0;
  front.hold = () => (++sent === 50 ? shown : undefined);
  await visitor.click('Send 50 requests');
  await page.getByText('The session store cannot be reached').waitFor();
  events.emit('shown');
  t.match(await visitor.verdict(), /^50 of 50 requests failed The session store/);
  t.same(await visitor.tour(), [STEPS[0]]);
  await visitor.click('Start over');
  await page.getByText('Starting over not confirmed').waitFor();
  t.match(await visitor.status(), /^✗ Starting over not confirmed The session store/);
  t.same(await visitor.counts(), [1, 2], 'what could not end is not forgotten');
  // Without the reload that its header asks for, as long as it is looked at.
  await page.route(front.url, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, headers: { ...response.headers(), refresh: '600' } });
  });
  await page.reload();
  t.equal(await visitor.heading(), 'No count right now');
  t.notMatch(await page.locator('main').innerText(), /share one count|without a shared store/);
  t.same(await visitor.faults(), []);
  await page.unroute(front.url);
  await page.reload();
  await memcached.restart();
  await page.getByRole('heading', { name: 'Hello #1' }).waitFor();
  t.equal(await visitor.status(), RESTARTED, 'no claim outlives what it claims');
  t.same(await visitor.counts(), [1]);
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
  t.equal(await visitor.burst(), RESTARTED);
  await visitor.page.reload();
  t.match(await visitor.burst(), PROVED, 'and the count continues from there');
});

await test('what another tab counted is not made up', async (t) => {
  const front = await startFront(t, url);
  const one = await open(t);
  const other = await one.openTab(url);
  t.equal(await other.alone(), 'Without a shared store: Hello #?');
  t.matchOnly(await other.history(), [/^#2 from .*; without a shared store #\?$/]);
  await other.click('Keep sending');
  await other.page.getByRole('heading', { name: 'Hello #3' }).waitFor();
  t.match((await other.history())[0], /^#2 from .*; without a shared store #\?$/, 'nor while it sends');
  await other.click('Stop');
  await other.verdict();
  const seen = Math.max(...(await other.counts()));
  await one.page.reload();
  t.same(await one.counts(), [1, seen + 1]);
  const third = await one.openTab(front.url);
  // In the middle of its burst another tab counts.
  let sent = 0;
  const lookAndBurst = async (): Promise<string> => {
    t.match((await third.history())[0], /#\?$/, 'nor while a burst is on its way');
    return one.burst();
  };
  let burst: Promise<string> | undefined;
  front.hold = () => (++sent > 25 ? (burst ??= lookAndBurst()) : undefined);
  const numbers = new RegExp(`^✓ 50 numbers from #${seen + 3} to #${seen + 102}, none twice 50 requests, 5 dynos$`);
  t.match(await third.burst(), numbers);
  const counts = [...(await one.counts()), ...(await other.counts()), ...(await third.counts())];
  counts.sort((a, b) => a - b);
  t.same(counts, upTo(seen + 102));
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
    /^2 of 50 requests failed 48 greetings, 5 dynos\. #2 to #49, each exactly once\. (No answer came|Not a greeting)$/,
  );
  await visitor.page.unroute(/./);
  await visitor.page.reload();
  t.equal(await visitor.status(), 'Any dyno may answer. All share one count.', 'and not any more when it is over');
});

await test('the last ten rows are drawn, which begin at 1, 11, 21, and the rest is a count', async (t) => {
  const visitor = await open(t);
  await visitor.burst();
  await visitor.burst();
  // As if this tab had seen 501 greetings; the session's count continues from the last.
  await visitor.remember(upTo(501).map((count) => ({ count: count - 400, dyno: 'web.1' })));
  const counts = await visitor.counts();
  t.same(counts, upTo(102).slice(10));
  t.equal((await visitor.legend()).at(-1), '410 earlier greetings not shown');
  for (const [width, columns] of [
    [320, 5],
    [480, 5],
    [704, 10],
    [1280, 10],
  ] as const) {
    await visitor.page.setViewportSize({ width, height: 640 });
    const tiles = await visitor.page.evaluate<[left: number, right: number, content: number][]>(
      `[...document.querySelectorAll('.grid li')].map((item) => [item, item.firstChild].map((each) =>
        each.getBoundingClientRect())).map(([item, tile]) => [item.left, item.right, tile.right])`,
    );
    const places = [...new Set(tiles.map(([left]) => left))].sort((a, b) => a - b);
    t.equal(places.length, columns);
    tiles.forEach(([left], index) => t.equal(left, places[((counts[index] ?? 0) - 1) % columns]));
    t.ok(
      tiles.every(([, right, content]) => content <= right),
      `no number reaches the next one at ${width} pixels`,
    );
  }
});

await test('without JavaScript it greets, offers a refresh, and claims nothing that it does not show', async (t) => {
  const visitor = await open(t, { javaScriptEnabled: false });
  const { page } = visitor;
  await page.getByRole('link', { name: 'Refresh' }).click();
  await page.getByRole('heading', { name: 'Hello #2' }).waitFor();
  t.notMatch(await page.locator('main').innerText(), /50 requests|Keep sending|Copy|without a shared store|US\$/);
  // axe-core itself needs JavaScript; what it sees here is the page without its script.
  const scriptless = await open(t);
  await scriptless.page.setContent((await page.content()).replace(/<script>[^]*<\/script>/, ''));
  t.same(await scriptless.faults(), []);
  await visitor.click('Start over');
  await page.getByRole('heading', { name: 'Hello #1' }).waitFor();
});

await test('nothing scrolls sideways on a screen of 320 pixels, nor with text of twice the size', async (t) => {
  const visitor = await open(t, { viewport: { width: 320, height: 640 } });
  await visitor.burst();
  await visitor.page.getByText('if this is your app').click();
  for (const size of ['100%', '200%']) {
    await visitor.page.evaluate(`document.documentElement.style.fontSize = '${size}'`);
    t.equal(await visitor.page.evaluate('document.documentElement.scrollWidth'), 320);
    t.same(await visitor.faults(), []);
  }
});

await test('twenty dynos are told apart in light and dark colours, on paper, and without any colour', async (t) => {
  const visitor = await open(t);
  const { page } = visitor;
  for (let visits = 1; visits < 20; visits++) await page.reload();
  await visitor.remember(upTo(20).map((count) => ({ count, dyno: `web.${count}` })));
  const signs = await page.evaluate<string[]>(
    `[...document.querySelectorAll('.tile > [data-sign]')].slice(0, 20).map(({ dataset }) => dataset.sign)`,
  );
  t.equal(new Set(signs).size, 20, 'each has a sign of its own');
  const colours = (): Promise<string[]> =>
    page.evaluate<string[]>(
      `[getComputedStyle(document.body).backgroundColor,
        ...new Set([...document.querySelectorAll('.tile b')].map((number) => getComputedStyle(number).color))]`,
    );
  const [paper, night] = ['rgb(251, 250, 247)', 'rgb(23, 22, 27)'];
  for (const [media, ground, buttons] of [
    [{ colorScheme: 'light' }, paper, 3],
    [{ colorScheme: 'dark' }, night, 3],
    [{ media: 'print' }, paper, 0],
  ] as const) {
    await page.emulateMedia(media);
    const [shown, ...others] = await colours();
    t.equal(shown, ground);
    t.equal(others.length, 5);
    t.equal(await page.locator('button:visible').count(), buttons);
    t.same(await visitor.faults(), [], 'axe-core measures the contrast of numbers, which have the colours of signs');
  }
  await page.emulateMedia({ media: 'screen', forcedColors: 'active' });
  t.same(await colours(), ['rgb(0, 0, 0)', 'rgb(255, 255, 255)'], 'the system decides, and leaves the signs');
});

await test('the keyboard reaches each control, and shows where it is', async (t) => {
  const visitor = await open(t);
  const { keyboard } = visitor.page;
  const focused = async (): Promise<string> => {
    await keyboard.press('Tab');
    return visitor.page.evaluate<string>(
      `(({ innerText }, { outlineStyle, outlineWidth }) => [innerText, outlineStyle, outlineWidth].join(' '))(
        document.activeElement, getComputedStyle(document.activeElement))`,
    );
  };
  t.equal(await focused(), 'Send 50 requests solid 3px');
  await keyboard.press('Enter');
  t.match(await visitor.verdict(), PROVED);
  for (const control of ['Keep sending', 'Copy result', 'Start over', 'Commands, if this is your app'])
    t.equal(await focused(), `${control} solid 3px`);
  await keyboard.press('Enter');
  t.ok(await visitor.page.getByText('US$125 a month').isVisible());
});

await test('a browser that keeps nothing for the page gets its greeting all the same', async (t) => {
  const visitor = await open(t);
  await visitor.page.addInitScript(`
    Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('refused', 'SecurityError') } })
  `);
  await visitor.page.reload();
  t.match(await visitor.burst(), PROVED);
  await visitor.page.reload();
  t.matchOnly(await visitor.history(), [/^#53 from .*#\?$/]);
});

await test('a history that the page did not write is dropped', async (t) => {
  const visitor = await open(t);
  for (const text of ['{', 'null', '7', '[]', '{}', '{"store":"memory"}', '{"store":"memcached"}']) {
    await visitor.page.evaluate(`sessionStorage.setItem('hello-n', '${text}')`);
    await visitor.page.reload();
    t.equal((await visitor.counts()).length, 1, text);
  }
});

await test('the file opens without a server', async (t) => {
  const { page } = await open(t, {}, new URL('../../views/hello.html', import.meta.url).href);
  t.ok(await page.getByText('On Heroku an app runs in dynos').isVisible());
  t.notMatch(await page.locator('main').innerText(), /\{\{/);
});
