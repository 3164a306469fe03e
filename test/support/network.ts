import { EventEmitter } from 'node:events';
import type { ErrorCode } from '../../src/memcached/server.ts';
import type { Runtime } from '../../src/memcached/runtime.ts';
import { Clock } from './clock.ts';
import { FakeServer, ServerConnection, WELL as SERVER_WELL } from './fake-server.ts';
import { split, isWrong, type Packet } from './packets.ts';

/** What the network does to everybody, until it is changed. */
export interface Conditions {
  /** How long bytes take to the server, and back, in milliseconds. */
  up: number;
  down: number;
  /** The longest piece in which bytes arrive. */
  piece: number;
  /** Bytes that are held back until it is over. */
  stalled: 'none' | 'up' | 'down';
  dns: 'well' | 'fails' | 'hangs';
}

/** How one address behaves: `silent` makes no connection, and never will for those who try then. */
export interface Reach {
  connect: 'accept' | 'refuse' | 'silent';
  /** How much longer bytes take, there and back, in milliseconds. */
  slow: number;
}

export const WELL: Conditions = { up: 1, down: 1, piece: Infinity, stalled: 'none', dns: 'well' };
const REACHED: Reach = { connect: 'accept', slow: 0 };
/** What an attempt tries if the host is an address. */
const ONLY = '192.0.2.1';

/** Who watches the network. Each method is called before the client hears of it. */
export interface Observer {
  attempted(): void;
  picked(socket: SimulatedSocket): void;
  wrote(socket: SimulatedSocket, requests: readonly Packet[]): void;
  answered(socket: SimulatedSocket, request: Packet, response: Packet): void;
  /** By its own end, by silence or by wrong bytes. */
  failed(socket: SimulatedSocket): void;
  /** `socket.reason` says why the client has to lose it, if it has to. */
  lost(socket: SimulatedSocket): void;
  violate(invariant: number, what: string): void;
}

/** A name with some addresses, a server behind all of them, and what lies between. */
export class Network {
  readonly clock = new Clock();
  readonly conditions: Conditions = { ...WELL };
  readonly addresses = new Map<string, Reach>();
  readonly server: FakeServer;
  readonly runtime: Runtime;
  observer: Partial<Observer> | undefined;
  readonly #sockets: SimulatedSocket[] = [];

  /** @param addresses those of the name; none if the host is an address */
  constructor(random: () => number, login?: string, addresses: readonly string[] = []) {
    this.server = new FakeServer(this.clock, login);
    for (const address of addresses.length > 0 ? addresses : [ONLY]) this.addresses.set(address, { ...REACHED });
    this.runtime = {
      connect: (pick) => {
        const socket = new SimulatedSocket(this, addresses.length > 0 ? pick : undefined);
        this.#sockets.push(socket);
        this.observer?.attempted?.();
        return socket as unknown as ReturnType<Runtime['connect']>;
      },
      now: () => this.clock.now,
      random,
      endOfTurn: (action) => void this.clock.at(this.clock.now, action),
      // When what arrives in the same moment has been read.
      after: (milliseconds, action) =>
        void this.clock.at(this.clock.now + milliseconds, () => this.clock.at(this.clock.now, action)),
    };
  }

  get open(): SimulatedSocket[] {
    return this.#sockets.filter(({ isClosed }) => !isClosed);
  }

  reach(address: string | undefined): Reach {
    return this.addresses.get(address ?? ONLY) ?? REACHED;
  }

  /** Ends all faults. What was held back arrives. */
  heal(): void {
    Object.assign(this.conditions, WELL);
    Object.assign(this.server.conditions, SERVER_WELL);
    this.server.tampering = undefined;
    for (const reach of this.addresses.values()) Object.assign(reach, REACHED);
    for (const socket of this.open)
      for (const direction of ['up', 'down'] as const) socket.breakAfter(direction, Infinity);
    this.reconsider();
  }

