/**
 * Where the counts of all sessions live. A session is known here by its key, 32 ASCII characters. Whatever is asked fails
 * with `CountersUnavailable` at its deadline, in milliseconds of `performance.now()`, at the latest.
 */
export interface Counters {
  /** Where that is, for the log. */
  readonly place: string;
  /** Gets ready in the background, and tells `log` when the store is lost and when it is back. */
  open(log: Log): void;
  /** Starts a session with a count of 1, under the key that `draw`, a source of random ones, gave last. */
  start(draw: () => string, deadline: number): Promise<void>;
  /** Adds one, at most once, and renews the time to live. Gives the count, or undefined if there is no such session. */
  increment(key: string, deadline: number): Promise<number | undefined>;
  /** Ends a session: its count is gone. */
  end(key: string, deadline: number): Promise<void>;
  /** Lets go of everything. */
  close(): void;
}

export interface Log {
  info(message: string): void;
  warn(message: string): void;
}

/** The counts cannot be asked at present; an increment may have counted all the same. The message may name hosts. */
export class CountersUnavailable extends Error {
  /** Whether the store refuses the login, as that of a new add-on does for its first minutes. */
  warmingUp = false;
}
