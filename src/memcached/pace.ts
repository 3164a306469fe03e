import type { Runtime } from './runtime.ts';

/** From the start of one attempt to the start of the next, plus or minus up to half, at random. */
const PAUSE_MS = 200;
/** The longest pause. It is reached while no call comes, or between two calls while the server refuses, such as the login. */
const MAX_PAUSE_MS = 5000;
/** For how long after a call others are expected. */
const EXPECTED_MS = 3000;

/** When a client attempts to connect. */
export class Pace {
  readonly #runtime: Runtime;
  #lastCallAt = -Infinity;
  #lastAttemptAt = -Infinity;
  #pause = PAUSE_MS;
  /** What the pause is multiplied by, from 0.5 to 1.5, so that the dynos do not all try at once. */
  #jitter = 1;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** Whether the pause is over. */
  isDue(): boolean {
    const pause = Math.min(this.#pause * this.#jitter, MAX_PAUSE_MS);
    return this.#runtime.now() >= this.#lastAttemptAt + pause;
  }

  /**
   * Whether a call may start an attempt that is not due. Not if one began just now, nor if one is under way, unless no call was
   * expected: that one may have begun before the server came back.
   */
  mayHurry(isUnderWay: boolean): boolean {
    if (this.#runtime.now() < this.#lastAttemptAt + PAUSE_MS) return false;
    return !isUnderWay || !this.#areCallsExpected();
  }

  /** Ends the pause. */
  makeDue(): void {
    this.#lastAttemptAt = -Infinity;
  }

  /** Makes the pause short again, also the one that has begun. */
  callCame(): void {
    this.#lastCallAt = this.#runtime.now();
    this.#pause = PAUSE_MS;
  }

  attemptBegan(): void {
    this.#lastAttemptAt = this.#runtime.now();
    this.#jitter = 0.5 + this.#runtime.random();
  }

  /** Doubles the pause, until the next call, if none is expected or if the server has refused: to try again helps little. */
  attemptFailed(isRefused: boolean): void {
    if (isRefused || !this.#areCallsExpected()) this.#pause = Math.min(2 * this.#pause, MAX_PAUSE_MS);
  }

  #areCallsExpected(): boolean {
    return this.#runtime.now() - this.#lastCallAt < EXPECTED_MS;
  }
}
