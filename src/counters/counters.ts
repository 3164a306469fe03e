/**
 * Where the counts of all sessions live. A session is known here by its key, 32 ASCII characters. `start`, `increment` and
 * `end` fail with `CountersUnavailable` by their deadline, which is in milliseconds of `performance.now()`.
 */
export interface Counters {
  /** Where the counts live, in words for the log. */
  readonly place: string;
  /** Gets ready in the background. `log` hears when the store is lost and when it is back. */
  open(log: Log): void;
  /**
   * Starts a session with a count of 1.
   *
   * @param draw makes a new random key, with whatever belongs to it; it may be called more than once
   * @returns what `draw` made for this session
   */
  start<Drawn extends { readonly key: string }>(draw: () => Drawn, deadline: number): Promise<Drawn>;
  /** Adds one, at most once, and renews the time to live. Gives the count, or undefined if there is no such session. */
  increment(key: string, deadline: number): Promise<number | undefined>;
  /** Ends a session: its count is gone. */
  end(key: string, deadline: number): Promise<void>;
  /** Closes all connections. */
  close(): void;
}

export interface Log {
  info(message: string): void;
  warn(message: string): void;
}

/** Why the counters are unavailable. The store refuses the login of a new add-on for up to three minutes. */
export type Trouble = 'unavailable' | 'warming up' | 'login refused';

const MESSAGES: Record<Trouble, string> = {
  unavailable: 'The session store is not available',
  'warming up': 'The session store is warming up',
  'login refused': 'The session store refuses the login',
};

/**
 * The store did not do what it was asked. An increment may have counted all the same. Fastify answers it with a 503. The
 * message names no host; the cause does.
 */
export class CountersUnavailable extends Error {
  readonly statusCode = 503;
  readonly trouble: Trouble;

  constructor(trouble: Trouble, cause: Error) {
    super(MESSAGES[trouble], { cause });
    this.trouble = trouble;
  }
}

const LONGEST_TTL = 30 * 24 * 60 * 60;

/**
 * Checks a time to live, in seconds.
 *
 * @throws RangeError unless it is a whole number from 1 to 2592000: Memcached reads a larger one as a date
 */
export function checkTtl(ttl: number): void {
  if (Number.isInteger(ttl) && ttl >= 1 && ttl <= LONGEST_TTL) return;
  throw new RangeError(`The time to live is ${ttl}; it has to be a whole number of seconds from 1 to ${LONGEST_TTL}`);
}
