import type { Counters } from './counters.js';

/** Counts in the memory of this process: right for one dyno, and to see what goes wrong with two. */
export class MemoryCounters implements Counters {
  readonly place = "this process's memory";
  // Each greeting moves its session to the end, and all live equally long: the next to expire stands first.
  readonly #sessions = new Map<string, { count: number; expires: number }>();
  readonly #ttl: number;
  #sweeper: NodeJS.Timeout | undefined;

  /** @param ttl how long a session lives after its last greeting, in seconds */
  constructor(ttl: number) {
    this.#ttl = ttl * 1000;
  }

  /** How many sessions are held. */
  get size(): number {
    return this.#sessions.size;
  }

  open(): void {
    this.#sweeper = setInterval(() => this.#sweep(), 1000).unref();
  }

  start(draw: () => string): Promise<void> {
    this.#put(draw(), 1);
    return Promise.resolve();
  }

  increment(key: string): Promise<number | undefined> {
    this.#sweep();
    const session = this.#sessions.get(key);
    return Promise.resolve(session && this.#put(key, session.count + 1));
  }

  end(key: string): Promise<void> {
    this.#sessions.delete(key);
    return Promise.resolve();
  }

  close(): void {
    clearInterval(this.#sweeper);
  }

  #put(key: string, count: number): number {
    this.#sessions.delete(key);
    this.#sessions.set(key, { count, expires: performance.now() + this.#ttl });
    return count;
  }

  #sweep(): void {
    for (const [key, { expires }] of this.#sessions) {
      if (expires > performance.now()) return;
      this.#sessions.delete(key);
    }
  }
}
