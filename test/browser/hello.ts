import { readFileSync } from 'node:fs';
import tap, { test, type Test } from 'tap';
import type { BrowserContextOptions } from 'playwright-core';
import { startMemcached } from '../support/memcached.js';
import { startWeb } from '../support/web.js';
import { launchChromium } from './chromium.js';
import { startDynos, Visitor } from './visitor.js';

const PROVED = '50 requests, 5 dynos, every number exactly once';
/** What Chromium itself says of an answer with status 503; nothing that a page could keep it from. */
const OF_CHROMIUM = 'Failed to load resource: the server responded with a status of 503 (Service Unavailable)';

const browser = await launchChromium();
tap.teardown(() => browser.close());
const memcached = await startMemcached(tap);
const url = await startDynos(tap, 5, { MEMCACHE_SERVERS: memcached.address });

function open(t: Test, options?: BrowserContextOptions, address = url): Promise<Visitor> {
  return Visitor.open(t, browser, address, options);
}

await test('the first visit greets with #1, and says who answered', async (t) => {
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const page = await context.newPage();
  const visitor = new Visitor(url, context, page);
  const requests: string[] = [];
  page.on('request', (request) => requests.push(request.url()));
  const answer = await page.goto(url);
  const dyno = (await answer?.headerValue('x-dyno')) ?? '';
  t.match(dyno, /^web\.[1-5]$/);
  t.equal(await visitor.heading(), 'Hello #1');
  t.equal(await page.title(), 'Hello #1');
  t.equal(await page.getByText('Answered by').innerText(), `Answered by ${dyno}`);
  t.same(await visitor.history(), [`#1 from ${dyno}`]);
  t.same(await visitor.legend(), [`${dyno} 1`]);
  t.equal(await visitor.status(), '');
  t.same(
    requests.filter((request) => !request.startsWith('data:')),
    [url],
    'the icon costs no request',
  );
  t.ok(((await answer?.body())?.length ?? Infinity) <= 16 * 1024, 'the page is at most 16 KB');
  t.same(await visitor.faults(), []);
  t.same(visitor.console, []);
});

await test('each refresh adds a dot to the history of the tab', async (t) => {
  const visitor = await open(t);
  const seen = await visitor.history();
  for (const count of [2, 3, 4, 5]) {
    const answer = await visitor.page.reload();
    seen.push(`#${count} from ${await answer?.headerValue('x-dyno')}`);
    t.equal(await visitor.heading(), `Hello #${count}`);
  }
  t.same(await visitor.history(), seen);
  // Coming back to the page is a visit like any other.
  await visitor.page.goto('about:blank');
  await visitor.page.goBack();
  t.equal(await visitor.heading(), 'Hello #6');
  t.equal((await visitor.history()).length, 6);
  t.same(visitor.console, []);
});

