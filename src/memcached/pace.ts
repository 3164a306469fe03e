import type { Runtime } from './runtime.ts';

/** From the start of one attempt to the start of the next, plus or minus up to half, at random. */
const PAUSE_MS = 200;
/** The longest pause, reached while nobody asks or while the login is refused. */
const MAX_PAUSE_MS = 5000;
/** For how long after a call others are expected. */
const EXPECTED_MS = 3000;

/** When a client attempts to connect. Times are in milliseconds of the runtime's clock. */
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

  isDue(now: number): boolean {
    return now >= this.#lastAttemptAt + Math.min(this.#pause * this.#jitter, MAX_PAUSE_MS);
  }

  /** Makes the next attempt due now. */
  hurry(): void {
    this.#lastAttemptAt = -Infinity;
  }

  /**
   * More calls are expected now: makes the pause short again, also the present one. Gives whether this one may start an
   * attempt at once: none is under way, or it comes after a quiet time.
   */
  callCame(now: number, isUnderWay: boolean): boolean {
    const mayHurry = !(isUnderWay && this.#isExpected(now)) && now >= this.#lastAttemptAt + PAUSE_MS;
    this.#lastCallAt = now;
    this.#pause = PAUSE_MS;
    return mayHurry;
  }

  attemptBegan(now: number): void {
    this.#lastAttemptAt = now;
    this.#jitter = 0.5 + this.#runtime.random();
  }

  attemptFailed(now: number, isRefused: boolean): void {
    if (isRefused || !this.#isExpected(now)) this.#pause = Math.min(2 * this.#pause, MAX_PAUSE_MS);
  }

  #isExpected(now: number): boolean {
    return now - this.#lastCallAt < EXPECTED_MS;
  }
}
