import type { ErrorCode } from '../../src/memcached/server.ts';
import { OK, AUTH_ERROR, UNKNOWN_COMMAND } from './packets.ts';

// What has happened so far, as far as it decides what may happen next.

/** What a refused login means. */
export class LoginHistory {
  readonly #hasLogin: boolean;
  #firstRefusalAt: number | undefined;
  #hasWorked = false;

  constructor(hasLogin: boolean) {
    this.#hasLogin = hasLogin;
  }

  /** Gives why a connection is lost by this response to its login, if it is. */
  answered(status: number, now: number): ErrorCode | undefined {
    this.#hasWorked ||= status === OK;
    if (status === OK) return undefined;
    if (status === AUTH_ERROR) return this.refused(now);
    return status === UNKNOWN_COMMAND ? 'LOGIN_UNSUPPORTED' : 'UNAVAILABLE';
  }

  refused(now: number): ErrorCode {
    if (!this.#hasLogin) return 'LOGIN_REQUIRED';
    this.#firstRefusalAt ??= now;
    return this.#hasWorked || now >= this.#firstRefusalAt + 300_000 ? 'LOGIN_REFUSED' : 'WARMING_UP';
  }
}

/** Which address is due. */
export class AddressHistory {
  readonly #all: readonly string[];
  /** When each was picked, since one served. */
  readonly #picks = new Map<string, number>();
  #serving: string | undefined;

  constructor(all: readonly string[]) {
    this.#all = all;
  }

  get isEachTried(): boolean {
    return this.#picks.size === this.#all.length;
  }

  /** Takes a pick, and gives whether it was due. `underWay` holds it as well. */
  picked(address: string, underWay: readonly (string | undefined)[], now: number): boolean {
    // The lowest is due: the one that served last, then those that were not tried, then by the time of their last try.
    const rank = (each: string): number => this.#picks.get(each) ?? (each === this.#serving ? -2 : -1);
    const isTwice = underWay.filter((each) => each === address).length > 1;
    const others = this.#all.filter((each) => !underWay.includes(each));
    const isDue = others.every((each) => !isTwice && rank(each) >= rank(address));
    this.#picks.set(address, now);
    return isDue;
  }

  /** Gives what the log has to say, if another one served before. */
  served(address: string | undefined): string | undefined {
    const before = this.#serving;
    this.#picks.clear();
    this.#serving = address;
    return before === undefined || before === address ? undefined : `is at ${address} now, and was at ${before}`;
  }
}

export const NAME = 'Memcached at store.example:11211';
export const LOSS = / is not available: ./;
export const RETURN = / is available again$/;

interface News {
  readonly at: number;
  readonly kind: string;
  readonly words: RegExp;
  readonly pause: number;
}

/** What the log has said, and what it may say: only what has happened in this very moment. */
export class LogHistory {
  readonly lines: string[] = [];
  /** The codes of losses that it has said since a call was served. */
  readonly losses = new Set<string>();
  /** Everything else that it has said, by its kind. */
  readonly #saidAt = new Map<string, number>();
  #news: News[] = [];

  /** Something has happened, which is to be said. Unless it is a loss or a return, it is not repeated within `pause` ms. */
  add(at: number, kind: string, words: RegExp, pause = Infinity): void {
    this.#news = [...this.#news.filter((other) => other.at === at), { at, kind, words, pause }];
  }

  /** Nothing is owed to a log that is told no more, and the next one is told of each loss. */
  closed(): void {
    this.losses.clear();
    this.#news = [];
  }

  /** The kinds of what is to be said now, and has not been. */
  owed(now: number): string[] {
    return this.#news.filter((news) => news.at === now && !this.#isRepeated(news)).map(({ kind }) => kind);
  }

  /** Takes a line, and gives whether it may be said. */
  write(line: string, now: number): boolean {
    this.lines.push(line);
    const news = this.#news.findLast((it) => it.at === now && it.words.test(line) && !this.#isRepeated(it));
    if (!news || !line.startsWith(NAME)) return false;
    if (news.words === LOSS) this.losses.add(news.kind);
    else if (news.words === RETURN) this.losses.clear();
    else this.#saidAt.set(news.kind, now);
    this.#news = this.#news.filter((other) => other !== news);
    return true;
  }

  #isRepeated({ at, kind, words, pause }: News): boolean {
    if (words === RETURN) return this.losses.size === 0;
    return this.losses.has(kind) || at - (this.#saidAt.get(kind) ?? -Infinity) < pause;
  }
}
