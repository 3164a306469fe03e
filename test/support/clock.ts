interface Timer {
  readonly at: number;
  readonly action: () => void;
}

/** Time in milliseconds that passes when a test says so, and what is to happen when. */
export class Clock {
  now = 0;
  /** In the order in which they are due. */
  readonly #timers: Timer[] = [];

  get pending(): number {
    return this.#timers.length;
  }

  /** Does something at a time, after all that was set for the same time before. Gives what cancels it. */
  at(time: number, action: () => void): () => void {
    const timer = { at: Math.max(time, this.now), action };
    this.#timers.splice(this.#timers.findLastIndex(({ at }) => at <= timer.at) + 1, 0, timer);
    return () => {
      const found = this.#timers.indexOf(timer);
      if (found >= 0) this.#timers.splice(found, 1);
    };
  }

  /** Lets time pass, one event after the other. `afterEach` is called when all promises that an event settled are done. */
  async run(milliseconds: number, afterEach: () => void = () => undefined): Promise<void> {
    const until = this.now + milliseconds;
    for (;;) {
      // Node.js calls this back when nothing is left to do for any promise.
      await new Promise<void>((resolve) => process.nextTick(resolve));
      afterEach();
      const next = this.#timers[0];
      if (!next || next.at > until) break;
      this.#timers.shift();
      this.now = next.at;
      next.action();
    }
    this.now = until;
  }
}

/** A pseudo-random number from 0 to 1, the same sequence for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let bits = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}
