/** The addresses that the name of a server has, and which of them to try next. */
export class Addresses {
  #lastServed: string | undefined;
  #all: readonly string[] = [];
  /** Those that have been tried since the last success, longest ago first: to add one again moves it to the end. */
  readonly #tried = new Set<string>();

  /** The one that served last. */
  get lastServed(): string | undefined {
    return this.#lastServed;
  }

  get isAnyUntried(): boolean {
    return this.#all.some((address) => !this.#tried.has(address));
  }

  /**
   * Picks an address for the next attempt, and notes that it is tried. The untried ones come first, led by the one that served last;
   * then the tried ones, longest ago first. One that an attempt is using is picked only if all are.
   */
  pick(all: readonly string[], attempts: readonly { address: string | undefined }[]): string {
    this.#all = all;
    const untried = all.filter((address) => !this.#tried.has(address));
    const preferred = untried.filter((address) => address === this.#lastServed);
    const tried = [...this.#tried].filter((address) => all.includes(address));
    const inTurn = [...preferred, ...untried, ...tried];
    const isInUse = (address: string): boolean => attempts.some((attempt) => attempt.address === address);
    const picked = (inTurn.find((address) => !isInUse(address)) ?? inTurn[0]) as string;
    this.#tried.delete(picked);
    this.#tried.add(picked);
    return picked;
  }

  served(address: string | undefined): void {
    this.#lastServed = address;
    this.#tried.clear();
  }
}
