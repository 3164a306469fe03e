import { once } from 'node:events';
import { Agent, get, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

// How long things may take, in milliseconds. The simulation, whose clock no busy machine delays, holds the exact bounds.
/** What a busy machine may add. */
const NOISE = 2000;
export const IN_TIME = 1100 + NOISE;
export const BACK = 500 + NOISE;
/** Less than the second for which a server that is silent is waited for. */
export const AT_ONCE = 900;

/** What a visitor saw of one greeting. */
export interface Greeting {
  /** When it was asked for and how long the answer took, in milliseconds. */
  readonly at: number;
  readonly took: number;
  readonly status: number;
  /** The count; undefined with any answer but 200. */
  readonly count: number | undefined;
  /** Whether the answer began a new session. */
  readonly isNew: boolean;
  readonly headers: IncomingMessage['headers'];
}

/** A visitor with a cookie of its own, who asks for one greeting after the other. */
export class Visitor {
  readonly greetings: Greeting[] = [];
  readonly #url: string;
  readonly #agent = new Agent({ keepAlive: true });
  #cookie: string | undefined;
  #isWalking = false;
  #walk: Promise<void> | undefined;

  /** @param cookie what a browser would send, such as `sid=...` */
  constructor(url: string, cookie?: string) {
    this.#url = url;
    this.#cookie = cookie;
  }

  async ask(): Promise<Greeting> {
    const at = performance.now();
    const headers = this.#cookie === undefined ? {} : { cookie: this.#cookie };
    const request = get(this.#url, { agent: this.#agent, headers });
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    const [set] = response.headers['set-cookie'] ?? [];
    if (set !== undefined) [this.#cookie] = set.split(';');
    const number = /Hello #(\d+)/.exec(await text(response))?.[1];
    const greeting = {
      at,
      took: performance.now() - at,
      status: response.statusCode ?? 0,
      count: number === undefined ? undefined : Number(number),
      isNew: set !== undefined,
      headers: response.headers,
    };
    this.greetings.push(greeting);
    return greeting;
  }

  /** Keeps asking until `stop`, pausing between greetings for so many milliseconds. */
  walk(pause: number): void {
    const walk = async (): Promise<void> => {
      while (this.#isWalking) {
        await this.ask();
        await sleep(pause);
      }
    };
    this.#isWalking = true;
    this.#walk = walk();
  }

  async stop(): Promise<void> {
    this.#isWalking = false;
    await this.#walk;
    this.#agent.destroy();
  }
}

/** What a visitor's greetings show that must never happen; empty if all is well. */
export function violations({ greetings }: Visitor): string[] {
  const found: string[] = [];
  let last = 0;
  let failed = 0;
  for (const { status, count, isNew, headers } of greetings) {
    if (status === 503) {
      failed += 1;
      if (headers['retry-after'] !== '1') found.push('a 503 without Retry-After');
      if (headers['set-cookie']) found.push('a 503 that touches the cookie');
    } else if (status !== 200 || count === undefined) {
      found.push(`an answer ${status}`);
    } else {
      if (isNew) last = 0;
      const most = last + 1 + (isNew ? 0 : failed);
      if (count <= last) found.push(`#${count} after #${last}`);
      else if (count > most) found.push(`#${count} after #${last} with ${failed} failed between`);
      last = count;
      failed = 0;
    }
  }
  return found;
}
