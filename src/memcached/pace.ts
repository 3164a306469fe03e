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
   * Whether a call may start an attempt before it is due: none began just now, and none is under way, or nobody has asked
   * lately.
   */
  mayHurry(isUnderWay: boolean): boolean {
    return this.#runtime.now() >= this.#lastAttemptAt + PAUSE_MS && (!isUnderWay || !this.#isExpected());
  }

  /** Makes the next attempt due now. */
  hurry(): void {
    this.#lastAttemptAt = -Infinity;
  }

  /** More calls are expected now: makes the pause short again, also the present one. */
  callCame(): void {
    this.#lastCallAt = this.#runtime.now();
    this.#pause = PAUSE_MS;
  }

  attemptBegan(): void {
    this.#lastAttemptAt = this.#runtime.now();
    this.#jitter = 0.5 + this.#runtime.random();
  }

  attemptFailed(isRefused: boolean): void {
    if (isRefused || !this.#isExpected()) this.#pause = Math.min(2 * this.#pause, MAX_PAUSE_MS);
  }

  #isExpected(): boolean {
    return this.#runtime.now() - this.#lastCallAt < EXPECTED_MS;
  }
}
