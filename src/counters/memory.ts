import { checkTtl, type Counters } from './counters.ts';

/** Counts in the memory of this process: right for one dyno. Nothing limits the number of sessions, at about 0.4 KB each. */
export class MemoryCounters implements Counters {
  readonly place = "this process's memory";
  /** By key, the next to expire first: all live equally long, and a greeting moves its entry to the end. Public for tests. */
  readonly sessions = new Map<string, { count: number; expires: number }>();
  readonly #ttl: number;

  /**
   * @param ttl how long a session lives after its last greeting, in seconds, 1 to 2592000
   * @throws RangeError for another time to live
   */
  constructor(ttl: number) {
    checkTtl(ttl);
    this.#ttl = ttl;
  }

  open(): void {
    // There is nothing to connect to.
  }

  close(): void {
    // Nor anything to close.
  }

  async start(drawKey: () => string): Promise<void> {
    this.#sweep();
    this.#put(drawKey(), 1);
  }

  async increment(key: string): Promise<number | undefined> {
    this.#sweep();
    const session = this.sessions.get(key);
    return session && this.#put(key, session.count + 1);
  }

  async end(key: string): Promise<void> {
    this.sessions.delete(key);
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
