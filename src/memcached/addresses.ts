/** The addresses that the name of a server has, and which of them to try next. */
export class Addresses {
  /** The address of the last connection that was ready. */
  lastReady: string | undefined;
  /** Those that the last look-up gave. */
  #all: readonly string[] = [];
  /** Those that have been tried since the last success, longest ago first: to add one again moves it to the end. */
  readonly #tried = new Set<string>();

  get isAnyUntried(): boolean {
    return this.#all.some((address) => !this.#tried.has(address));
  }

  /**
   * Picks an address for the next attempt, and notes that it is tried. The untried ones come first, led by the one that was ready
   * last; then the tried ones, longest ago first. An address that an attempt uses is picked only if attempts use all of them.
   */
  pick(all: readonly string[], attempts: readonly { address: string | undefined }[]): string {
    this.#all = all;
    const untried = all.filter((address) => !this.#tried.has(address));
    const preferred = untried.filter((address) => address === this.lastReady);
    const tried = [...this.#tried].filter((address) => all.includes(address));
    const inTurn = [...preferred, ...untried, ...tried];
    const isInUse = (address: string): boolean => attempts.some((attempt) => attempt.address === address);
    const picked = (inTurn.find((address) => !isInUse(address)) ?? inTurn[0]) as string;
    this.#tried.delete(picked);
    this.#tried.add(picked);
    return picked;
  }

  becameReady(address: string | undefined): void {
    this.lastReady = address;
    this.#tried.clear();
  }
}
