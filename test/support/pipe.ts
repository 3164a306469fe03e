import type { Network } from './network.ts';

export type Direction = 'up' | 'down';

/** What an end sends when it hangs up. */
export const END = Buffer.alloc(0);

/** What a pipe needs to know of its connection, and what it tells it. */
interface Connection {
  /** How much longer bytes take than `Conditions` says, in milliseconds. */
  readonly slow: () => number;
  readonly arrived: (piece: Buffer) => void;
  readonly broke: () => void;
}

/** One direction of a connection. Bytes arrive in order, late, and in pieces. */
export class Pipe {
  readonly #network: Network;
  readonly #direction: Direction;
  readonly #connection: Connection;
  #queue: { due: number; bytes: Buffer }[] = [];
  #cancel: (() => void) | undefined;
  /** After so many more bytes the connection breaks. */
  breaksAfter = Infinity;
  /** Whether nothing arrives any more. */
  isBlackHole = false;

  constructor(network: Network, direction: Direction, connection: Connection) {
    this.#network = network;
    this.#direction = direction;
    this.#connection = connection;
  }

  send(bytes: Buffer): void {
    const due = Math.max(this.#queue.at(-1)?.due ?? 0, this.#earliest);
    const { piece } = this.#network.conditions;
    // END is one piece, though it is empty.
    for (let at = 0; at === 0 || at < bytes.length; at += piece)
      this.#queue.push({ due, bytes: bytes.subarray(at, at + piece) });
    this.#schedule();
  }

  /** Brings what is under way forward, if it would arrive earlier under the conditions as they are now. */
  reconsider(): void {
    for (const entry of this.#queue) entry.due = Math.min(entry.due, this.#earliest);
    this.#cancel?.();
    this.#cancel = undefined;
    this.#schedule();
  }

  stop(): void {
    this.isBlackHole = true;
    this.#cancel?.();
    this.#queue = [];
  }

  /** When bytes that are sent now arrive, if nothing is before them. */
  get #earliest(): number {
    return this.#network.clock.now + this.#network.conditions[this.#direction] + this.#connection.slow();
  }

  #schedule(): void {
    const [next] = this.#queue;
    if (!next || this.#cancel || this.isBlackHole || this.#network.conditions.stalled === this.#direction) return;
    this.#cancel = this.#network.clock.at(next.due, () => {
      this.#cancel = undefined;
      this.#pass(this.#take());
      this.#schedule();
    });
  }

  /** Takes the next bytes, and those that arrive with them in one piece. */
  #take(): Buffer {
    const { clock, joins, conditions } = this.#network;
    let taken = this.#queue.shift()?.bytes ?? END;
    for (;;) {
      const [next] = this.#queue;
      const isJoined = joins && next && next.due <= clock.now && taken.length > 0 && next.bytes.length > 0;
      if (!isJoined || taken.length + next.bytes.length > conditions.piece) return taken;
      taken = Buffer.concat([taken, next.bytes]);
      this.#queue.shift();
    }
  }

  #pass(piece: Buffer): void {
    const passed = piece.subarray(0, this.breaksAfter);
    this.breaksAfter -= passed.length;
    if (passed.length === piece.length) return this.#connection.arrived(piece);
    if (passed.length > 0) this.#connection.arrived(passed);
    this.stop();
    // In an event of its own: what has arrived is read before.
    this.#network.clock.at(this.#network.clock.now, () => this.#connection.broke());
  }
}
