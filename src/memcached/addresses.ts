/** The addresses that the name of a server has, and which of them to try next. */
export class Addresses {
  /** The one that served last. */
  lastServed: string | undefined;
  #all: readonly string[] = [];
  /** Those that have been tried since the last success, longest ago first. */
  readonly #tried = new Set<string>();

  /** Whether one has not been tried since the last success. */
  get isAnyLeft(): boolean {
    return this.#all.some((address) => !this.#tried.has(address));
  }

  /**
   * Picks an address for the next attempt, and notes that it is tried: the one that served last, then those not tried since, then
   * those tried longest ago. An address that is attempted now is picked only if there is no other.
   */
  pick(all: readonly string[], attempts: readonly { address: string | undefined }[]): string {
    this.#all = all;
    const isLastServed = (address: string): number => Number(address === this.lastServed);
    const untried = all.filter((address) => !this.#tried.has(address));
    untried.sort((one, other) => isLastServed(other) - isLastServed(one));
    const tried = [...this.#tried].filter((address) => all.includes(address));
    const inTurn = [...untried, ...tried];
    const isFree = (address: string): boolean => attempts.every((attempt) => attempt.address !== address);
    const picked = (inTurn.find(isFree) ?? inTurn[0]) as string;
    this.#tried.delete(picked);
    this.#tried.add(picked);
    return picked;
  }

  served(address: string | undefined): void {
    this.lastServed = address;
    this.#tried.clear();
  }
}
