import { CountersUnavailable, type Counters, type UnavailableCode } from '../../src/counters/counters.ts';
import { MemoryCounters } from '../../src/counters/memory.ts';

/** Counters that write down what they are asked, and fail when a test says so. */
export class Recorder implements Counters {
  readonly place = 'a test';
  /** What was asked, such as `increment KEY`. */
  readonly asked: string[] = [];
  /** By when each of those was to be answered. */
  readonly deadlines: number[] = [];
  /** What every call fails with, if anything. */
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

  async start(drawKey: () => string, deadline: number): Promise<void> {
    const key = drawKey();
    this.#record(`start ${key}`, deadline);
    await this.#counters.start(() => key);
  }

  async increment(key: string, deadline: number): Promise<number | undefined> {
    this.#record(`increment ${key}`, deadline);
    return this.#counters.increment(key);
  }

  async end(key: string, deadline: number): Promise<void> {
    this.#record(`end ${key}`, deadline);
    await this.#counters.end(key);
  }

  /** What was asked since the last time, without the keys. */
  heard(): string[] {
    return this.asked.splice(0).map((call) => call.replace(/ .*/, ''));
  }

  #record(call: string, deadline: number): void {
    this.asked.push(call);
    this.deadlines.push(deadline);
    if (this.failure) throw this.failure;
  }
}

/** A failure whose cause is for the log, and not for the visitor. */
export function unavailable(code: UnavailableCode = 'ERR_COUNTERS_UNAVAILABLE'): CountersUnavailable {
  return new CountersUnavailable(code, new Error('Memcached at secret.example:11211: it closed the connection'));
}
