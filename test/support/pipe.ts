import type { Network } from './network.ts';

export type Direction = 'up' | 'down';

/** One direction of a connection. Bytes arrive in order, late, and in pieces; none at all are a hang-up. */
export class Pipe {
  readonly #network: Network;
  readonly #direction: Direction;
  /** How much longer than others bytes take here, in milliseconds. */
  readonly #slow: () => number;
  readonly #arrived: (piece: Buffer) => void;
  readonly #broke: () => void;
  #queue: { due: number; bytes: Buffer }[] = [];
  #cancel: (() => void) | undefined;
  /** After so many more bytes the connection breaks. */
  breaksAfter = Infinity;
  /** Whether the other end is gone, and nothing arrives any more. */
  isHole = false;

  constructor(
    network: Network,
    direction: Direction,
    slow: () => number,
    arrived: (piece: Buffer) => void,
    broke: () => void,
  ) {
    this.#network = network;
    this.#direction = direction;
    this.#slow = slow;
    this.#arrived = arrived;
    this.#broke = broke;
  }

  send(bytes: Buffer): void {
    const due = Math.max(this.#queue.at(-1)?.due ?? 0, this.#earliest);
    const { piece } = this.#network.conditions;
    for (let at = 0; at === 0 || at < bytes.length; at += piece)
      this.#queue.push({ due, bytes: bytes.subarray(at, at + piece) });
    this.#schedule();
  }

  /** Lets nothing take longer than it would now. */
  reconsider(): void {
    for (const entry of this.#queue) entry.due = Math.min(entry.due, this.#earliest);
    this.#cancel?.();
    this.#cancel = undefined;
    this.#schedule();
  }

  stop(): void {
    this.#cancel?.();
    this.#queue = [];
  }

  /** When bytes that are sent now arrive, if nothing is before them. */
  get #earliest(): number {
    return this.#network.clock.now + this.#network.conditions[this.#direction] + this.#slow();
  }

  #schedule(): void {
    const [next] = this.#queue;
    if (!next || this.#cancel || this.isHole || this.#network.conditions.stalled === this.#direction) return;
    this.#cancel = this.#network.clock.at(next.due, () => {
      this.#cancel = undefined;
      this.#queue.shift();
      this.#pass(next.bytes);
      this.#schedule();
    });
  }

  #pass(piece: Buffer): void {
    const passed = piece.subarray(0, this.breaksAfter);
    this.breaksAfter -= passed.length;
    if (passed.length === piece.length) return this.#arrived(piece);
    if (passed.length > 0) this.#arrived(passed);
    this.stop();
    this.#broke();
  }
}
