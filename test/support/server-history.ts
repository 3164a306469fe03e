import type { ErrorCode } from '../../src/memcached/server.ts';
import { NOT_FOUND, OK, REFUSED } from './packets.ts';

// What a server has done so far, as far as the client's behaviour depends on it.

/** What a refused login means. */
export class LoginHistory {
  readonly #isSet: boolean;
  #firstRefusalAt: number | undefined;
  #hasWorked = false;

  constructor(isSet: boolean) {
    this.#isSet = isSet;
  }

  worked(): void {
    this.#hasWorked = true;
  }

  refused(now: number): ErrorCode {
    if (!this.#isSet) return 'LOGIN_REQUIRED';
    this.#firstRefusalAt ??= now;
    return this.#hasWorked || now >= this.#firstRefusalAt + 300_000 ? 'LOGIN_REFUSED' : 'WARMING_UP';
  }
}

/** Whether TOUCH is still sent, and what the log may say of it. */
export class TouchHistory {
  #isAnswered = false;
  #isRefused = false;
  #hangUps = 0;

  answered(status: number): void {
    this.#isAnswered = true;
    this.#isRefused ||= ![OK, NOT_FOUND, REFUSED].includes(status);
  }

  hungUp(): void {
    this.#hangUps += 1;
  }

  get isSent(): boolean {
    return this.#isAnswered || this.#hangUps < 2;
  }

  /** Whether a log line is true. */
  explains(line: string): boolean {
    return line.includes('hangs up') ? !this.isSent : this.#isRefused;
  }
}

/** Which address is due. */
export class AddressHistory {
  /** What the log has not said yet of a move. */
  unsaid: string | undefined;
  readonly #all: readonly string[];
  /** When each was picked, since one served. */
  readonly #picks = new Map<string, number>();
  #serving: string | undefined;

  constructor(all: readonly string[]) {
    this.#all = all;
  }

  /** Whether each has been tried, or the name was not looked up. */
  get isNoneLeft(): boolean {
    return this.#picks.size === 0 || this.#picks.size === this.#all.length;
  }

  /** Gives what is wrong with a pick, if anything. `underWay` holds it as well. */
  picked(address: string, underWay: readonly (string | undefined)[], now: number): string | undefined {
    const isFirst = this.#picks.size === 0 && this.#serving !== undefined;
    const at = (each: string): number => this.#picks.get(each) ?? -Infinity;
    const isOlderLeft = this.#all.some((each) => !underWay.includes(each) && at(each) < at(address));
    this.#picks.set(address, now);
    if (this.#all.length > 1 && underWay.filter((each) => each === address).length > 1)
      return `two attempts on ${address}`;
    if (isFirst && address !== this.#serving) return `${address} first, where ${this.#serving} served last`;
    return !isFirst && isOlderLeft ? `${address} again, before another` : undefined;
  }

  served(address: string | undefined): void {
    this.#picks.clear();
    if (this.#serving !== undefined && this.#serving !== address)
      this.unsaid = `at ${address} now, and was at ${this.#serving}`;
    this.#serving = address;
  }
}
