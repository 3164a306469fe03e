import { CountersUnavailable, type Counters, type Trouble } from '../../src/counters/counters.ts';
import { MemoryCounters } from '../../src/counters/memory.ts';

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

  async start<Drawn extends { readonly key: string }>(draw: () => Drawn, deadline: number): Promise<Drawn> {
    const drawn = draw();
    this.#hear(`start ${drawn.key}`, deadline);
    return this.#counters.start(() => drawn);
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

/** A failure whose cause is for the log, and not for the visitor. */
export function unavailable(trouble: Trouble = 'unavailable'): CountersUnavailable {
  return new CountersUnavailable(trouble, new Error('Memcached at secret.example:11211: it closed the connection'));
}
