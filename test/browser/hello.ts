import { readFileSync } from 'node:fs';
import tap, { test, type Test } from 'tap';
import type { BrowserContextOptions } from 'playwright-core';
import { until } from '../../tools/processes.ts';
import { startMemcached, withLogin } from '../support/memcached.ts';
import { startWeb } from '../support/web.ts';
import { launchChromium } from './chromium.ts';
import { startDynos, Visitor } from './visitor.ts';

const PROVED = /^✓ #\d+ to #\d+, each exactly once, from 5 dynos, in \d+(\.\d)? s$/;
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
  t.match(await visitor.burst(), /^✓ #2 to #51, each exactly once, from 5 dynos, in /);
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
    legend.map((entry) => entry.slice(0, 5)),
    ['web.1', 'web.2', 'web.3', 'web.4', 'web.5'],
  );
  for (const entry of legend) {
    const [dyno, tally] = entry.split(' ');
    t.equal(dots.filter((dot) => dot.endsWith(` from ${dyno}`)).length, Number(tally));
  }
  // What each dyno alone would have counted, and which of it the visitor would have read before.
  const alone = new Map<string, number>();
  const read = new Set<number>();
  const expected = dots.map((dot) => {
    const [, dyno = ''] = dot.split(' from ');
    const number = (alone.get(dyno) ?? 0) + 1;
    alone.set(dyno, number);
    const repeated = read.has(number);
    read.add(number);
    return `${repeated ? '~' : ''}${number}`;
  });
  t.same(await visitor.alone(), expected);
  t.ok(await page.getByText('Had each dyno counted alone, you would have read').isVisible());
  t.ok(await page.getByText(`${51 - read.size} of these 51 greetings would have repeated a number.`).isVisible());
  t.equal(await visitor.step(), 'Keep sending, and scale down. It costs no greeting: web=2');
  t.same(await visitor.faults(), []);
  page.removeAllListeners('request');

  t.match(await visitor.burst(), PROVED, 'and again');
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
  t.match(await visitor.burst(), PROVED);
  const history = await visitor.history();
  t.equal(history[0], '#552 from web.1', 'what came before was seen');
  t.equal(history.filter((entry) => entry.includes(' from ')).length, 500);
  t.match(history.at(-1), /^#52 /);
  const tallies = (await visitor.legend()).map((entry) => Number(/\d+$/.exec(entry)));
  // Besides there are what other tabs counted, a fall, and that no more are drawn.
  t.equal((await visitor.legend()).at(-1), 'The last 500 are drawn');
  t.equal((await visitor.alone()).length, 500);
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
  t.equal((await one.legend()).at(-1), '+1not seen in this tab 2');
  t.same(await one.faults(), []);

  // The first tab pauses in the middle of its burst until the other tab's is over.
  let asked = 0;
  let between: Promise<string> | undefined;
  await one.page.route(url, async (route) => {
    if (++asked > 25) await (between ??= other.burst());
    await route.continue();
  });
  t.match(
    await one.burst(),
    /^✓ 50 numbers from #5 to #104, none twice, from 5 dynos.* The other 50 went to another tab or to requests that failed/,
  );
  t.match(await between, /^✓ (50 numbers from )?#\d+ to #\d+, (none twice|each exactly once), from 5/);
  await one.page.unroute(url);
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
  t.equal((await other.legend()).at(-1), '↓1the count fell back 1');
  t.same(await other.faults(), []);
  t.same([...visitor.console, ...other.console], []);
});

