import type { Runtime } from '../../src/memcached/runtime.ts';
import { Clock } from './clock.ts';
import { FakeServer, WELL as SERVER_WELL } from './fake-server.ts';
import type { Packet } from './packets.ts';
import { SimulatedSocket } from './socket.ts';

/** The server that a client under test is told of. */
export const SERVER = { host: 'store.example', port: 11_211 };
export const NAME = `Memcached at ${SERVER.host}:${SERVER.port}`;

/** What the network does to everybody, until it is changed. */
export interface Conditions {
  /** How long bytes take to the server, and back, in milliseconds. */
  up: number;
  down: number;
  /** The longest piece in which bytes arrive. */
  piece: number;
  /** In which direction bytes are held back until it is over. */
  stalled: 'none' | 'up' | 'down';
  dns: 'well' | 'fails' | 'hangs';
}

/** How one address behaves. An attempt that meets `silent` hangs for good, even once that is over. */
export interface Reach {
  connect: 'accept' | 'refuse' | 'silent';
  /** How much longer bytes take, there and back, in milliseconds. */
  slow: number;
}

const WELL: Conditions = { up: 1, down: 1, piece: Infinity, stalled: 'none', dns: 'well' };
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
  observer: Partial<Observer> = {};
  /** Whether bytes that arrive at the same time arrive in one piece. */
  joins = false;
  /** Also those that are closed: what was written on them may still arrive. */
  readonly #sockets: SimulatedSocket[] = [];

  /** @param addresses those of the name; none if the host is an address */
  constructor(random: () => number, login?: string, addresses: readonly string[] = []) {
    this.server = new FakeServer(this.clock, login);
    for (const address of addresses.length > 0 ? addresses : [ONLY]) this.addresses.set(address, { ...REACHED });
    this.runtime = {
      connect: (pick) => {
        const socket = new SimulatedSocket(this, addresses.length > 0 ? pick : undefined);
        this.#sockets.push(socket);
        this.observer.attempted?.();
        return socket as unknown as ReturnType<Runtime['connect']>;
      },
      now: () => this.clock.now,
      random,
      endOfTurn: (action) => void this.clock.at(this.clock.now, action),
      // Twice, so that it comes after what arrives at the same time.
      after: (milliseconds, action) =>
        void this.clock.at(this.clock.now + milliseconds, () => this.clock.at(this.clock.now, action)),
    };
  }

  get open(): SimulatedSocket[] {
    return this.#sockets.filter(({ isClosed }) => !isClosed);
  }

  /** How an address behaves; well, if the name no longer has it. */
  reach(address = ONLY): Reach {
    return this.addresses.get(address) ?? { ...REACHED };
  }

  /** Ends all faults that can end: a socket whose server has vanished stays lost. What was held back arrives. */
  heal(): void {
    Object.assign(this.conditions, WELL);
    Object.assign(this.server.conditions, SERVER_WELL);
    this.server.tampering = undefined;
    for (const reach of this.addresses.values()) Object.assign(reach, REACHED);
    for (const socket of this.open)
      for (const direction of ['up', 'down'] as const) socket.breakAfter(direction, Infinity);
    this.reconsider();
  }

  /** Lets what is under way meet the conditions as they are now. To be called when they have changed. */
  reconsider(): void {
    for (const socket of this.#sockets) socket.reconsider();
  }

  /** As if the server process had been killed and started again. */
  restart(): void {
    this.server.items.clear();
    for (const socket of this.open) socket.break('read ECONNRESET');
  }
}
