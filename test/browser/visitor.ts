import axe, { type AxeResults } from 'axe-core';
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core';
import { startRouter } from '../../tools/router.js';
import { startWeb } from '../support/web.js';

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
    await this.page.evaluate(`sessionStorage.setItem('greetings', '${JSON.stringify(history)}')`);
  }

  /** Sends 50 requests, and gives what the page says of them when they are answered. */
  async burst(): Promise<string> {
    const button = this.page.getByRole('button', { name: 'Send 50 requests' });
    await button.click();
    await this.page.locator('button:not([aria-disabled])', { hasText: 'Send 50' }).waitFor();
    return this.status();
  }

  status(): Promise<string> {
    return this.page.getByRole('status').innerText();
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