await test('50 requests, ten at a time, prove that each number is given once', async (t) => {
  const visitor = await open(t);
  const { page } = visitor;
  let [sent, underWay, most] = [0, 0, 0];
  page.on('request', (request) => {
    t.equal(request.headers().accept, 'text/plain');
    sent++;
    most = Math.max(most, ++underWay);
  });
  page.on('requestfinished', () => underWay--);
  t.equal(await visitor.burst(), PROVED);
  t.equal(sent, 50);
  t.equal(most, 10);
  t.equal(await visitor.heading(), 'Hello #51');
  t.equal(await page.title(), 'Hello #51');
  const dots = await visitor.history();
  t.same(
    dots.map((dot) => /^#\d+/.exec(dot)?.[0]),
    Array.from({ length: 51 }, (_, index) => `#${index + 1}`),
  );
  t.equal(await page.getByText('Answered by').innerText(), `Answered by ${dots.at(-1)?.split(' from ')[1]}`);
  const legend = await visitor.legend();
  t.same(
    legend.map((entry) => entry.split(' ')[0]),
    ['web.1', 'web.2', 'web.3', 'web.4', 'web.5'],
  );
  for (const entry of legend) {
    const [dyno, tally] = entry.split(' ');
    t.equal(dots.filter((dot) => dot.endsWith(` from ${dyno}`)).length, Number(tally));
  }
  t.same(await visitor.faults(), []);
  page.removeAllListeners('request');

  t.equal(await visitor.burst(), PROVED, 'and again');
  const before = await visitor.history();
  t.equal(before.length, 101);
  await page.reload();
  t.same((await visitor.history()).slice(0, -1), before, 'a refresh keeps it all');
  t.equal(await visitor.heading(), 'Hello #102');
  t.same(visitor.console, []);
});

await test('the last 500 greetings are drawn, and all are tallied', async (t) => {
  const visitor = await open(t);
  const run = Array.from({ length: 470 }, (_, index) => ({ count: index + 531, dyno: 'web.1' }));
  await visitor.remember({ tally: [['web.1', 1000]], runs: [run] });
  await visitor.page.reload();
  t.equal(await visitor.burst(), PROVED);
  const history = await visitor.history();
  t.equal(history[0], '#552 from web.1', 'what came before was seen');
  t.equal(history.filter((entry) => entry.includes(' from ')).length, 500);
  t.match(history.at(-1), /^#52 /);
  const tallies = (await visitor.legend()).map((entry) => Number(/\d+$/.exec(entry)));
  // The last two are what other tabs counted, and a fall.
  t.equal(
    tallies.slice(0, 5).reduce((sum, tally) => sum + tally),
    1051,
  );
  await visitor.page.reload();
  t.same((await visitor.history()).slice(0, -1), history.slice(1));
  t.same(visitor.console, []);
});

await test('a tab shows where another one counted', async (t) => {
  const one = await open(t);
  const other = await one.openTab();
  await other.page.reload();
  await one.page.reload();
  t.match(await one.history(), [/^#1 from/, '#2 to #3 not seen in this tab', /^#4 from/]);
  t.match(await other.history(), ['#1 not seen in this tab', /^#2 from/, /^#3 from/]);
  t.equal((await one.legend()).at(-1), '+not seen in this tab 2');
  t.same(await one.faults(), []);

  const verdicts = await Promise.all([one.burst(), other.burst()]);
  for (const verdict of verdicts) t.match(verdict, /^50 requests, 5 dynos, every number exactly once/);
  t.match(verdicts.join(), /, and \d+ more for another tab/);
  const dots = [...(await one.history()), ...(await other.history())].filter((dot) => dot.includes(' from '));
  const counts = dots.map((dot) => Number(/\d+/.exec(dot))).sort((a, b) => a - b);
  t.same(
    counts,
    Array.from({ length: 104 }, (_, index) => index + 1),
  );

  // A tab that another opens, or that is duplicated, begins with a copy of its history.
  const opened = one.context.waitForEvent('page');
  await one.page.evaluate(`void open('/')`);
  const copy = new Visitor(url, one.context, await opened);
  await copy.page.waitForLoadState();
  t.equal(await copy.heading(), 'Hello #105');
  t.match((await copy.history()).at(-1), /^#105 from/);
  t.ok((await copy.history()).length > 50);
  t.same([...one.console, ...other.console, ...copy.console], []);
});

await test('starting over begins at #1, and clears the history of this tab only', async (t) => {
  const visitor = await open(t);
  const other = await visitor.openTab();
  await other.page.reload();
  await visitor.page.reload();
  await visitor.page.getByRole('button', { name: 'Start over' }).click();
  await visitor.page.getByRole('heading', { name: 'Hello #1' }).waitFor();
  t.match(await visitor.history(), [/^#1 from/]);
  await other.page.reload();
  t.equal(await other.heading(), 'Hello #2');
  t.match(await other.history(), [
    '#1 not seen in this tab',
    /^#2 from/,
    /^#3 from/,
    'The count fell back to #2',
    '#1 not seen in this tab',
    /^#2 from/,
  ]);
  t.equal((await other.legend()).at(-1), 'the count fell back 1');
  t.same(await other.faults(), []);
  t.same([...visitor.console, ...other.console], []);
});

await test('without JavaScript there are the count, the dyno, the words and starting over', async (t) => {
  const visitor = await open(t, { javaScriptEnabled: false });
  const { page } = visitor;
  await page.reload();
  t.equal(await visitor.heading(), 'Hello #2');
  t.match(await page.getByText('Answered by').innerText(), /^Answered by web\.[1-5]$/);
  t.ok(await page.getByText('heroku ps:scale web=5:standard-1x').isVisible());
  t.notOk(await page.getByText('Send 50 requests').isVisible());
  t.notOk(await page.getByText('Your greetings').isVisible());
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
  t.notOk(await scriptless.page.getByText('Send 50 requests').isVisible());
  t.same(await scriptless.faults(), []);
});

await test('nothing scrolls sideways on a screen of 320 pixels, nor with text of twice the size', async (t) => {
  const visitor = await open(t, { viewport: { width: 320, height: 640 } });
  await visitor.burst();
  const width = 'document.documentElement.scrollWidth';
  t.equal(await visitor.page.evaluate(width), 320);
  t.same(await visitor.faults(), []);
  await visitor.page.evaluate(`document.documentElement.style.fontSize = '200%'`);
  t.equal(await visitor.page.evaluate(width), 320);
  t.same(await visitor.faults(), []);
});

for (const colorScheme of ['light', 'dark'] as const) {
  await test(`ten dynos are told apart in ${colorScheme} colours, and by more than the colour`, async (t) => {
    const visitor = await open(t, { colorScheme });
    const { page } = visitor;
    const tally = Array.from({ length: 20 }, (_, index) => [`web.${index + 1}`, 1]);
    const run = tally.map(([dyno], index) => ({ count: index + 1, dyno }));
    await visitor.remember({ tally, runs: [run] });
    await page.reload();
    const looks = await page.evaluate<string[]>(
      `[...document.querySelectorAll('.legend .dot')].map((dot) => {
        const { borderColor, borderRadius, backgroundColor } = getComputedStyle(dot);
        return [borderColor, backgroundColor === borderColor, borderRadius].join(' / ');
      })`,
    );
    t.equal(looks.length, 20);
    t.equal(new Set(looks).size, 20);
    const shades = await page.evaluate<string[]>(
      `[getComputedStyle(document.body).backgroundColor,
        ...new Set([...document.querySelectorAll('ol .dot')].map((dot) => getComputedStyle(dot).borderColor))]`,
    );
    const [ground = NaN, ...colours] = shades.map(luminance);
    t.equal(ground < 0.05, colorScheme === 'dark');
    t.equal(colours.length, 5);
    for (const colour of colours) {
      const contrast = (Math.max(colour, ground) + 0.05) / (Math.min(colour, ground) + 0.05);
      t.ok(contrast >= 3, `contrast of ${contrast.toFixed(2)}`);
    }
    t.same(await visitor.faults(), []);
    // Where the system decides on colours, the dots keep theirs.
    await page.emulateMedia({ forcedColors: 'active' });
    t.ok(
      new Set(
        await page.evaluate<string[]>(
          `[...document.querySelectorAll('ol .dot')].map((dot) => getComputedStyle(dot).borderColor)`,
        ),
      ).size >= 5,
    );
    t.same(visitor.console, []);
  });
}

await test('nothing moves for those who want less motion', async (t) => {
  const moves = `getComputedStyle(document.querySelector('ol li:last-child i')).animationName`;
  const still = await open(t, { reducedMotion: 'reduce' });
  t.equal(await still.page.evaluate(moves), 'none');
  const moving = await open(t, { reducedMotion: 'no-preference' });
  t.equal(await moving.page.evaluate(moves), 'appear');
});

await test('the keyboard reaches each button, and shows where it is', async (t) => {
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
  await visitor.page.getByText(PROVED).waitFor();
  t.equal(await focused(), 'Start over solid 3px');
  await visitor.page.keyboard.press('Enter');
  await visitor.page.getByRole('heading', { name: 'Hello #1', exact: true }).waitFor();
  t.same(visitor.console, []);
});

await test('while the store is away the page says so, keeps the history, and returns by itself', async (t) => {
  const visitor = await open(t);
  const { page } = visitor;
  await page.reload();
  const before = await visitor.history();
  t.teardown(() => memcached.resume());
  memcached.stall();
  const away = 'The session store cannot be reached just now. Your count is safe.';
  t.match(await visitor.burst(), new RegExp(`^1\\d of 1\\d requests failed. ${away}$`), 'it soon gives up');
  t.same(await visitor.history(), before);
  await page.getByRole('button', { name: 'Start over' }).click();
  await page.getByRole('heading', { name: 'Hello #…' }).waitFor();
  t.equal(await page.getByText('The session store').innerText(), `${away} This page tries again by itself.`);
  t.same(await visitor.history(), before, 'what could not end is not forgotten');
  t.notOk(await page.getByText('Send 50 requests').isVisible());
  t.same(await visitor.faults(), []);
  memcached.resume();
  await page.getByRole('heading', { name: /Hello #\d/ }).waitFor();
  t.same(new Set(visitor.console), new Set([OF_CHROMIUM]));
});

await test('after a fresh deploy the page says that the store is warming up', async (t) => {
  // A login that is not accepted yet.
  const store = await startMemcached(t, { login: { username: 'app', password: 'right' } });
  const { url: address } = await startWeb(t, {
    MEMCACHIER_SERVERS: store.address,
    MEMCACHIER_USERNAME: 'app',
    MEMCACHIER_PASSWORD: 'early',
  });
  const visitor = await open(t, {}, address);
  t.equal(await visitor.heading(), 'Hello #…');
  t.match(await visitor.page.getByText('The session store').innerText(), /is warming up.*tries again by itself/);
  t.notOk(await visitor.page.getByText('Your greetings').isVisible());
  t.same(await visitor.faults(), []);
  await visitor.page.waitForEvent('framenavigated');
  t.same(new Set(visitor.console), new Set([OF_CHROMIUM]));
});

await test('dynos that each count in their own memory are found out', async (t) => {
  const address = await startDynos(t, 5, { COUNTERS: 'memory' });
  const visitor = await open(t, {}, address);
  const verdict = await visitor.burst();
  t.match(
    verdict,
    /^50 requests, 5 dynos, and the count fell back \d+ times: each dyno counts in a memory of its own$/,
  );
  const history = await visitor.history();
  t.equal(history.filter((entry) => entry.includes(' from web.')).length, 51);
  const falls = history.filter((entry) => entry.startsWith('The count fell back to #'));
  t.match(verdict, ` ${falls.length} times`);
  t.equal((await visitor.legend()).at(-1), `the count fell back ${falls.length}`);
  t.same(await visitor.faults(), []);
  await visitor.page.reload();
  t.match(await visitor.history(), history, 'a refresh keeps it all');
  t.same(visitor.console, []);
});

await test('requests that fail or never end are told of, and the others prove what they can', async (t) => {
  const visitor = await open(t);
  const { page } = visitor;
  let requests = 0;
  await page.route(url, (route) => {
    requests++;
    if (requests === 20)
      return route.fulfill({ status: 200, contentType: 'text/html', body: '<h1>Please log in</h1>' });
    if (requests === 30) return route.abort();
    // The one in the middle is never answered.
    return requests === 40 ? undefined : route.continue();
  });
  const proof = '47 requests, 5 dynos, every number exactly once. 3 of 50 requests failed. ';
  t.equal(await visitor.burst(), `${proof}No answer came`);
  t.equal(await visitor.heading(), 'Hello #48');
});

await test('a session that ends meanwhile is told from dynos without a store', async (t) => {
  const visitor = await open(t);
  await visitor.page.reload();
  await visitor.context.clearCookies();
  t.match(await visitor.burst(), /^50 requests, 5 dynos, and the count fell back .*: the session ended meanwhile$/);
});

await test('a browser that keeps nothing for the page gets its greeting all the same', async (t) => {
  const context = await browser.newContext();
  t.teardown(() => context.close());
  await context.addInitScript(`
    Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('refused', 'SecurityError') } })
  `);
  const visitor = new Visitor(url, context, await context.newPage());
  await visitor.page.goto(url);
  t.equal(await visitor.burst(), PROVED);
  await visitor.page.reload();
  t.match(await visitor.history(), ['#1 to #51 not seen in this tab', /^#52 from/]);
  t.same(visitor.console, []);
});

await test('a history that the page did not write is dropped', async (t) => {
  const visitor = await open(t);
  const foreign = ['{', 'null', '7', '{}', '{"tally":[],"runs":[]}', '{"tally":[["web.1",1]],"runs":[[]]}'];
  foreign.push('{"tally":[["web.1","1"]],"runs":[[{"count":1,"dyno":"web.1"}]]}');
  foreign.push('{"tally":[["web.1",1]],"runs":[[{"count":-1,"dyno":"web.1"}]]}', '{"tally":[[1,1]],"runs":[[null]]}');
  for (const text of foreign) {
    await visitor.page.evaluate(`sessionStorage.setItem('greetings', '${text}')`);
    await visitor.page.reload();
    const count = await visitor.count();
    t.match((await visitor.history()).slice(1), [new RegExp(`^#${count} from web`)], text);
  }
  t.same(visitor.console, []);
});

await test('the page names its source if app.json does', async (t) => {
  const { repository } = JSON.parse(readFileSync(new URL('../../app.json', import.meta.url), 'utf8')) as {
    repository?: string;
  };
  const visitor = await open(t);
  const links = visitor.page.getByRole('link');
  t.equal(await links.count(), repository ? 1 : 0);
  if (repository) t.equal(await links.getAttribute('href'), repository);
});

await test('the file opens by itself', async (t) => {
  const visitor = await open(t, {}, new URL('../../views/hello.html', import.meta.url).href);
  t.equal(await visitor.heading(), 'Hello #N');
  t.notMatch(await visitor.page.locator('main').innerText(), /\{\{/);
  t.same(await visitor.faults(), []);
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
