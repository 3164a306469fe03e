// When the next attempt to connect is due. As in gRPC, the backoff runs from the start of one attempt to the start of the next, and
// doubles after a failure. But each call makes it short again, and soon after a call only a refusal doubles it.

import type { Runtime } from './runtime.ts';

/** The shortest backoff, before jitter. */
const MIN_BACKOFF_MS = 200;
/** The longest, after jitter: at this cap, jitter only shortens. */
const MAX_BACKOFF_MS = 5000;
/** For how long after a call others are expected. */
const EXPECTED_MS = 3000;

export class Backoff {
  readonly #runtime: Runtime;
  #lastCallAt = -Infinity;
  /** When the last attempt began; -Infinity if the next one is due at once. */
  #startedAt = -Infinity;
  /** Whether calls were expected when the last attempt began. */
  #wereCallsExpected = false;
  #backoff = MIN_BACKOFF_MS;
  /** Multiplies the backoff, by 0.5 to 1.5, so that the dynos do not all try at once. */
  #jitter = 1;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  isDue(): boolean {
    const backoff = Math.min(this.#backoff * this.#jitter, MAX_BACKOFF_MS);
    return this.#runtime.now() >= this.#startedAt + backoff;
  }

  /**
   * Whether a call that has just come may start an attempt and wait for it, rather than fail. Not within 200 ms of the last start.
   * Not while an attempt is under way, which may succeed soon, unless that began when no call was expected: it may be silent since
   * before the server came back.
   */
  maySkip(isAttemptUnderWay: boolean): boolean {
    if (this.#runtime.now() < this.#startedAt + MIN_BACKOFF_MS) return false;
    return !isAttemptUnderWay || !this.#wereCallsExpected;
  }

  /** Makes the next attempt due at once. */
  skip(): void {
    this.#startedAt = -Infinity;
  }

  /** Makes the backoff short again, also the one that is running: `isDue` computes its end each time. */
  reset(): void {
    this.#backoff = MIN_BACKOFF_MS;
  }

  callCame(): void {
    this.#lastCallAt = this.#runtime.now();
    this.reset();
  }

  attemptBegan(): void {
    this.#startedAt = this.#runtime.now();
    this.#wereCallsExpected = this.#areCallsExpected();
    this.#jitter = 0.5 + this.#runtime.random();
  }

  /** Doubles the backoff if an early retry is of little use: no call is expected, or the server has refused. */
  attemptFailed(isRefused: boolean): void {
    if (isRefused || !this.#areCallsExpected()) this.#backoff = Math.min(2 * this.#backoff, MAX_BACKOFF_MS);
  }

  #areCallsExpected(): boolean {
    return this.#runtime.now() - this.#lastCallAt < EXPECTED_MS;
  }
}
