import axe, { type AxeResults } from 'axe-core';
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core';
import { startRouter } from '../../tools/router.ts';
import { startWeb } from '../support/web.ts';

interface Test {
  teardown(action: () => unknown): void;
}

/** Starts dynos behind a router, web.1 and so on, until the test ends. Gives the address to visit. */
export async function startDynos(t: Test, quantity: number, env: Record<string, string>): Promise<string> {
  const names = Array.from({ length: quantity }, (_, index) => `web.${index + 1}`);
  const dynos = await Promise.all(names.map((name) => startWeb(t, { ...env, DYNO: name })));
  const router = await startRouter();
  t.teardown(() => router.close());
  dynos.forEach(({ port }, index) => router.add(`web.${index + 1}`, port));
  return `http://127.0.0.1:${router.port}/`;
}

/** Somebody with a browser of their own, on the page. */
export class Visitor {
  readonly url: string;
  readonly context: BrowserContext;
  readonly page: Page;
  /** What the console of this tab showed, and what its script threw. */
  readonly console: string[] = [];

  constructor(url: string, context: BrowserContext, page: Page) {
    this.url = url;
    this.context = context;
    this.page = page;
    page.on('console', (message) => this.console.push(message.text()));
    page.on('pageerror', (error) => this.console.push(error.message));
  }

  /** Opens the page as somebody new. */
  static async open(t: Test, browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Visitor> {
    const context = await browser.newContext(options);
    t.teardown(() => context.close());
    const visitor = new Visitor(url, context, await context.newPage());
    await visitor.page.goto(url);
    return visitor;
  }

  /** Visits the page once more, and stays there: without the header that makes a browser return by itself. */
  async stay(): Promise<void> {
    await this.page.route(this.url, async (route) => {
      const response = await route.fetch();
      const headers = Object.entries(response.headers()).filter(([name]) => name !== 'refresh');
      await route.fulfill({ response, headers: Object.fromEntries(headers) });
    });
    await this.page.goto(this.url);
    await this.page.unroute(this.url);
  }

  /** Opens another tab in the same session. */
  async openTab(): Promise<Visitor> {
    const tab = new Visitor(this.url, this.context, await this.context.newPage());
    await tab.page.goto(this.url);
    return tab;
  }

  /** The greeting, such as `Hello #7`. */
  heading(): Promise<string> {
    return this.page.getByRole('heading', { level: 1 }).innerText();
  }

  async count(): Promise<number> {
    return Number(/\d+/.exec(await this.heading()));
  }

  /** The names of all that is drawn in the history: `#7 from web.3`, and what says where the count goes on or falls. */
  history(): Promise<string[]> {
    return this.page
      .getByRole('list', { name: 'Your greetings' })
      .getByRole('img')
      .evaluateAll((pictures: { title: string }[]) => pictures.map(({ title }) => title));
  }

  /** The legend, such as `web.3 12`. */
  async legend(): Promise<string[]> {
    const entries = await this.page.getByRole('list', { name: 'Dynos' }).getByRole('listitem').allTextContents();
    return entries.map((entry) => entry.trim());
  }

  /** Puts a history in place of this tab's own. */
  async remember(history: object): Promise<void> {
    const kept = JSON.stringify({ ...history, ended: false });
    await this.page.evaluate(`sessionStorage.setItem('greetings', '${kept}')`);
  }

  /** What the visitor would have read had each dyno counted alone: `3` or, where it repeats, `~3`. */
  alone(): Promise<string[]> {
    return this.page.evaluate(
      `[...document.querySelectorAll('.alone > *')].map((read) => (read.matches('s') ? '~' : '') + read.textContent)`,
    );
  }

  /** The step that the page suggests: its words and its command. */
  async step(): Promise<string> {
    return `${await this.page.locator('.step').innerText()} ${await this.page.locator('pre').innerText()}`;
  }

  /** Sends 50 requests, and gives what the page says of them when they are answered. */
  async burst(): Promise<string> {
    await this.page.getByRole('button', { name: 'Send 50 requests' }).click();
    return this.verdict();
  }

  /** Waits until nothing is being sent, and gives what the page says then. */
  async verdict(): Promise<string> {
    await this.page.locator('.burst[aria-disabled=false]').waitFor();
    return this.status();
  }

  async status(): Promise<string> {
    return (await this.page.getByRole('status').innerText()).replace(/\s+/g, ' ').trim();
  }

  /** Answers what the page's script asks for in place of the app: the count and the dyno of each request in turn. */
  async answer(greeting: (asked: number) => [number, string]): Promise<void> {
    let asked = 0;
    await this.page.route(this.url, (route) => {
      if (route.request().headers().accept !== 'text/plain') return route.continue();
      const [count, dyno] = greeting(asked++);
      return route.fulfill({ contentType: 'text/plain', headers: { 'x-dyno': dyno }, body: `Hello #${count}\n` });
    });
  }

  /** What axe-core finds fault with, and where. */
  async faults(): Promise<string[]> {
    // The page's policy does not bind what comes by way of the debugger.
    await this.page.evaluate(axe.source);
    const { violations, incomplete } = await this.page.evaluate<AxeResults>(
      `axe.run({ rules: { 'target-size': { enabled: true } } })`,
    );
    return [...violations, ...incomplete].map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
  }
}
