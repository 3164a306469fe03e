/**
 * Where the counts of all sessions live. A session is known here by its key, 32 ASCII characters. `start`, `increment` and
 * `end` fail with `CountersUnavailable` at their deadline or up to 25 ms later. A deadline is a time of `performance.now()`.
 */
export interface Counters {
  /** Where the counts live, in words for the log. */
  readonly place: string;
  /**
   * Gets ready in the background. Several users may share the counters: each calls `open` once and `close` once, and the
   * counters close with the last. The log of the first is told when the store is lost and when it is back.
   */
  open(log: Log): void;
  /** Draws one key or more, and starts a session under the last, with a count of 1. */
  start(drawKey: () => string, deadline: number): Promise<void>;
  /** Adds one, at most once, and renews the time to live. Gives the count, or undefined if there is no such session. */
  increment(key: string, deadline: number): Promise<number | undefined>;
  /** Ends a session: its count is gone. */
  end(key: string, deadline: number): Promise<void>;
  /** Closes all connections, if nobody else uses them. */
  close(): void;
}

export interface Log {
  info(message: string): void;
  warn(message: string): void;
}

const MESSAGES = {
  /** There is no connection, or no answer in time. */
  ERR_COUNTERS_UNAVAILABLE: 'The session store cannot be reached',
  /** The store refuses the login of a new add-on for up to three minutes. */
  ERR_COUNTERS_WARMING_UP: 'The session store is warming up',
  ERR_COUNTERS_LOGIN_REFUSED: 'The session store refuses the login',
  ERR_COUNTERS_LOGIN_REQUIRED: 'The session store requires a login, and none is set',
  ERR_COUNTERS_LOGIN_UNSUPPORTED: 'A login is set, but the session store takes none',
  ERR_COUNTERS_NOT_MEMCACHED: 'What answers is not a Memcached with the binary protocol',
  /** The store can be reached, but did not carry out the command; it may be full. */
  ERR_COUNTERS_COMMAND_REFUSED: 'The session store refuses to count',
} as const;

/** Why the counters are unavailable. */
export type UnavailableCode = keyof typeof MESSAGES;

/**
 * The store refused, or did not answer in time. It may have carried out the command all the same: counted, or ended the session.
 * Fastify answers this error with a 503. The message names no host; the cause does.
 */
export class CountersUnavailable extends Error {
  override readonly name = 'CountersUnavailable';
  readonly statusCode = 503;
  readonly code: UnavailableCode;

  constructor(code: UnavailableCode, cause: Error) {
    super(MESSAGES[code], { cause });
    this.code = code;
  }
}

const MAX_TTL = 30 * 24 * 60 * 60;

/** @throws RangeError unless `ttl` is a whole number of seconds from 1 to 2592000: Memcached reads a larger one as a date */
export function checkTtl(ttl: number): void {
  if (Number.isInteger(ttl) && ttl >= 1 && ttl <= MAX_TTL) return;
  throw new RangeError(`The time to live is ${ttl}; it must be a whole number of seconds from 1 to ${MAX_TTL}`);
}
