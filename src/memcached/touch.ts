import type { Response } from './protocol.ts';
import type { Report } from './report.ts';

/** A server that has hung up at TOUCH so often, and never answered one, is not sent another. */
const MAX_HANG_UPS = 2;

/** Whether a server takes TOUCH, which nobody waits for. Some refuse it, and some proxies hang up at what they do not know. */
export class Touch {
  readonly #report: Report;
  #hangUps = 0;
  #isAnswered = false;

  constructor(report: Report) {
    this.#report = report;
  }

  get isSent(): boolean {
    return this.#isAnswered || this.#hangUps < MAX_HANG_UPS;
  }

  answered({ outcome, words }: Response): void {
    this.#isAnswered = true;
    if (outcome === 'refused' || outcome === 'unknown command') this.#report.touchRefused(`refuses TOUCH: ${words}`);
  }

  hungUp(): void {
    this.#hangUps += 1;
    if (!this.isSent) this.#report.touchRefused('hangs up at TOUCH');
  }
}
