import { deepEqual } from 'node:assert/strict';
import { createServer, request, type IncomingMessage } from 'node:http';
import axe, { type AxeResults } from 'axe-core';
import type { Browser, BrowserContextOptions, Page, Request } from 'playwright-core';
import type { Test } from 'tap';
import { startRouter } from '../../tools/router.ts';
import { listening, startWeb, type Web } from '../support/web.ts';

/** Starts five dynos, web.1 and so on, behind a router, until the test ends. Visitors come to `url`. */
export async function startDynos(t: Test, env: Record<string, string>) {
  const router = await startRouter();
  t.teardown(() => router.close());
  const start = async (name: string): Promise<Web> => {
    const web = await startWeb(t, { ...env, DYNO: name });
    router.add(name, web.port);
    return web;
  };
  const dynos = await Promise.all(['web.1', 'web.2', 'web.3', 'web.4', 'web.5'].map(start));
  return { url: `http://127.0.0.1:${router.port}/`, router, dynos };
}

/** Starts a server before the dynos at `url`, until the test ends. It sees what has really arrived. */
export async function startFront(t: Test, url: string) {
  const server = createServer((incoming, response) => {
    front.inFlight++;
    response.once('close', () => front.inFlight--);
    void Promise.resolve(front.hold?.(incoming)).then(() => {
      const { method, headers } = incoming;
      const outgoing = request(url, { method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      });
      outgoing.on('error', () => response.destroy());
      incoming.pipe(outgoing);
    });
  });
  const front = {
    url: `http://127.0.0.1:${await listening(t, server)}/`,
    /** How many requests have arrived and have not been answered. */
    inFlight: 0,
    /** Called with each request, which is passed on when what this gives is settled. */
    hold: undefined as ((request: IncomingMessage) => unknown) | undefined,
  };
  return front;
}

/** Somebody with a browser of their own, on the page. */
export class Visitor {
  readonly page: Page;
  #lastRequest: Request | undefined;

  constructor(page: Page) {
    this.page = page;
    page.on('request', (request) => (this.#lastRequest = request));
  }

  /** Opens the page as somebody new. The test fails if a tab of theirs logs anything by its end. */
  static async open(t: Test, browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Visitor> {
    const context = await browser.newContext(options);
    const complaints: string[] = [];
    context.on('console', (message) => complaints.push(message.text()));
    context.on('weberror', (error) => complaints.push(error.error().message));
    t.teardown(async () => {
      await context.close();
      // Chromium itself logs each answer with status 503, and each request without an answer.
      const ofThePage = complaints.filter((text) => !text.startsWith('Failed to load resource: '));
      deepEqual(ofThePage, []);
    });
    const visitor = new Visitor(await context.newPage());
    await visitor.page.goto(url);
    return visitor;
  }

  /** Opens another tab in the same session. */
  async openTab(url: string): Promise<Visitor> {
    const tab = new Visitor(await this.page.context().newPage());
    await tab.page.goto(url);
    return tab;
  }

  async #texts(selector: string): Promise<string[]> {
    return (await this.page.locator(selector).allInnerTexts()).map((text) => text.trim());
  }

  /** The greeting, such as `Hello #7`. */
  heading(): Promise<string> {
    return this.page.getByRole('heading', { level: 1 }).innerText();
  }

  /** What the tiles say: `#7 from web.3; without a shared store #1`. */
  history(): Promise<string[]> {
    return this.page
      .getByRole('list', { name: 'Your greetings' })
      .getByRole('img')
      .evaluateAll((tiles: { title: string }[]) => tiles.map(({ title }) => title));
  }

  /** The counts in the tiles. */
  async counts(): Promise<number[]> {
    return (await this.history()).map((title) => Number(/\d+/.exec(title)));
  }

  /** The legend, such as `web.3`, or `web.3 gone`. */
  legend(): Promise<string[]> {
    return this.#texts('.legend li');
  }

  /** The line below the heading. */
  alone(): Promise<string> {
    return this.page.locator('.alone').innerText();
  }

  /** The steps that are shown. */
  tour(): Promise<string[]> {
    return this.#texts('.tour li:visible');
  }

  async click(button: string): Promise<void> {
    await this.page.getByRole('button', { name: button }).click();
  }

  /** Keeps sending, on a clock that a test moves, until all five dynos have answered. */
  async keepSending(): Promise<void> {
    const answered = new Set<string | undefined>();
    this.page.on('response', (response) => answered.add(response.headers()['x-dyno']));
    await this.page.clock.install();
    await this.click('Keep sending');
    while (answered.size < 5) await this.tick();
  }

  /** Moves that clock by 200 ms, and waits for the answer to what is sent then: the page gives a request up after 5 s. */
  async tick(): Promise<void> {
    await this.page.clock.runFor(200);
    await this.#lastRequest?.response();
  }

  /** Puts greetings in place of this tab's own, and reloads the page. */
  async remember(greetings: readonly { count: number; dyno: string }[], store = 'memcached'): Promise<void> {
    const dynos = [...new Set(greetings.map(({ dyno }) => dyno))];
    const kept = JSON.stringify({ store, dynos, greetings, tour: ['', '', ''] });
    await this.page.evaluate(`sessionStorage.setItem('hello-n', '${kept}')`);
    await this.page.reload();
  }

  /** Sends 50 requests, and gives what the page says of them when they are answered. */
  async burst(): Promise<string> {
    await this.click('Send 50 requests');
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
