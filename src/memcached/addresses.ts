/** The addresses that the name of a server has, and which of them to try next. */
export class Addresses {
  #all: readonly string[] = [];
  /** When each was tried, since the last success. */
  readonly #triedAt = new Map<string, number>();
  /** The one that served last. */
  serving: string | undefined;

  /** Whether one has not been tried since the last success. */
  get isAnyLeft(): boolean {
    return this.#all.some((address) => !this.#triedAt.has(address));
  }

  /** The address that served last comes first, then those tried longest ago. One that is under way comes last. */
  pick(all: readonly string[], attempts: readonly { address: string | undefined }[], now: number): string {
    this.#all = all;
    const rank = (address: string): number => {
      if (attempts.some((attempt) => attempt.address === address)) return Infinity;
      // Times are not negative, so those that have not been tried come before the others.
      return this.#triedAt.get(address) ?? (address === this.serving ? -2 : -1);
    };
    const [first] = [...all].sort((one, other) => rank(one) - rank(other)) as [string];
    this.#triedAt.set(first, now);
    return first;
  }

  served(address: string | undefined): void {
    this.serving = address;
    this.#triedAt.clear();
  }
}
