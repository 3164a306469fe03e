import type { ErrorCode } from '../../src/memcached/server.ts';
import { OK, AUTH_ERROR, UNKNOWN_COMMAND } from './packets.ts';

// Models of what a client has to remember. Each is told what happens, and knows what a right client does then. They use none
// of its code, so that a mistake there is noticed. checker.ts has the model of its state.

const WARM_UP_MS = 300_000;

/** What a refused login means. */
export class LoginModel {
  readonly #hasLogin: boolean;
  #firstRefusalAt: number | undefined;
  #hasWorked = false;

  constructor(hasLogin: boolean) {
    this.#hasLogin = hasLogin;
  }

  /** Notes a response to the login. Gives why it costs the connection, if it does. */
  answered(status: number, now: number): ErrorCode | undefined {
    if (status === AUTH_ERROR) return this.refused(now);
    this.#hasWorked ||= status === OK;
    if (status === OK) return undefined;
    return status === UNKNOWN_COMMAND ? 'LOGIN_UNSUPPORTED' : 'UNAVAILABLE';
  }

  /** Notes an auth error, of the login or of another command, and gives its code. */
  refused(now: number): ErrorCode {
    if (!this.#hasLogin) return 'LOGIN_REQUIRED';
    this.#firstRefusalAt ??= now;
    return this.#hasWorked || now >= this.#firstRefusalAt + WARM_UP_MS ? 'LOGIN_REFUSED' : 'WARMING_UP';
  }
}

/** Which address is tried next. */
export class AddressModel {
  readonly #all: readonly string[];
  /** When each was last tried. Those that were not tried since a connection was ready are not in it. */
  readonly #triedAt = new Map<string, number>();
  #lastReady: string | undefined;

  constructor(all: readonly string[]) {
    this.#all = all;
  }

  get isEachTried(): boolean {
    return this.#triedAt.size === this.#all.length;
  }

  /** Notes that an attempt tries an address, and gives whether it may. `inUse` are those of the other attempts. */
  tried(address: string, inUse: readonly (string | undefined)[], now: number): boolean {
    // The lowest comes first: the one that was ready last, then those that were not tried, then the one tried longest ago.
    const rank = (each: string): number => this.#triedAt.get(each) ?? (each === this.#lastReady ? -2 : -1);
    const free = this.#all.filter((each) => !inUse.includes(each));
    const isNext = free.includes(address) && free.every((each) => rank(address) <= rank(each));
    this.#triedAt.set(address, now);
    return isNext || free.length === 0;
  }

  /** Gives the one that was ready before, if it is another. */
  becameReady(address: string | undefined): string | undefined {
    const before = this.#lastReady;
    this.#triedAt.clear();
    this.#lastReady = address;
    return before === address ? undefined : before;
  }
}

/** What the log has said, and what it has to say before the next event. */
export class LogModel {
  readonly lines: string[] = [];
  /** The codes of the losses that it has said since a call was served. */
  readonly losses = new Set<string>();
  /** When it last said each other thing. */
  readonly #saidAt = new Map<string, number>();
  /** The lines that are due, by what they say. `said` notes that one was said. */
  readonly #due = new Map<string, { words: RegExp; said: () => void }>();

  /** The server is lost, which is said once for each code until a call is served. */
  lost(code: ErrorCode): void {
    if (this.losses.has(code)) return;
    this.#due.set(code, { words: / is not available: ./, said: () => this.losses.add(code) });
  }

  served(): void {
    if (this.losses.size === 0) return;
    this.#due.set('return', { words: / is available again$/, said: () => this.losses.clear() });
  }

  /** The connection that served was lost in the same event: the server is not available again. */
  withdrawReturn(): void {
    this.#due.delete('return');
  }

  /** Anything else, which is not said again within `pause` milliseconds. */
  happened(what: string, words: RegExp, now: number, pause: number): void {
    if (now - (this.#saidAt.get(what) ?? -Infinity) < pause) return;
    this.#due.set(what, { words, said: () => this.#saidAt.set(what, now) });
  }

  /** A log that is told no more is owed nothing, and the next one is told of each loss. */
  closed(): void {
    this.losses.clear();
    this.#due.clear();
  }

  /** Takes a line, and gives whether it was due. */
  write(line: string): boolean {
    this.lines.push(line);
    const [what, due] = [...this.#due].find(([, { words }]) => words.test(line)) ?? [];
    due?.said();
    return what !== undefined && this.#due.delete(what);
  }

  /** Gives what was due and has not been said; it is due no more. */
  takeUnsaid(): string[] {
    const unsaid = [...this.#due.keys()];
    this.#due.clear();
    return unsaid;
  }
}
