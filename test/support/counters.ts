import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { Counters, UnavailableCode } from '../../src/counters/counters.ts';
import { MemcachedCounters } from '../../src/counters/memcached.ts';
import type { Login } from './memcached.ts';
import type { Owner } from './program.ts';

/** Counters in this process, connected to servers on the loopback address, until the test ends. `log` takes the log lines. */
export function openCounters(
  t: Owner,
  ports: readonly number[],
  { ttl = 60, login, log = [] }: { ttl?: number; login?: Login | undefined; log?: string[] } = {},
): MemcachedCounters {
  const counters = new MemcachedCounters(
    ports.map((port) => ({ host: '127.0.0.1', port, ...login })),
    ttl,
  );
  const write = (line: string): void => void log.push(line);
  counters.open({ info: write, warn: write });
  t.teardown(() => counters.close());
  return counters;
}

/** A random key. */
export function drawKey(): string {
  return randomUUID().replaceAll('-', '');
}

/** A deadline like a greeting's. */
export function soon(): number {
  return performance.now() + 1000;
}

/** Gives what moves the clock of this process forward, as if the test had waited. It is right again when the test ends. */
export function movableClock(t: Test): (milliseconds: number) => void {
  const now = performance.now.bind(performance);
  let ahead = 0;
  t.intercept(performance, 'now', { value: () => now() + ahead });
  return (milliseconds) => void (ahead += milliseconds);
}

/** A session as a visitor sees it: it is started by the first greeting, and again when it is forgotten. */
export class CountedSession {
  key = drawKey();
  readonly #counters: Counters;
  #isStarted = false;

  constructor(counters: Counters) {
    this.#counters = counters;
  }

  async start(): Promise<void> {
    await this.#counters.start(() => (this.key = drawKey()), soon());
    this.#isStarted = true;
  }

  increment(): Promise<number | undefined> {
    return this.#counters.increment(this.key, soon());
  }

  end(): Promise<void> {
    return this.#counters.end(this.key, soon());
  }

  /** What a greeting comes to: a count, or the code of the failure. A session that is new or unknown is started. */
  async greet(): Promise<number | UnavailableCode> {
    try {
      const count = this.#isStarted ? await this.increment() : undefined;
      if (count !== undefined) return count;
      await this.start();
      return 1;
    } catch (error) {
      return (error as { code: UnavailableCode }).code;
    }
  }
}
