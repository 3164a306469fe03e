import { once } from 'node:events';
import { createServer, request, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import axe, { type AxeResults } from 'axe-core';
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core';
import { startRouter, type Router } from '../../tools/router.ts';
import { startWeb, type Web } from '../support/web.ts';

interface Test {
  teardown(action: () => unknown): void;
}

/** Dynos behind a router, and the address to visit. */
export interface Formation {
  readonly url: string;
  readonly router: Router;
  /** By name, such as web.1. */
  readonly dynos: ReadonlyMap<string, Web>;
}

/** Starts dynos behind a router, web.1 and so on, until the test ends. */
export async function startDynos(t: Test, quantity: number, env: Record<string, string>): Promise<Formation> {
  const names = Array.from({ length: quantity }, (_, index) => `web.${index + 1}`);
  const webs = await Promise.all(names.map((name) => startWeb(t, { ...env, DYNO: name })));
  const router = await startRouter();
  t.teardown(() => router.close());
  const dynos = new Map(names.map((name, index) => [name, webs[index] as Web]));
  for (const [name, { port }] of dynos) router.add(name, port);
  return { url: `http://127.0.0.1:${router.port}/`, router, dynos };
}

/** A server before the dynos, which sees what has really arrived, and holds it as long as a test wants. */
export interface Front {
  readonly url: string;
  /** Requests that have arrived and have not been answered, now and at most. */
  readonly inFlight: { now: number; most: number };
  /** Called with each request before it is passed on. */
  hold: (request: IncomingMessage) => Promise<unknown> | undefined;
}

/** Starts a front before the dynos at `url`, until the test ends. */
export async function startFront(t: Test, url: string): Promise<Front> {
  const inFlight = { now: 0, most: 0 };
  const server = createServer((incoming, response) => {
    inFlight.most = Math.max(inFlight.most, ++inFlight.now);
    response.once('close', () => inFlight.now--);
    void goOn();

    async function goOn(): Promise<void> {
      await front.hold(incoming);
      const { method, headers } = incoming;
      const outgoing = request(url, { method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      });
      outgoing.on('error', () => response.destroy());
      incoming.pipe(outgoing);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  const front: Front = { url: `http://127.0.0.1:${port}/`, inFlight, hold: () => undefined };
  return front;
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

  /** Visits the page once more, and stays there: without the header that makes a browser reload it. */
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

  /** The legend, such as `web.3`, or `web.3 left`. */
  async legend(): Promise<string[]> {
    const entries = await this.page.getByRole('list', { name: 'Dynos' }).getByRole('listitem').allInnerTexts();
    return entries.map((entry) => entry.trim());
  }

  /** The line below the heading. */
  alone(): Promise<string> {
    return this.page.locator('.alone').innerText();
  }

  /** The steps that are shown. */
  async tour(): Promise<string[]> {
    const steps = await this.page.locator('.tour li:visible').allInnerTexts();
    return steps.map((step) => step.trim());
  }

  /** Puts a history in place of this tab's own. */
  async remember(greetings: readonly { count: number; dyno: string }[]): Promise<void> {
    const dynos = [...new Set(greetings.map(({ dyno }) => dyno))];
    const kept = JSON.stringify({ store: 'memcached', dynos, greetings, tour: ['', '', ''] });
    await this.page.evaluate(`sessionStorage.setItem('hello-n', '${kept}')`);
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