await test('without JavaScript there are the count, the dyno, the words and starting over', async (t) => {
  const visitor = await open(t, { javaScriptEnabled: false });
  const { page } = visitor;
  await page.reload();
  t.equal(await visitor.heading(), 'Hello #2');
  t.match(await page.getByText('Answered by').innerText(), /^Answered by web\.[1-5]$/);
  t.ok(await page.getByText('In a session no number repeats, whichever dyno answers.').isVisible());
  t.equal(await visitor.step(), 'Run five dynos, and send again: heroku ps:scale web=5:standard-1x');
  for (const name of ['Send 50 requests', 'Keep sending', 'Copy'])
    t.notOk(await page.getByText(name, { exact: true }).isVisible());
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
  await test(`twenty dynos are told apart in ${colorScheme} colours, and by more than the colour`, async (t) => {
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
  t.match(await visitor.verdict(), PROVED);
  t.equal(await focused(), 'Keep sending solid 3px');
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
  await memcached.stall();
  t.match(await visitor.burst(), /^✗ (1\d) of \1 requests failed The session store .*\.?$/, 'it soon gives up');
  t.same(await visitor.history(), before);
  await page.getByRole('button', { name: 'Start over' }).click();
  await page.getByRole('heading', { name: 'Hello #…' }).waitFor();
  t.equal(
    await page.getByText('The session store').innerText(),
    'The session store cannot be reached just now. Your session cookie is kept, and the count goes on from where the store ' +
      'has it. This page tries again by itself.',
  );
  t.same(await visitor.history(), before, 'what could not end is not forgotten');
  t.notOk(await page.getByText('Send 50 requests').isVisible());
  await visitor.stay();
  t.same(await visitor.faults(), []);
  await page.goto(url);
  memcached.resume();
  await page.getByRole('heading', { name: /Hello #\d/ }).waitFor();
  t.same(new Set(visitor.console), new Set([OF_CHROMIUM]));
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
  t.equal(await visitor.heading(), 'Hello #…');
  t.match(await visitor.page.getByText('The session store').innerText(), /is warming up.*tries again by itself/);
  t.notOk(await visitor.page.getByText('Your greetings').isVisible());
  t.notOk(await visitor.page.getByText('What to do next').isVisible());
  await visitor.page.waitForEvent('framenavigated');
  await visitor.stay();
  t.same(await visitor.faults(), []);
  t.same(new Set(visitor.console), new Set([OF_CHROMIUM]));
});

await test('dynos that each count in their own memory are found out', async (t) => {
  const address = await startDynos(t, 5, { COUNTERS: 'memory' });
  const visitor = await open(t, {}, address);
  t.ok(await visitor.page.getByText('Each dyno counts alone here: with two, numbers repeat.').isVisible());
  const verdict = await visitor.burst();
  const [, again] =
    /^✗ (\d+) of 50 numbers had been shown before, from 5 dynos, in \d+(?:\.\d)? s$/.exec(verdict) ?? [];
  t.ok(Number(again) > 25, verdict);
  const history = await visitor.history();
  const dots = history.filter((entry) => entry.includes(' from web.'));
  t.equal(dots.length, 51);
  const falls = history.filter((entry) => entry.startsWith('The count fell back to #'));
  t.equal((await visitor.legend()).at(-1), `↓1the count fell back ${falls.length}`);
  // What the visitor has read is the fault itself.
  t.ok(await visitor.page.getByText('Each dyno counts alone here, and you read').isVisible());
  const read = await visitor.alone();
  t.same(
    read.map((number) => number.replace('~', '#')).map((number) => number.replace(/^\d/, '#$&')),
    dots.map((dot) => dot.split(' ')[0]),
  );
  t.equal(read.filter((number) => number.startsWith('~')).length, Number(again));
  t.ok(await visitor.page.getByText(`${again} of these 51 greetings repeated a number.`).isVisible());
  t.equal(await visitor.step(), 'A store that all dynos share cures that: npm run dynos');
  t.ok(await visitor.page.getByText('Stop the dynos with Ctrl-C first.').isVisible());
  t.notMatch(await visitor.page.content(), /memcached/i);
  t.same(await visitor.faults(), []);
  await visitor.page.reload();
  t.match(await visitor.history(), history, 'a refresh keeps it all');
  t.same(visitor.console, []);
});

await test('one process that counts in its own memory is told from five', async (t) => {
  const { url: address } = await startWeb(t);
  const visitor = await open(t, {}, address);
  t.ok(await visitor.page.getByText('One process counts here. A second would repeat numbers.').isVisible());
  t.match(await visitor.burst(), /^✓ #2 to #51, each exactly once, from 1 dyno, in /);
  t.ok(await visitor.page.getByText('The same, as only local has answered so far.').isVisible());
  t.same(await visitor.alone(), []);
  t.equal(await visitor.step(), 'Run five dynos, and send again: npm run dynos');
  t.notMatch(await visitor.page.content(), /memcached/i);
  t.same(await visitor.faults(), []);
});

await test('the step to take next follows from the place, the store and the dynos that run', async (t) => {
  const one = await startWeb(t, { MEMCACHE_SERVERS: memcached.address, DYNO: 'web-1234abcde-123ab' });
  const alone = await startWeb(t, { COUNTERS: 'memory', DYNO: 'web.1' });
  const onHeroku = (address: string): string => address.replace('127.0.0.1', 'hello.example');
  const shared = await open(t, {}, onHeroku(one.url));
  const scale = 'Run five dynos, and send again: heroku ps:scale web=5:standard-1x';
  t.equal(await shared.step(), scale);
  t.ok(await shared.page.getByText('five times US$25 a month, by the second').isVisible());
  await shared.answer((asked) => [asked + 2, `web-5678fghij-${100 + (asked % 5)}xy`]);
  t.match(await shared.burst(), /^✓ #2 to #51, each exactly once, from 5 dynos/);
  t.equal(
    await shared.step(),
    'Keep sending, and restart one. It costs no greeting: heroku ps:restart web-5678fghij-100xy',
    'also with the names of Fir',
  );
  t.same(await shared.faults(), []);

  const memory = await open(t, {}, onHeroku(alone.url));
  t.equal(await memory.step(), scale);
  await memory.answer((asked) => [Math.floor(asked / 5) + 1, `web.${(asked % 5) + 1}`]);
  t.match(await memory.burst(), /^✗ \d+ of 50 numbers had been shown before/);
  t.equal(await memory.step(), 'A store that all dynos share cures that: heroku config:unset COUNTERS');

  const here = await open(t, {}, alone.url);
  t.equal(await here.step(), 'Run five dynos, and send again: web=5', 'what npm run dynos understands');
});

await test('a button copies the command, where the browser lets it', async (t) => {
  const visitor = await open(t, { permissions: ['clipboard-read', 'clipboard-write'] });
  await visitor.page.getByRole('button', { name: 'Copy' }).click();
  await visitor.page.getByRole('button', { name: 'Copied' }).waitFor();
  t.equal(await visitor.page.evaluate('navigator.clipboard.readText()'), await visitor.page.locator('pre').innerText());
  const insecure = await open(t, {}, url.replace('127.0.0.1', 'hello.example'));
  t.notOk(await insecure.page.getByRole('button', { name: 'Copy' }).isVisible());
  t.same([...visitor.console, ...insecure.console], []);
});

await test('it keeps sending until it is stopped, and shows dynos that come and go', async (t) => {
  const visitor = await open(t);
  const { page } = visitor;
  let dynos = 2;
  await visitor.answer((asked) => [asked + 2, `web.${(asked % dynos) + 1}`]);
  await page.clock.install();
  await page.getByRole('button', { name: 'Keep sending' }).click();
  t.equal(await visitor.status(), 'Sending, five a second');
  const pass = async (requests: number): Promise<void> => {
    const target = (await visitor.count()) + requests;
    while ((await visitor.count()) < target) await page.clock.runFor(200);
  };
  await pass(20);
  dynos = 5;
  await pass(40);
  t.same(
    (await visitor.legend()).map((entry) => entry.slice(0, 5)),
    ['web.1', 'web.2', 'web.3', 'web.4', 'web.5'],
  );
  t.notMatch((await visitor.legend()).join(), 'quiet');
  t.same(await visitor.faults(), []);
  dynos = 1;
  await pass(45);
  const quiet = (await visitor.legend()).filter((entry) => entry.endsWith('quiet'));
  t.same(
    quiet.map((entry) => entry.slice(0, 5)),
    ['web.2', 'web.3', 'web.4', 'web.5'],
  );
  t.equal(await visitor.step(), 'Run five dynos, and send again: web=5');
  t.same(await visitor.faults(), []);
  await page.getByRole('button', { name: 'Send 50 requests' }).click({ force: true });
  t.equal(await visitor.status(), 'Sending, five a second', 'one thing at a time');
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.clock.runFor(200);
  t.match(await visitor.verdict(), /^✓ #2 to #\d+, each exactly once, from 5 dynos, in [23]\d s$/);
  t.ok(await page.getByRole('button', { name: 'Keep sending' }).isVisible());
  t.same(visitor.console, []);
});

await test('it stops sending when ten minutes are over, or when the page is hidden', async (t) => {
  const visitor = await open(t);
  const { page } = visitor;
  await page.clock.install();
  const keepSending = page.getByRole('button', { name: 'Keep sending' });
  await keepSending.click();
  await page.getByRole('heading', { name: 'Hello #2' }).waitFor();
  await page.clock.fastForward(590_000);
  const count = await visitor.count();
  await until('it is still sending', async () => (await visitor.count()) > count);
  t.notOk(await keepSending.isVisible());
  await page.clock.fastForward(10_000);
  t.match(await visitor.verdict(), /^✓ #2 to #\d+, each exactly once, from \d dynos?, in 6\d\d s/);
  await keepSending.click();
  await page.evaluate(`
    Object.defineProperty(document, 'hidden', { value: true });
    document.dispatchEvent(new Event('visibilitychange'));
  `);
  await page.clock.runFor(200);
  t.match(await visitor.verdict(), /^✓ #\d+ to #\d+, each exactly once, from \d dynos?, in \d/);
  t.same(visitor.console, []);
});

await test('a restarted store is one event, however many requests meet it', async (t) => {
  const visitor = await open(t);
  // Ten requests at once find no session: each starts one, and the last one's cookie stays.
  await visitor.answer((asked) => [asked < 20 ? asked + 2 : 1 + Math.max(0, asked - 30), `web.${(asked % 5) + 1}`]);
  t.equal(
    await visitor.burst(),
    '↺ The count began again at #1 Either the store restarted, or the session ended elsewhere',
  );
  const falls = (await visitor.history()).filter((entry) => entry.startsWith('The count fell'));
  t.same(falls, ['The count fell back to #1']);
  t.equal((await visitor.legend()).at(-1), '↓1the count fell back 1');
  t.same(await visitor.faults(), []);
  await visitor.page.unroute(url);
  await memcached.kill();
  await memcached.restart();
  t.match(await visitor.burst(), /^↺ The count began again at #1 /);
  // Which of the sessions that were started at once goes on, the next visit shows.
  await visitor.page.reload();
  t.match(await visitor.burst(), PROVED, 'and goes on from there');
  t.same(new Set(visitor.console).size <= 1, true);
});

await test('each dot is read by touch and by the keyboard, and every 25th in the margin', async (t) => {
  const visitor = await open(t, { hasTouch: true, viewport: { width: 320, height: 640 } });
  const { page } = visitor;
  await visitor.burst();
  const dots = await visitor.history();
  const reading = page.locator('.reading');
  await page.getByRole('img', { name: dots[16] ?? '', exact: true }).tap();
  t.equal(await reading.innerText(), dots[16]);
  await page.keyboard.press('ArrowRight');
  t.equal(await reading.innerText(), dots[17]);
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowLeft');
  t.equal(await reading.innerText(), dots[15]);
  await page.getByRole('list', { name: 'Your greetings' }).focus();
  await page.keyboard.press('ArrowRight');
  t.equal(await reading.innerText(), dots[0]);
  t.same(await page.evaluate(`[...document.querySelectorAll('[data-margin]')].map(({ dataset }) => dataset.margin)`), [
    '25',
    '50',
  ]);
});

await test('a gap of two digits touches no dot', async (t) => {
  const visitor = await open(t, { viewport: { width: 320, height: 640 } });
  const run = [1, 3, 13, 113, 1113].map((count) => ({ count, dyno: 'web.1' }));
  await visitor.remember({ tally: [['web.1', 5]], runs: [run] });
  await visitor.page.reload();
  const boxes = await visitor.page.evaluate<{ left: number; right: number; top: number }[]>(
    `[...document.querySelectorAll('ol i')].map((sign) => {
      const range = document.createRange();
      range.selectNodeContents(sign);
      const { left, right, top } = (sign.textContent ? range : sign).getBoundingClientRect();
      return { left, right, top: Math.round(top / 28) };
    })`,
  );
  t.ok(boxes.length >= 9);
  boxes.forEach(({ left, top }, index) => {
    const before = boxes[index - 1];
    if (before?.top === top) t.ok(left - before.right >= 2, `${left - before.right} px`);
  });
});

await test('printed from dark mode it is ink on paper', async (t) => {
  const visitor = await open(t, { colorScheme: 'dark' });
  await visitor.burst();
  await visitor.page.emulateMedia({ media: 'print' });
  const [ground = '', ink = ''] = await visitor.page.evaluate<string[]>(
    `(({ backgroundColor, color }) => [backgroundColor, color])(getComputedStyle(document.body))`,
  );
  t.ok(luminance(ground) > 0.9 && luminance(ink) < 0.05);
  t.equal(await visitor.page.evaluate(`getComputedStyle(document.querySelector('ol .dot')).printColorAdjust`), 'exact');
  for (const button of await visitor.page.locator('button').all()) t.notOk(await button.isVisible());
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
  t.match(
    await visitor.burst(),
    /^✓ #2 to #48, each exactly once, from 5 dynos, in .* s 3 of 50 requests failed. No answer came$/,
  );
  t.equal(await visitor.heading(), 'Hello #48');
});

await test('a session that ends meanwhile is told from dynos without a store', async (t) => {
  const visitor = await open(t);
  await visitor.page.reload();
  await visitor.context.clearCookies();
  t.match(
    await visitor.burst(),
    /^↺ The count began again at #1 Either the store restarted, or the session ended elsewhere$/,
  );
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
  t.match(await visitor.history(), ['#1 to #51 not seen in this tab', /^#52 from/]);
  t.same(visitor.console, []);
});

await test('a history that the page did not write is dropped', async (t) => {
  const visitor = await open(t);
  const foreign = [
    '{',
    'null',
    '7',
    '{}',
    '{"tally":[],"runs":[],"ended":false}',
    '{"tally":[["web.1",1]],"runs":[[]],"ended":false}',
  ];
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

await test('the page links to its source and to its deployment once its copy is published', async (t) => {
  const { repository = '/OWNER/' } = JSON.parse(readFileSync(new URL('../../app.json', import.meta.url), 'utf8')) as {
    repository?: string;
  };
  const visitor = await open(t);
  const links = await visitor.page
    .getByRole('link')
    .evaluateAll((all: { href: string }[]) => all.map(({ href }) => href));
  const published = [repository, `https://www.heroku.com/deploy?template=${repository}`];
  t.same(links, repository.includes('/OWNER/') ? [] : published);
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
