import { checkTtl, type Counters } from './counters.ts';

/** Counts in the memory of this process: right for one dyno, and to see what goes wrong with two. */
export class MemoryCounters implements Counters {
  readonly place = "this process's memory";
  /** By key. All live equally long, and each greeting moves its own to the end: the next to expire stands first. */
  readonly sessions = new Map<string, { count: number; expires: number }>();
  readonly #ttl: number;
  #sweeper: NodeJS.Timeout | undefined;

  /**
   * @param ttl how long a session lives after its last greeting, in seconds, 1 to 2592000
   * @throws RangeError for another time to live
   */
  constructor(ttl: number) {
    checkTtl(ttl);
    this.#ttl = ttl;
  }

  open(): void {
    this.#sweeper = setInterval(() => this.#sweep(), 1000).unref();
  }

  async start<Drawn extends { readonly key: string }>(draw: () => Drawn): Promise<Drawn> {
    const drawn = draw();
    this.#put(drawn.key, 1);
    return drawn;
  }

  async increment(key: string): Promise<number | undefined> {
    this.#sweep();
    const session = this.sessions.get(key);
    return session && this.#put(key, session.count + 1);
  }

  async end(key: string): Promise<void> {
    this.sessions.delete(key);
  }

  close(): void {
    clearInterval(this.#sweeper);
  }

  #put(key: string, count: number): number {
    this.sessions.delete(key);
    this.sessions.set(key, { count, expires: performance.now() + this.#ttl * 1000 });
    return count;
  }

  #sweep(): void {
    for (const [key, { expires }] of this.sessions) {
      if (expires > performance.now()) return;
      this.sessions.delete(key);
    }
  }
}
