import { createHash } from 'node:crypto';
import { test } from 'tap';
import type { Trouble } from '../src/counters/counters.ts';
import { policy, preparePage, type Place } from '../src/page.ts';

const HEROKU: Place = { dyno: 'web.3', store: 'memcached', onHeroku: true };
const HOME: Place = { dyno: 'local', store: 'memory', onHeroku: false };
const TROUBLES = ['unavailable', 'warming up', 'login refused'] as const;

/** Every page that there is, as text. */
const pages = [HEROKU, HOME, { ...HEROKU, store: 'memory' }, { ...HOME, store: 'memcached' }].flatMap((place) => {
  const page = preparePage(place as Place);
  return [page.greeting(7), ...TROUBLES.map((trouble) => page.waiting(trouble))].map(String);
});

/** What a visitor reads, without a script. */
function wordsOf(page: string): string {
  const [, main = ''] = /<main[^>]*>([^]*)<\/main>/.exec(page) ?? [];
  return main
    .replace(/<[^>]*>/g, '')
    .replace(/\s+/g, ' ')
    .trim();
}

await test('a greeting shows its count in the title and in the heading', async (t) => {
  const { greeting } = preparePage(HEROKU);
  for (const count of [1, 42, 99_999, 12_345_678_901]) {
    const page = String(greeting(count));
    t.match(page, `<title>Hello #${count}</title>`);
    t.match(
      wordsOf(page),
      new RegExp(`^Hello #${count} In a session no number repeats, whichever dyno answers\\. Answered by web\\.3 `),
    );
  }
});

await test('pages share no bytes, unless those of one that was sent are reused', async (t) => {
  const { greeting, reuse } = preparePage(HEROKU);
  const one = greeting(1);
  const two = greeting(22);
  t.match(String(one), 'Hello #1<');
  const [page] = pages;
  reuse(one);
  const three = greeting(7);
  t.equal(three.buffer, one.buffer);
  t.equal(String(three), page, 'nothing is left of what was there');
  t.match(String(two), 'Hello #22<');
  t.not(greeting(4).buffer, three.buffer);
});

await test('after many at once, at most 1 MB is kept', async (t) => {
  const { greeting, reuse } = preparePage(HEROKU);
  const sent = Array.from({ length: 1000 }, (_, index) => greeting(index));
  for (const page of sent) reuse(page);
  const before = new Set(sent.map(({ buffer }) => buffer));
  const reused = sent.map((_, index) => greeting(index)).filter(({ buffer }) => before.has(buffer));
  const bytes = reused.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
  t.ok(bytes > 0 && bytes <= 2 ** 20, `${bytes} bytes`);
});

await test('the page says Memcached only where the counts live in one', async (t) => {
  for (const onHeroku of [true, false]) {
    t.notMatch(String(preparePage({ ...HEROKU, onHeroku, store: 'memory' }).greeting(7)), /memcached/i);
    t.match(wordsOf(String(preparePage({ ...HEROKU, onHeroku }).greeting(7))), /It lives in Memcached/);
  }
});

await test('the claim holds where the page stands', async (t) => {
  const wordsAt = (place: Place): string => wordsOf(String(preparePage(place).greeting(7)));
  t.match(
    wordsAt({ ...HEROKU, store: 'memory' }),
    '#7 Each dyno counts alone here: with two, numbers repeat. Answered',
  );
  t.match(wordsAt(HOME), '#7 One process counts here. A second would repeat numbers. Answered');
  t.match(
    wordsAt({ ...HOME, store: 'memcached' }),
    '#7 In a session no number repeats, whichever dyno answers. Answered',
  );
});

await test('without a script there is one step to take next', async (t) => {
  const onHeroku = wordsOf(String(preparePage(HEROKU).greeting(7)));
  t.match(onHeroku, 'Run five dynos, and send again: heroku ps:scale web=5:standard-1x');
  t.match(onHeroku, 'cost five times US$25 a month, by the second. heroku ps:scale web=1:basic scales back down.');
  const atHome = wordsOf(String(preparePage(HOME).greeting(7)));
  t.match(atHome, 'Run five dynos, and send again: npm run dynos');
  t.notMatch(atHome, 'heroku ps:');
});

await test('nothing is left to be filled in or chosen', async (t) => {
  t.equal(pages.length, 16);
  for (const page of pages) t.notMatch(page, /\{\{|data-if/);
});

await test('a page is at most 16 KB', async (t) => {
  for (const page of pages) t.ok(Buffer.byteLength(page) <= 16 * 1024, `${Buffer.byteLength(page)} bytes`);
});

await test('the policy allows exactly the style and the script of each page', async (t) => {
  for (const page of pages) {
    for (const element of ['style', 'script']) {
      const [one, ...others] = [...page.matchAll(new RegExp(`<${element}[^>]*>([^]*?)</${element}>`, 'g'))];
      t.strictSame(others, []);
      const hash = createHash('sha256')
        .update(one?.[1] ?? 'none')
        .digest('base64');
      t.match(policy, `${element}-src 'sha256-${hash}'`);
    }
    t.notMatch(page, /\s(style|on[a-z]+)=/, 'no attribute needs a policy that allows more');
  }
});

await test("a dyno's name cannot break the page", async (t) => {
  const page = String(preparePage({ ...HEROKU, dyno: `<b>"&'{{count}}` }).greeting(7));
  t.match(page, 'Answered by &#60;b&#62;&#34;&#38;&#39;&#123;&#123;count}}');
  t.match(page, '<title>Hello #7</title>');
  t.match(page, 'data-dyno="&#60;b&#62;&#34;&#38;&#39;&#123;&#123;count}}"');
});

await test('while there is no greeting the page says why, and makes up no count', async (t) => {
  const reasons: Record<Trouble, RegExp> = {
    unavailable:
      /cannot be reached just now. Your session cookie is kept, and the count goes on from where the store has it/,
    'warming up': /warming up/,
    'login refused': /refuses this app’s login.*heroku addons:open memcachier/,
  };
  const { waiting } = preparePage(HEROKU);
  for (const trouble of TROUBLES) {
    const words = wordsOf(String(waiting(trouble)));
    t.match(words, reasons[trouble]);
    t.match(words, /^Hello #… /);
    t.match(words, 'This page tries again by itself.');
    t.notMatch(words, /Answered by|safe|What to do next/);
    for (const other of TROUBLES) if (other !== trouble) t.notMatch(words, reasons[other]);
  }
});

await test('a published copy links to its source and its deploy button, and one that nobody has published does not', async (t) => {
  t.notMatch(String(preparePage(HEROKU, 'https://github.com/OWNER/hello-n').greeting(1)), '<a href="https://');
  const published = preparePage(HEROKU, 'https://github.com/somebody/hello-n').greeting(99_999);
  t.match(String(published), '<a href="https://github.com/somebody/hello-n"');
  t.match(String(published), '<a href="https://www.heroku.com/deploy?template=https://github.com/somebody/hello-n"');
  t.ok(published.length <= 16 * 1024, `${published.length} bytes`);
});
