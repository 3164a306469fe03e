/** Where the counts of all sessions live. A session is known here by its key: 32 ASCII characters. */
export interface Counters {
  /** Where that is, for the log. */
  readonly place: string;
  /** Gets ready in the background. `log` hears what changes: the store lost, the store back. */
  open(log: Log): void;
  /**
   * Starts a session with a count of 1. Its key is the last one that `draw`, a source of random keys, was asked for.
   *
   * @param deadline when to give up, in milliseconds of `performance.now()`, here and below
   * @throws {CountersUnavailable}
   */
  start(draw: () => string, deadline: number): Promise<void>;
  /**
   * Adds one to a session's count, at most once, and renews its time to live.
   *
   * @returns the count, or undefined if there is no such session
   * @throws {CountersUnavailable} the count may have been added all the same
   */
  increment(key: string, deadline: number): Promise<number | undefined>;
  /**
   * Ends a session: its count is gone.
   *
   * @throws {CountersUnavailable}
   */
  end(key: string, deadline: number): Promise<void>;
  /** Lets go of everything. */
  close(): void;
}

export interface Log {
  info(message: string): void;
  warn(message: string): void;
}

/** The counts cannot be asked at present. The message is for the log: it may name hosts. */
export class CountersUnavailable extends Error {
  override readonly name = 'CountersUnavailable';

  /** @param warmingUp whether the store refuses the login, as that of a new add-on does for its first minutes */
  constructor(
    message: string,
    readonly warmingUp = false,
  ) {
    super(message);
  }
}
