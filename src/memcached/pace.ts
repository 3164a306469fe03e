import type { Runtime } from './runtime.ts';

/** From the start of one attempt to the start of the next, plus or minus up to half, at random. */
const PAUSE_MS = 200;
/** The longest pause, reached while nobody asks or while the login is refused. */
const MAX_PAUSE_MS = 5000;
/** For how long after a call others are expected. */
const EXPECTED_MS = 3000;

/** When a client attempts to connect. */
export class Pace {
  readonly #runtime: Runtime;
  #lastCallAt = -Infinity;
  #lastAttemptAt = -Infinity;
  #pause = PAUSE_MS;
  /** What the pause is multiplied by, so that all dynos do not try at once. */
  #jitter = 1;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** Whether the next attempt is due. */
  isDue(): boolean {
    return this.#runtime.now() >= this.#lastAttemptAt + Math.min(this.#pause * this.#jitter, MAX_PAUSE_MS);
  }

  /**
   * Whether a call may start an attempt that is not due. Not if one began just now, nor if one is under way, unless that one
   * dates from a quiet time: the server may have come back since.
   */
  mayHurry(isUnderWay: boolean): boolean {
    const isTooSoon = this.#runtime.now() < this.#lastAttemptAt + PAUSE_MS;
    return !isTooSoon && !(isUnderWay && this.#isExpected());
  }

  /** The next attempt need not wait. */
  makeDue(): void {
    this.#lastAttemptAt = -Infinity;
  }

  /** Makes the pause short again, also the present one. */
  callCame(): void {
    this.#lastCallAt = this.#runtime.now();
    this.#pause = PAUSE_MS;
  }

  attemptBegan(): void {
    this.#lastAttemptAt = this.#runtime.now();
    this.#jitter = 0.5 + this.#runtime.random();
  }

  /** Doubles the pause if nobody waits, or if waiting is all that helps, because the login is refused. */
  attemptFailed(isRefused: boolean): void {
    if (isRefused || !this.#isExpected()) this.#pause = Math.min(2 * this.#pause, MAX_PAUSE_MS);
  }

  #isExpected(): boolean {
    return this.#runtime.now() - this.#lastCallAt < EXPECTED_MS;
  }
}