  /** Lets what is under way meet the conditions as they are now, also what was written before a close. */
  reconsider(): void {
    for (const socket of this.#sockets) socket.reconsider();
  }

  /** As if the server process had been killed and started again. */
  restart(): void {
    this.server.items.clear();
    for (const socket of this.open) socket.break('read ECONNRESET');
  }
}

/** One direction of a connection. Bytes arrive in order, late, and in pieces; none at all are a hang-up. */
class Pipe {
  readonly #network: Network;
  readonly #latency: () => number;
  readonly #direction: 'up' | 'down';
  readonly #arrive: (piece: Buffer) => void;
  #queue: { due: number; bytes: Buffer }[] = [];
  #cancel: (() => void) | undefined;
  /** After so many more bytes the connection breaks. */
  breaksAfter = Infinity;
  /** Whether the other end is gone, and nothing arrives any more. */
  isHole = false;

  constructor(network: Network, direction: 'up' | 'down', slow: () => number, arrive: (piece: Buffer) => void) {
    this.#network = network;
    this.#direction = direction;
    this.#latency = () => network.conditions[direction] + slow() / 2;
    this.#arrive = arrive;
  }

  send(bytes: Buffer): void {
    const due = Math.max(this.#queue.at(-1)?.due ?? 0, this.#network.clock.now + this.#latency());
    const { piece } = this.#network.conditions;
    for (let at = 0; at === 0 || at < bytes.length; at += piece)
      this.#queue.push({ due, bytes: bytes.subarray(at, at + piece) });
    this.#schedule();
  }

  /** Lets nothing take longer than it would now. */
  reconsider(): void {
    const latest = this.#network.clock.now + this.#latency();
    for (const entry of this.#queue) entry.due = Math.min(entry.due, latest);
    this.#cancel?.();
    this.#cancel = undefined;
    this.#schedule();
  }

  stop(): void {
    this.#cancel?.();
    this.#queue = [];
  }

  #schedule(): void {
    const [next] = this.#queue;
    if (!next || this.#cancel || this.isHole || this.#network.conditions.stalled === this.#direction) return;
    this.#cancel = this.#network.clock.at(next.due, () => {
      this.#cancel = undefined;
      this.#queue.shift();
      this.#arrive(next.bytes);
      this.#schedule();
    });
  }
}

/** The client's socket, and what travels between it and the server's side of the same connection. */
export class SimulatedSocket extends EventEmitter {
  readonly #network: Network;
  readonly #pick: ((addresses: readonly string[]) => string) | undefined;
  readonly #up: Pipe;
  readonly #down: Pipe;
  readonly #server: ServerConnection;
  readonly openedAt: number;
  #cancelConnect: (() => void) | undefined;
  /** When the attempt that is under way succeeds or is refused. */
  #connectDue = Infinity;
  #isConnected = false;
  #undelivered: Buffer = Buffer.alloc(0);
  /** Requests that were written, and whose response has not come, oldest first. */
  readonly outstanding: { readonly request: Packet; readonly writtenAt: number }[] = [];
  /** By opaque. */
  readonly responses = new Map<number, Packet>();
  address: string | undefined;
  /** Why the client has to lose it, as far as the network can tell. */
  reason: ErrorCode | undefined;
  isClosed = false;

  constructor(network: Network, pick: ((addresses: readonly string[]) => string) | undefined) {
    super();
    this.#network = network;
    this.#pick = pick;
    this.openedAt = network.clock.now;
    const slow = (): number => network.reach(this.address).slow;
    this.#up = new Pipe(network, 'up', slow, (piece) => this.#pass(this.#up, piece, (it) => this.#server.receive(it)));
    this.#down = new Pipe(network, 'down', slow, (piece) => this.#pass(this.#down, piece, (it) => this.#deliver(it)));
    this.#server = new ServerConnection(
      network.server,
      (bytes) => this.isClosed || this.#down.send(bytes),
      () => this.isClosed || this.#down.send(Buffer.alloc(0)),
    );
    this.#cancelConnect = network.clock.at(network.clock.now, () => this.#connect());
  }

