import { EventEmitter } from 'node:events';
import type { ErrorCode } from '../../src/memcached/server.ts';
import { ServerConnection } from './fake-server.ts';
import type { Network } from './network.ts';
import { isWrong, split, type Packet } from './packets.ts';
import { END, Pipe, type Direction } from './pipe.ts';

/** The client's socket. It owns the rest of the connection too: a pipe in each direction, and the server's side. */
export class SimulatedSocket extends EventEmitter {
  readonly openedAt: number;
  /** Undefined until one is picked, and always if the host is an address. */
  address: string | undefined;
  /** Requests that were written, and whose response has not come, oldest first. */
  readonly outstanding: { readonly request: Packet; readonly writtenAt: number }[] = [];
  /** By opaque. */
  readonly responses = new Map<number, Packet>();
  /** Why the client has to lose it, or has lost it. The checker sets it as well, as it knows what a response means. */
  reason: ErrorCode | undefined;
  isClosed = false;
  /** Whether the piece that is arriving ends in wrong bytes, for which the client loses the connection at once. */
  isBroken = false;
  readonly #network: Network;
  readonly #pick: ((addresses: readonly string[]) => string) | undefined;
  readonly #pipes: Readonly<Record<Direction, Pipe>>;
  readonly #server: ServerConnection;
  #isConnected = false;
  /** When the connection is made or refused: it is brought forward at times, and never put off. */
  #connectDue = Infinity;
  #cancelConnect: () => void;
  /** The beginning of a response. */
  #received: Buffer = Buffer.alloc(0);

  /** @param pick chooses one of the addresses of the name; undefined if the host is an address */
  constructor(network: Network, pick: ((addresses: readonly string[]) => string) | undefined) {
    super();
    this.#network = network;
    this.#pick = pick;
    this.openedAt = network.clock.now;
    const pipe = (direction: Direction, arrived: (piece: Buffer) => void): Pipe => {
      const slow = (): number => network.reach(this.address).slow / 2;
      return new Pipe(network, direction, { slow, arrived, broke: () => this.break('read ECONNRESET') });
    };
    this.#pipes = {
      up: pipe('up', (piece) => this.#server.receive(piece)),
      down: pipe('down', (piece) => this.#receive(piece)),
    };
    this.#server = new ServerConnection(network.server, (bytes) => this.#pipes.down.send(bytes));
    this.#cancelConnect = network.clock.at(network.clock.now, () => this.#connect());
  }

  /** For how long the client has waited for the oldest response, or for the connection. */
  get silence(): number {
    const now = this.#network.clock.now;
    return now - (this.#isConnected ? (this.outstanding[0]?.writtenAt ?? now) : this.openedAt);
  }

  // What the client calls.

  write(bytes: Buffer): boolean {
    if (this.isClosed) return false;
    if (!this.#isConnected) this.#violate('it writes before it is connected');
    const { packets: requests, rest } = split(bytes);
    if (requests.length === 0 || rest.length > 0) this.#violate('it writes no whole requests');
    for (const request of requests) this.outstanding.push({ request, writtenAt: this.#network.clock.now });
    this.#network.observer.wrote?.(this, requests);
    this.#pipes.up.send(bytes);
    return true;
  }

  destroy(): void {
    // The client may lose it for a second of silence, which only this shows.
    if (this.silence >= 1000 && !this.reason && !this.isClosed) this.#fail('UNAVAILABLE');
    this.#close();
    // The network outlives it, and must not keep the client's side.
    this.removeAllListeners();
  }

  // What befalls the connection.

  break(message: string): void {
    if (this.isClosed) return;
    this.#fail(this.reason ?? 'UNAVAILABLE');
    this.#close();
    this.emit('error', new Error(message));
  }

  /** Breaks it after so many more bytes in one direction. */
  breakAfter(direction: Direction, bytes: number): void {
    this.#pipes[direction].breaksAfter = bytes;
  }

  /** The server is gone, and nobody tells. */
  vanish(): void {
    for (const pipe of Object.values(this.#pipes)) pipe.isBlackHole = true;
  }

  /** The server closes its side politely, behind what it has sent. */
  hangUp(): void {
    if (this.#isConnected) this.#server.hangUp();
  }

  /** The client hears of a hang-up. */
  hearEnd(): void {
    if (this.isClosed || !this.#isConnected) return;
    this.#fail(this.reason ?? 'UNAVAILABLE');
    this.emit('end');
    if (this.#network.open.includes(this)) this.#violate('a hang-up was not noticed');
  }

  /** Lets what is under way meet the conditions as they are now. */
  reconsider(): void {
    if (this.#isConnected) {
      for (const pipe of Object.values(this.#pipes)) pipe.reconsider();
      this.#server.goOn();
    } else if (!this.isClosed) {
      this.#cancelConnect();
      this.#connect();
    }
  }

  /** Looks its address up, unless it has one, and connects to it. May be called again, until it is connected. */
  #connect(): void {
    const { conditions, clock, addresses, observer } = this.#network;
    if (this.#pick && this.address === undefined) {
      if (conditions.dns === 'hangs') return;
      if (conditions.dns === 'fails') return this.break('getaddrinfo ENOTFOUND store.example');
      this.address = this.#pick([...addresses.keys()]);
      observer.picked?.(this);
    }
    const { connect, slow } = this.#network.reach(this.address);
    const { up } = this.#pipes;
    // For good, even if the address accepts again while this attempt is under way.
    if (connect === 'silent') up.isBlackHole = true;
    if (up.isBlackHole) return;
    this.#connectDue = Math.min(this.#connectDue, clock.now + conditions.up + conditions.down + slow);
    this.#cancelConnect = clock.at(this.#connectDue, () => {
      if (connect === 'refuse') return this.break('connect ECONNREFUSED');
      this.#isConnected = true;
      this.emit('connect');
      this.#server.accept();
    });
  }

  /** Tells the observer of each response, and then the client of the bytes. */
  #receive(piece: Buffer): void {
    if (piece.length === END.length) return this.hearEnd();
    this.#received = Buffer.concat([this.#received, piece]);
    for (const [request, response] of this.#takeResponses()) {
      this.outstanding.shift();
      this.responses.set(request.opaque, response);
      this.#network.observer.answered?.(this, request, response);
    }
    if (this.isBroken) this.#fail(this.responses.size > 0 ? 'UNAVAILABLE' : 'NOT_MEMCACHED');
    this.emit('data', piece);
    if (this.isBroken && !this.isClosed) this.#violate('wrong bytes were not noticed');
  }

  /** Takes the whole responses that have arrived, each with its request, up to the first wrong byte. */
  #takeResponses(): [request: Packet, response: Packet][] {
    const taken: [Packet, Packet][] = [];
    for (;;) {
      const request = this.outstanding[taken.length]?.request;
      this.isBroken = isWrong(this.#received, request);
      const [response] = split(this.#received).packets;
      if (this.isBroken || !response || !request) return taken;
      taken.push([request, response]);
      this.#received = this.#received.subarray(24 + this.#received.readUInt32BE(8));
    }
  }

  #fail(reason: ErrorCode): void {
    this.reason = reason;
    this.#network.observer.failed?.(this);
  }

  #close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#cancelConnect();
    // What was written may still be carried out.
    this.#pipes.down.stop();
    this.#network.observer.lost?.(this);
  }

  #violate(what: string): void {
    this.#network.observer.violate?.(6, what);
  }
}
