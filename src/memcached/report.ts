import type { ErrorCode, MemcachedError } from './errors.ts';

/** Where a client says what has changed. */
export interface Log {
  info(message: string): void;
  warn(message: string): void;
}

/** How long a repeated refusal stays out of the log. */
const REFUSAL_PAUSE_MS = 60_000;

/** What the log says of one server: each change once. */
export class Report {
  readonly #name: string;
  #log: Log | undefined;
  /** Why the server is not available, as far as the log has said it since it last served. */
  readonly #codes = new Set<ErrorCode>();
  /** When each kind of refusal may be logged again. */
  readonly #refusalAt = new Map<string, number>();
  #isTouchReported = false;

  constructor(name: string) {
    this.#name = name;
  }

  /** Starts over, with this log. */
  open(log: Log): void {
    this.#log = log;
    this.#codes.clear();
  }

  lost({ code, message }: MemcachedError): void {
    if (this.#codes.has(code)) return;
    this.#codes.add(code);
    this.#log?.warn(`${this.#name} is not available: ${message}`);
  }

  served(): void {
    if (this.#codes.size === 0) return;
    this.#codes.clear();
    this.#log?.info(`${this.#name} is available again`);
  }

  moved(from: string | undefined, to: string | undefined): void {
    if (from !== undefined && from !== to) this.#log?.info(`${this.#name} is at ${to} now, and was at ${from}`);
  }

  /** `kind` is one of a few. */
  refused(kind: string, words: string, now: number): void {
    if (now < (this.#refusalAt.get(kind) ?? -Infinity)) return;
    this.#refusalAt.set(kind, now + REFUSAL_PAUSE_MS);
    this.#log?.warn(`${this.#name} ${words}`);
  }

  /** TOUCH is refused each time or never, so this is said once. */
  touchRefused(words: string): void {
    if (this.#isTouchReported) return;
    this.#isTouchReported = true;
    this.#log?.warn(`${this.#name} ${words}. Sessions in use no longer outlive their time to live`);
  }
}
