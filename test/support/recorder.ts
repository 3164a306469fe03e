import { CountersUnavailable, type Counters } from '../../src/counters/counters.js';
import { MemoryCounters } from '../../src/counters/memory.js';

/** Counters that write down what they are asked, and cannot be asked when a test says so. */
export class Recorder implements Counters {
  readonly place = 'a test';
  /** What was asked, such as `increment KEY`. */
  readonly asked: string[] = [];
  /** How long each of those had, in milliseconds. */
  readonly patience: number[] = [];
  /** What every question fails with, if anything. */
  failure: Error | undefined;
  readonly #counters = new MemoryCounters(60);

  open(): void {
    this.asked.push('open');
    this.#counters.open();
  }

  close(): void {
    this.asked.push('close');
    this.#counters.close();
  }

  async start(draw: () => string, deadline: number): Promise<void> {
    const key = draw();
    this.#hear(`start ${key}`, deadline);
    await this.#counters.start(() => key);
  }

  async increment(key: string, deadline: number): Promise<number | undefined> {
    this.#hear(`increment ${key}`, deadline);
    return this.#counters.increment(key);
  }

  async end(key: string, deadline: number): Promise<void> {
    this.#hear(`end ${key}`, deadline);
    await this.#counters.end(key);
  }

  /** What was asked since the last time, without the keys. */
  heard(): string[] {
    return this.asked.splice(0).map((question) => question.replace(/ .*/, ''));
  }

  #hear(question: string, deadline: number): void {
    this.asked.push(question);
    this.patience.push(deadline - performance.now());
    if (this.failure) throw this.failure;
  }
}

/** What counters say that cannot be asked: for the log, not for the visitor. */
export function unavailable(warmingUp = false): CountersUnavailable {
  const error = new CountersUnavailable('Memcached at secret.example:11211 does not answer');
  return Object.assign(error, { warmingUp });
}