  /** For how long the client has waited for the oldest response, or for the connection. */
  get silence(): number {
    const now = this.#network.clock.now;
    return now - (this.#isConnected ? (this.outstanding[0]?.writtenAt ?? now) : this.openedAt);
  }

  /** What the client calls. */
  write(bytes: Buffer): boolean {
    if (this.isClosed) return false;
    if (!this.#isConnected) this.#network.observer?.violate?.(6, 'it writes before it is connected');
    const { packets: requests } = split(bytes);
    if (requests.length === 0) this.#network.observer?.violate?.(6, 'it writes nothing');
    for (const request of requests) this.outstanding.push({ request, writtenAt: this.#network.clock.now });
    this.#network.observer?.wrote?.(this, requests);
    this.#up.send(bytes);
    return true;
  }

  /** What the client calls. */
  destroy(): void {
    if (this.silence >= 1000 && !this.reason && !this.isClosed) this.#fail('UNAVAILABLE');
    this.#close();
    // The network outlives it, and must not keep the client's side.
    this.removeAllListeners();
  }

  #close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#cancelConnect?.();
    // What was written may still be carried out.
    this.#down.stop();
    this.#network.observer?.lost?.(this);
  }

  #fail(reason: ErrorCode): void {
    this.reason = reason;
    this.#network.observer?.failed?.(this);
  }

  /** Breaks the connection. */
  break(message: string): void {
    if (this.isClosed) return;
    this.#fail(this.reason ?? 'UNAVAILABLE');
    this.#close();
    this.emit('error', new Error(message));
  }

  /** Breaks it after so many more bytes in one direction. */
  breakAfter(direction: 'up' | 'down', bytes: number): void {
    (direction === 'up' ? this.#up : this.#down).breaksAfter = bytes;
  }

  /** The server is gone, and nobody tells. */
  vanish(): void {
    this.#up.isHole = this.#down.isHole = true;
  }

  /** The server closes its side politely, behind what it has sent. */
  hangUp(): void {
    if (this.#isConnected) this.#server.hangUp();
  }

  /** The client hears of that. */
  hearEnd(): void {
    if (this.isClosed || !this.#isConnected) return;
    this.#fail(this.reason ?? 'UNAVAILABLE');
    this.emit('end');
    if (this.#network.open.includes(this)) this.#network.observer?.violate?.(6, 'a hang-up was not noticed');
  }

  reconsider(): void {
    if (!this.#isConnected) {
      this.#cancelConnect?.();
      if (!this.isClosed) this.#connect();
      return;
    }
    this.#up.reconsider();
    this.#down.reconsider();
    this.#server.goOn();
  }

  #connect(): void {
    const { conditions, clock, addresses } = this.#network;
    if (this.#pick && this.address === undefined) {
      if (conditions.dns === 'hangs') return;
      if (conditions.dns === 'fails') return this.break('getaddrinfo ENOTFOUND store.example');
      this.address = this.#pick([...addresses.keys()]);
      this.#network.observer?.picked?.(this);
    }
    const { connect, slow } = this.#network.reach(this.address);
    if (connect === 'silent') this.#up.isHole = true;
    if (this.#up.isHole) return;
    this.#connectDue = Math.min(this.#connectDue, clock.now + conditions.up + conditions.down + slow);
    this.#cancelConnect = clock.at(this.#connectDue, () => {
      if (connect === 'refuse') return this.break(`connect ECONNREFUSED ${this.address ?? ONLY}:11211`);
      this.#isConnected = true;
      this.emit('connect');
      this.#server.accept();
    });
  }

  #pass(pipe: Pipe, piece: Buffer, arrive: (bytes: Buffer) => void): void {
    const rest = pipe.breaksAfter - piece.length;
    if (rest >= 0) {
      pipe.breaksAfter = rest;
      return arrive(piece);
    }
    if (pipe.breaksAfter > 0) arrive(piece.subarray(0, pipe.breaksAfter));
    pipe.stop();
    this.break('read ECONNRESET');
  }

  #deliver(piece: Buffer): void {
    if (piece.length === 0) return this.hearEnd();
    let bytes = this.#undelivered.length > 0 ? Buffer.concat([this.#undelivered, piece]) : piece;
    let isBroken = false;
    while (bytes.length > 0) {
      const due = this.outstanding[0]?.request;
      isBroken = isWrong(bytes, due);
      if (isBroken) this.#fail(this.responses.size > 0 ? 'UNAVAILABLE' : 'NOT_MEMCACHED');
      const [response] = split(bytes).packets;
      if (isBroken || !response || !due) break;
      bytes = bytes.subarray(24 + bytes.readUInt32BE(8));
      this.outstanding.shift();
      this.responses.set(due.opaque, response);
      this.#network.observer?.answered?.(this, due, response);
    }
    this.#undelivered = bytes;
    this.emit('data', piece);
    if (isBroken && !this.isClosed) this.#network.observer?.violate?.(6, 'wrong bytes were not noticed');
  }
}
