import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { plainLog } from '../src/log.ts';
import type { Log } from './logs.ts';
import { freePort, howEnded, listens, readLines, start, stop } from './processes.ts';
import type { Router } from './router.ts';

/** What every dyno shares. */
export interface Surroundings {
  readonly router: Router;
  readonly log: Log;
  /** The environment variables that all dynos share. */
  readonly env: NodeJS.ProcessEnv;
}

const SERVER = fileURLToPath(new URL('../../dist/server.js', import.meta.url));
/** How long to wait before a restart, in milliseconds: of a dyno that was up, and of one that never was. */
const AFTER_CRASH = 1000;
const AFTER_FALSE_START = 10_000;

/** The running web dynos: web.1, web.2, and so on. */
export class Formation {
  readonly #dynos: Dyno[] = [];
  readonly #surroundings: Surroundings;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
  }

  /** Starts or stops dynos until there are `quantity`. Fails if one does not start; it is tried again later. */
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

  /** Fails if there is none of that name. */
  find(name: string): Dyno {
    const dyno = this.#dynos.find((one) => one.name === name);
    if (dyno) return dyno;
    throw new Error(`No dyno is named ${name}; running: ${this.#dynos.map((one) => one.name).join(', ')}`);
  }
}

type State = 'down' | 'starting' | 'up' | 'crashed';

/**
 * One dyno.
 *
 *     down --start--> starting --it listens--> up
 *      ^                  |                     |
 *      |                  +------ it ends ------+---> crashed --after a pause--> starting
 *      +---stop, from any state
 */
class Dyno {
  readonly name: string;
  readonly #surroundings: Surroundings;
  #state: State = 'down';
  #child: ChildProcess | undefined;
  #pause: NodeJS.Timeout | undefined;

  constructor(name: string, surroundings: Surroundings) {
    this.name = name;
    this.#surroundings = surroundings;
  }

  /** Starts it, and routes to it as soon as it listens. */
  async start(): Promise<void> {
    const { router, log, env } = this.#surroundings;
    this.#state = 'starting';
    const port = await freePort();
    if (!this.#is('starting')) return;
    const child = start(process.execPath, [SERVER], {
      env: { ...env, DYNO: this.name, HOST: '127.0.0.1', PORT: String(port) },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    const plain = plainLog({ write: (text: string) => log('app', this.name, text.trimEnd()) });
    readLines(child, (line) => {
      // Its own address would mislead, as visitors come by the router; and that it counts in memory has been asked for.
      if (line.includes(`http://127.0.0.1:${port}/`) || line.includes('COUNTERS=memory')) return;
      if (line.startsWith('{"level"')) plain.write(line);
      else log('app', this.name, line);
    });
    child.once('exit', () => this.#ended(howEnded(child)));
    try {
      await listens(child, port);
    } catch (error) {
      throw new Error(`${this.name} does not start`, { cause: error });
    }
    if (!this.#is('starting')) return;
    this.#state = 'up';
    router.add(this.name, port);
    log('local', this.name, 'up');
  }

  /** Stops routing to it, and then ends it. */
  async stop(): Promise<void> {
    this.#state = 'down';
    clearTimeout(this.#pause);
    this.#surroundings.router.remove(this.name);
    if (this.#child) await stop(this.#child);
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  #ended(how: string): void {
    const { router, log } = this.#surroundings;
    router.remove(this.name);
    if (this.#state === 'down') return log('local', this.name, `exited (${how})`);
    const pause = this.#state === 'up' ? AFTER_CRASH : AFTER_FALSE_START;
    this.#state = 'crashed';
    log('local', this.name, `exited (${how}), restarting in ${pause / 1000} s`);
    // If that fails as well, `#ended` says so and tries again.
    this.#pause = setTimeout(() => void this.start().catch(() => undefined), pause);
  }

  /** A function, since TypeScript does not expect the state to change while `start` waits. */
  #is(state: State): boolean {
    return this.#state === state;
  }
}
