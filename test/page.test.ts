import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'tap';
import type { UnavailableCode } from '../src/counters/counters.ts';
import { contentSecurityPolicy, preparePage, type PageContext } from '../src/page.ts';

const HEROKU: PageContext = { dyno: 'web.3', store: 'memcached', onHeroku: true };
const HOME: PageContext = { dyno: 'local', store: 'memory', onHeroku: false };
const PUBLISHED = 'https://github.com/somebody/hello-n';
const FILE = readFileSync(new URL('../views/hello.html', import.meta.url), 'utf8');

/** What each page without a count says of the reason. */
const REASONS: Record<UnavailableCode, RegExp> = {
  ERR_COUNTERS_UNAVAILABLE: /The session store cannot be reached\./,
  ERR_COUNTERS_WARMING_UP: /warming up.*up to three minutes/,
  ERR_COUNTERS_LOGIN_REFUSED: /refuses the login\..*after 30 days.*heroku addons:open memcachier.*heroku config/,
  ERR_COUNTERS_LOGIN_REQUIRED: /requires a login, and none is set/,
  ERR_COUNTERS_LOGIN_UNSUPPORTED: /A login is set, but the session store takes none/,
  ERR_COUNTERS_NOT_MEMCACHED: /does not speak Memcached's binary protocol/,
  ERR_COUNTERS_COMMAND_REFUSED: /refuses to count\. It may be full/,
};
const CODES = Object.keys(REASONS) as UnavailableCode[];

const contexts: PageContext[] = [HEROKU, HOME, { ...HEROKU, store: 'memory' }, { ...HOME, store: 'memcached' }];
const pages = contexts.flatMap((context) => {
  const { greeting, unavailable } = preparePage(context, PUBLISHED);
  return [greeting(99_999), ...CODES.flatMap((code) => [unavailable(code, 'GET'), unavailable(code, 'POST')])];
});

/** What a visitor reads without a script. What only a script shows stands in `section`, or is a hidden button. */
function wordsOf(page: string): string {
  const [, main = ''] = /<main[^>]*>([^]*)<\/main>/.exec(page) ?? [];
  return main
    .replace(/<section[^]*<\/section>|<button[^>]* hidden>[^<]*/g, '')
    .replace(/<[^>]*>/g, '')
    .replace(/\s+/g, ' ')
    .trim();
}

await test('a greeting shows its count in the title and in the heading, and who answered', async (t) => {
  const { greeting } = preparePage(HEROKU);
  for (const count of [1, 42, 99_999, Number.MAX_SAFE_INTEGER]) {
    const page = greeting(count);
    t.match(page, `<title>Hello #${count}</title>`);
    t.match(wordsOf(page), /^Hello #\d+ Answered by web\.3 Any dyno may answer\. All share one count\. Refresh/);
    t.match(wordsOf(page), `Hello #${count} `);
  }
});

await test('the claim and the explanation hold where the page stands', async (t) => {
  for (const context of contexts) {
    const words = wordsOf(preparePage(context).greeting(7));
    const isShared = context.store === 'memcached';
    t.equal(words.includes('All share one count'), isShared);
    t.equal(words.includes('Memcached'), isShared);
    t.equal(words.includes('Each dyno counts alone here. With two, numbers repeat.'), !isShared);
    t.notMatch(words, /without a shared store|50 requests|US\$/, 'nothing that only a script shows');
    const isPriced = preparePage(context).greeting(7).includes('US$125');
    t.equal(isPriced, context.onHeroku, 'a price is for who may have to pay it');
  }
});

await test('while there is no count, the page says why, promises only what it keeps, and offers nothing that cannot work', async (t) => {
  for (const code of CODES) {
    for (const method of ['GET', 'POST']) {
      const page = preparePage(HEROKU).unavailable(code, method);
      const words = wordsOf(page);
      t.match(page, '<title>No count right now</title>');
      t.match(words, /^No count right now /);
      for (const other of CODES) t.equal(REASONS[other].test(words), other === code, `${code} and ${other}`);
      t.match(words, 'Cookies stay as they are. This page keeps trying to count.');
      t.equal(words.includes('Nothing was ended yet. A hung store may still do so.'), method === 'POST');
      t.notMatch(words, /Hello|safe|share one|Answered/);
      t.notMatch(page, /<button|<form|<section/);
    }
  }
});

await test('the page is sent as it stands: at most 520 lines and 18 KB of one-byte characters', async (t) => {
  t.ok(FILE.trimEnd().split('\n').length <= 520);
  t.ok(FILE.length <= 18 * 1024, `${FILE.length} bytes`);
  // One character beyond Latin-1 doubles the CPU time that a page takes.
  for (const page of [FILE, ...pages]) t.match(page, /^[\n\t -~]*$/);
  t.equal(pages.length, 4 * 15);
  for (const page of pages) {
    t.ok(page.length <= 18 * 1024, `${page.length} bytes`);
    t.notMatch(page, /\{\{| data-if=/, 'nothing is left to be filled in or chosen');
    const script = FILE.slice(FILE.indexOf('<script>'));
    t.ok(page.endsWith(script), 'view source shows what the repository holds');
  }
});

await test('the policy allows exactly the style and the script of each page', async (t) => {
  for (const page of pages) {
    for (const element of ['style', 'script']) {
      const [one, ...others] = [...page.matchAll(new RegExp(`<${element}[^>]*>([^]*?)</${element}>`, 'g'))];
      t.strictSame(others, []);
      t.match(contentSecurityPolicy, `${element}-src 'sha256-${hash('sha256', String(one?.[1]), 'base64')}'`);
    }
    t.notMatch(page, /\s(style|on[a-z]+)=/, 'no attribute needs a policy that allows more');
  }
});

await test("a dyno's name cannot break the page, nor make it cost more", async (t) => {
  const page = preparePage({ ...HEROKU, dyno: `<b>"&'{{count}}\u2713` }).greeting(7);
  t.match(page, 'Answered by &#60;b&#62;&#34;&#38;&#39;&#123;&#123;count}}&#10003;<');
  t.match(page, '<title>Hello #7</title>');
  t.match(page, 'data-dyno="&#60;b&#62;&#34;&#38;&#39;&#123;&#123;count}}&#10003;"');
});

await test('a published copy links to its source and its deploy button, and one that nobody has published does not', async (t) => {
  t.notMatch(preparePage(HEROKU, 'https://github.com/OWNER/hello-n').greeting(1), '<a href="https://');
  const published = preparePage(HEROKU, PUBLISHED).greeting(1);
  t.match(published, `<a href="${PUBLISHED}"`);
  t.match(published, `<a href="https://www.heroku.com/deploy?template=${PUBLISHED}"`);
});
