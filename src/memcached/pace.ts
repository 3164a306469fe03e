// When the next attempt of a client to connect is due.

import type { Runtime } from './runtime.ts';

/** The shortest pause, from the start of one attempt to the start of the next, before jitter. */
const PAUSE_MS = 200;
const MAX_PAUSE_MS = 5000;
/** For how long after a call others are expected. */
const EXPECTED_MS = 3000;

export class Pace {
  readonly #runtime: Runtime;
  #lastCallAt = -Infinity;
  /** When the last attempt began; -Infinity if the next one is due at once. */
  #pausingSince = -Infinity;
  /** Whether no call was expected when the last attempt began. */
  #beganInQuiet = false;
  #pause = PAUSE_MS;
  /** Multiplies the pause, by 0.5 to 1.5, so that the dynos do not all try at once. */
  #jitter = 1;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  isDue(): boolean {
    const pause = Math.min(this.#pause * this.#jitter, MAX_PAUSE_MS);
    return this.#runtime.now() >= this.#pausingSince + pause;
  }

  /**
   * Whether the pause may end early: not in its first 200 ms, and not while an attempt is under way, unless that began when no call
   * was expected. Then it may be stuck, although the server has come back since.
   */
  mayEndPause(isAttemptUnderWay: boolean): boolean {
    if (this.#runtime.now() < this.#pausingSince + PAUSE_MS) return false;
    return !isAttemptUnderWay || this.#beganInQuiet;
  }

  /** Makes the next attempt due at once. */
  endPause(): void {
    this.#pausingSince = -Infinity;
  }

  /** Makes the pause short again, also the current one. */
  shorten(): void {
    this.#pause = PAUSE_MS;
  }

  callCame(): void {
    this.#lastCallAt = this.#runtime.now();
    this.shorten();
  }

  attemptBegan(): void {
    this.#pausingSince = this.#runtime.now();
    this.#beganInQuiet = !this.#areCallsExpected();
    this.#jitter = 0.5 + this.#runtime.random();
  }

  /** Doubles the pause if an early retry is of little use: no call is expected, or the server has refused. */
  attemptFailed(isRefused: boolean): void {
    if (isRefused || !this.#areCallsExpected()) this.#pause = Math.min(2 * this.#pause, MAX_PAUSE_MS);
  }

  #areCallsExpected(): boolean {
    return this.#runtime.now() - this.#lastCallAt < EXPECTED_MS;
  }
}
