import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { freePort, howEnded, listens, type Children } from './children.js';
import type { Log } from './logs.js';
import type { Router } from './router.js';

/** What a dyno is started with. */
export interface Surroundings {
  readonly children: Children;
  readonly router: Router;
  readonly log: Log;
  /** Its environment, but for what differs from dyno to dyno. */
  readonly env: NodeJS.ProcessEnv;
}

const SERVER = fileURLToPath(new URL('../dist/server.js', import.meta.url));
/** How long after its end a dyno is started again, in milliseconds: one that had listened, and one that had not. */
const AFTER_CRASH = 1000;
const AFTER_FALSE_START = 10_000;

/** The web dynos that are to run: web.1, web.2, and so on. */
export class Formation {
  readonly #dynos: Dyno[] = [];
  readonly #surroundings: Surroundings;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
  }

  /** Starts or stops dynos until there are so many. Fails if one does not start; it is tried again all the same. */
  async scale(quantity: number): Promise<void> {
    const surplus = this.#dynos.splice(quantity);
    const added: Dyno[] = [];
    while (this.#dynos.length < quantity) {
      const dyno = new Dyno(`web.${this.#dynos.length + 1}`, this.#surroundings);
      this.#dynos.push(dyno);
      added.push(dyno);
    }
    await Promise.all([...surplus.map((dyno) => dyno.stop()), ...added.map((dyno) => dyno.start())]);
  }
}

class Dyno {
  readonly #name: string;
  readonly #surroundings: Surroundings;
  #wanted = true;
  #child: ChildProcess | undefined;
  #restart: NodeJS.Timeout | undefined;

  constructor(name: string, surroundings: Surroundings) {
    this.#name = name;
    this.#surroundings = surroundings;
  }

  /** Starts it, and routes to it once it listens. */
  async start(): Promise<void> {
    const { children, router, log, env } = this.#surroundings;
    const port = await freePort();
    if (!this.#wanted) return;
    const own = { DYNO: this.#name, HOST: '127.0.0.1', PORT: String(port) };
    const child = children.start(process.execPath, [SERVER], { ...env, ...own }, (line) => {
      log('app', this.#name, line);
    });
    this.#child = child;
    let pause = AFTER_FALSE_START;
    child.once('exit', () => {
      this.#ended(howEnded(child), pause);
    });
    try {
      await listens(child, port);
    } catch (error) {
      throw new Error(`${this.#name} does not start`, { cause: error });
    }
    pause = AFTER_CRASH;
    router.add(this.#name, port);
    log('local', this.#name, 'up');
  }

  /** Routes nothing to it any longer, and only then ends it. */
  async stop(): Promise<void> {
    this.#wanted = false;
    clearTimeout(this.#restart);
    this.#surroundings.router.remove(this.#name);
    if (this.#child) await this.#surroundings.children.stop(this.#child);
  }

  #ended(how: string, pause: number): void {
    const { router, log } = this.#surroundings;
    router.remove(this.#name);
    if (!this.#wanted) return log('local', this.#name, `down, ended with ${how}`);
    log('local', this.#name, `crashed, ended with ${how}; starts again in ${pause / 1000} s`);
    this.#restart = setTimeout(() => {
      // Should it end instead, that is said, and tried again, as it was this time.
      this.start().catch(() => undefined);
    }, pause);
  }
}
