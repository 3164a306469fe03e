import { EventEmitter } from 'node:events';
import type { Runtime } from '../../src/memcached/runtime.ts';
import { PROBE_KEY } from '../../src/memcached/protocol.ts';

// A network, a clock and a Memcached server that exist only in a test. Time passes when the test says so.

/** A pseudo-random number from 0 to 1, the same sequence for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let bits = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Timer {
  readonly at: number;
  readonly action: () => void;
}

/** Time in milliseconds, and what is to happen when. */
export class Clock {
  now = 0;
  /** In the order in which they are due. */
  readonly #timers: Timer[] = [];

  get pending(): number {
    return this.#timers.length;
  }

  at(time: number, action: () => void): () => void {
    const timer = { at: Math.max(time, this.now), action };
    let index = this.#timers.length;
    while (index > 0 && (this.#timers[index - 1] as Timer).at > timer.at) index -= 1;
    this.#timers.splice(index, 0, timer);
    return () => {
      const found = this.#timers.indexOf(timer);
      if (found >= 0) this.#timers.splice(found, 1);
    };
  }

  /** Lets time pass, one event after the other. `afterEach` is called when all promises that an event settled are done. */
  async run(until: number, afterEach: () => void): Promise<void> {
    for (;;) {
      // Longer than any chain of promises here.
      for (let turn = 0; turn < 8; turn += 1) await Promise.resolve();
      afterEach();
      const next = this.#timers[0];
      if (!next || next.at > until) break;
      this.#timers.shift();
      this.now = next.at;
      next.action();
    }
    this.now = until;
  }
}

/** What the network and the server do to everybody, until it is changed. */
export interface Conditions {
  /** How long bytes take to the server, and back, in milliseconds. */
  up: number;
  down: number;
  /** The longest piece in which bytes arrive. */
  piece: number;
  /** Silently: a connection that is tried then is never made. */
  connect: 'accept' | 'refuse' | 'silent';
  /** Bytes that are held back until it is over. */
  stalled: 'none' | 'up' | 'down';
  /** A front end answers logins by itself; the store behind it may be stuck. */
  store: 'well' | 'stuck' | 'full';
  login: 'well' | 'refused';
  touch: 'well' | 'refused';
}

export const WELL: Conditions = {
  up: 1,
  down: 1,
  piece: Infinity,
  connect: 'accept',
  stalled: 'none',
  store: 'well',
  login: 'well',
  touch: 'well',
};

/** What may be done to the next reply. */
export const TAMPERINGS = [
  'magic',
  'opcode',
  'number',
  'status',
  'length',
  'endless',
  'body',
  'no body',
  'zero',
  'drop',
  'double',
  'swap',
] as const;
export type Tampering = (typeof TAMPERINGS)[number];

/** A request as the client wrote it. */
export interface Written {
  readonly link: number;
  readonly number: number;
  readonly opcode: number;
  readonly key: string;
  readonly creates: boolean;
}

const [DELETE, INCREMENT, TOUCH, LOGIN] = [0x04, 0x05, 0x1c, 0x21];
const [OK, NOT_FOUND, REFUSED, FULL, UNKNOWN] = [0, 1, 0x20, 0x82, 0x81];

/** A server that can be reached through a network. */
export class Network {
  readonly clock = new Clock();
  readonly conditions: Conditions = { ...WELL };
  /** What the server counts. */
  readonly counts = new Map<string, { count: number; expires: number }>();
  /** The count that the server answered each INCREMENT with, by link and number. */
  readonly answers = new Map<string, number>();
  readonly #open = new Set<SimulatedSocket>();
  readonly written: Written[] = [];
  readonly connectedAt: number[] = [];
  /** Links on which a question about a key was answered. */
  readonly proven = new Set<number>();
  /** What the client gave up though the server answered in time. */
  readonly abandoned: string[] = [];
  readonly login: string | undefined;
  readonly runtime: Runtime;
  tampering: Tampering | undefined;

  constructor(random: () => number, login?: string) {
    this.login = login;
    this.runtime = {
      connect: (pick) => {
        void pick;
        const socket: SimulatedSocket = new SimulatedSocket(this, this.connectedAt.length, () =>
          this.#open.delete(socket),
        );
        this.#open.add(socket);
        this.connectedAt.push(this.clock.now);
        return socket as unknown as ReturnType<Runtime['connect']>;
      },
      now: () => this.clock.now,
      random,
      endOfTurn: (action) => void this.clock.at(this.clock.now, action),
      after: (milliseconds, action) => this.clock.at(this.clock.now + milliseconds, action),
    };
  }

  get open(): SimulatedSocket[] {
    return [...this.#open];
  }

  /** Ends all faults. What was held back arrives. */
  heal(): void {
    Object.assign(this.conditions, WELL);
    this.tampering = undefined;
    for (const socket of this.open) socket.breakAfter('up', Infinity);
    for (const socket of this.open) socket.breakAfter('down', Infinity);
    this.change({});
  }

  change(conditions: Partial<Conditions>): void {
    Object.assign(this.conditions, conditions);
    for (const socket of this.open) socket.hasten();
  }

  /** As if the server process had been killed and started again. */
  restart(): void {
    this.counts.clear();
    for (const socket of this.open) socket.break('read ECONNRESET');
  }
}

/** One direction of a connection. Bytes arrive in order, late, and in pieces. */
class Pipe {
  readonly #network: Network;
  readonly #direction: 'up' | 'down';
  readonly #arrive: (piece: Buffer) => void;
  #queue: { due: number; bytes: Buffer }[] = [];
  #cancel: (() => void) | undefined;
  /** After so many more bytes the connection breaks. */
  breaksAfter = Infinity;
  /** Whether the other end is gone, and nothing arrives any more. */
  isHole = false;

  constructor(network: Network, direction: 'up' | 'down', arrive: (piece: Buffer) => void) {
    this.#network = network;
    this.#direction = direction;
    this.#arrive = arrive;
  }

  send(bytes: Buffer): void {
    const last = this.#queue.at(-1)?.due ?? 0;
    const due = Math.max(last, this.#network.clock.now + this.#network.conditions[this.#direction]);
    for (let at = 0; at < bytes.length; at += this.#network.conditions.piece) {
      this.#queue.push({ due, bytes: bytes.subarray(at, at + this.#network.conditions.piece) });
    }
    this.#schedule();
  }

  /** Lets nothing take longer than it would now. */
  hasten(): void {
    const latest = this.#network.clock.now + this.#network.conditions[this.#direction];
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

/** The client's socket, with the server's side of the same connection. */
class SimulatedSocket extends EventEmitter {
  readonly #network: Network;
  readonly #id: number;
  readonly #onClose: () => void;
  readonly #up: Pipe;
  readonly #down: Pipe;
  #cancelConnect: (() => void) | undefined;
  #isConnected = false;
  #received: Buffer = Buffer.alloc(0);
  #isLoggedIn: boolean;
  /** Requests that wait because the store is stuck. */
  #stuck: Buffer[] = [];
  /** When each request was written whose reply has not arrived, oldest first. */
  readonly #owed: number[] = [];
  #undelivered: Buffer = Buffer.alloc(0);
  #isServing = false;
  /** Whether the client has a reason to give the connection up. */
  #isSpoilt = false;
  #held: Buffer | undefined;
  isClosed = false;

  constructor(network: Network, id: number, onClose: () => void) {
    super();
    this.#onClose = onClose;
    this.#network = network;
    this.#id = id;
    this.#isLoggedIn = network.login === undefined;
    this.#up = new Pipe(network, 'up', (piece) => this.#pass(this.#up, piece, (bytes) => this.#receive(bytes)));
    this.#down = new Pipe(network, 'down', (piece) => this.#pass(this.#down, piece, (bytes) => this.#deliver(bytes)));
    this.#connect();
  }

  /** What the client calls. */
  write(bytes: Buffer): boolean {
    if (this.isClosed) return false;
    if (!this.#isConnected) throw new Error('It writes before it is connected');
    for (const request of split(bytes).requests) {
      const written = this.#parse(request);
      this.#network.written.push(written);
      this.#isServing ||= written.opcode !== LOGIN && written.key !== PROBE_KEY;
      this.#owed.push(this.#network.clock.now);
    }
    this.#up.send(bytes);
    return true;
  }

  /** What the client calls. */
  destroy(): void {
    const silence = this.#network.clock.now - (this.#owed[0] ?? this.#network.clock.now);
    if (!this.isClosed && !this.#isSpoilt && this.#isServing && silence < 1000) {
      this.#network.abandoned.push(`link ${this.#id} after ${silence} ms of silence`);
    }
    this.#close();
  }

  #close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#onClose();
    this.#cancelConnect?.();
    this.#up.stop();
    this.#down.stop();
  }

  /** Breaks the connection. */
  break(message: string): void {
    if (this.isClosed) return;
    this.#close();
    this.emit('error', new Error(message));
    this.emit('close');
  }

  /** Breaks it after so many more bytes in one direction. */
  breakAfter(direction: 'up' | 'down', bytes: number): void {
    (direction === 'up' ? this.#up : this.#down).breaksAfter = bytes;
  }

  /** The server is gone, and nobody tells. */
  vanish(): void {
    this.#up.isHole = this.#down.isHole = true;
  }

  /** The server closes its side politely. What is on its way to the client still arrives if it is there by now. */
  end(): void {
    if (this.isClosed || !this.#isConnected) return;
    this.#up.stop();
    this.#isSpoilt = true;
    this.emit('end');
  }

  hasten(): void {
    if (!this.#isConnected) {
      this.#cancelConnect?.();
      this.#connect();
      return;
    }
    this.#up.hasten();
    this.#down.hasten();
    if (this.#network.conditions.store !== 'stuck') for (const request of this.#stuck.splice(0)) this.#answer(request);
  }

  #connect(): void {
    const { connect, up, down } = this.#network.conditions;
    if (connect === 'silent') this.#up.isHole = true;
    if (this.#up.isHole) return;
    this.#cancelConnect = this.#network.clock.at(this.#network.clock.now + up + down, () => {
      if (connect === 'refuse') {
        this.break('connect ECONNREFUSED 192.0.2.1:11211');
        return;
      }
      this.#isConnected = true;
      this.emit('connect');
    });
  }

  #pass(pipe: Pipe, piece: Buffer, arrive: (bytes: Buffer) => void): void {
    const rest = pipe.breaksAfter - piece.length;
    if (rest >= 0) {
      pipe.breaksAfter = rest;
      arrive(piece);
      return;
    }
    arrive(piece.subarray(0, pipe.breaksAfter));
    this.break('read ECONNRESET');
  }

  #deliver(bytes: Buffer): void {
    const { requests: replies, rest } = split(Buffer.concat([this.#undelivered, bytes]));
    this.#undelivered = rest;
    this.#owed.splice(0, replies.length);
    this.emit('data', bytes);
  }

  #receive(bytes: Buffer): void {
    const { requests, rest } = split(Buffer.concat([this.#received, bytes]));
    this.#received = rest;
    for (const request of requests) {
      if (this.isClosed) return;
      const isStuck = this.#network.conditions.store === 'stuck' || this.#stuck.length > 0;
      if (isStuck && request[1] !== LOGIN) this.#stuck.push(request);
      else this.#answer(request);
    }
  }

  #parse(request: Buffer): Written {
    const extras = request[4] ?? 0;
    return {
      link: this.#id,
      number: request.readUInt32BE(12),
      opcode: request[1] ?? 0,
      key: request.toString('latin1', 24 + extras, 24 + extras + request.readUInt16BE(2)),
      creates: extras === 20 && request.readUInt32BE(40) !== 0xffffffff,
    };
  }

  #answer(request: Buffer): void {
    const { login, touch, store } = this.#network.conditions;
    const { opcode, key, creates, number } = this.#parse(request);
    if (opcode === LOGIN) {
      const isRight = request.toString('latin1', 24 + key.length) === this.#network.login;
      this.#isLoggedIn = isRight && login === 'well';
      this.#reply(
        request,
        this.#isLoggedIn ? OK : REFUSED,
        Buffer.from(this.#isLoggedIn ? 'Authenticated' : 'Auth failure'),
      );
      return;
    }
    if (!this.#isLoggedIn) return this.#reply(request, REFUSED, Buffer.from('Auth failure'));
    const { counts, clock } = this.#network;
    const found = counts.get(key);
    const item = found && found.expires > clock.now ? found : undefined;
    if (opcode === TOUCH && touch === 'refused') return this.#reply(request, UNKNOWN, Buffer.from('Unknown command'));
    if (opcode === INCREMENT && !item && creates) {
      if (store === 'full') return this.#reply(request, FULL, Buffer.from('Out of memory'));
      counts.set(key, { count: 1, expires: clock.now + 1000 * request.readUInt32BE(40) });
      return this.#count(request, number, 1);
    }
    if (!item) return this.#reply(request, NOT_FOUND, Buffer.from('Not found'));
    if (opcode === DELETE) {
      counts.delete(key);
      return this.#reply(request, OK, Buffer.alloc(0));
    }
    if (opcode === TOUCH) {
      item.expires = clock.now + 1000 * request.readUInt32BE(24);
      return this.#reply(request, OK, Buffer.alloc(4));
    }
    item.count += 1;
    this.#count(request, number, item.count);
  }

  #count(request: Buffer, number: number, count: number): void {
    this.#network.answers.set(`${this.#id} ${number}`, count);
    const body = Buffer.alloc(8);
    body.writeBigUInt64BE(BigInt(count));
    this.#reply(request, OK, body);
  }

  #reply(request: Buffer, status: number, body: Buffer): void {
    const reply = Buffer.alloc(24 + body.length);
    reply[0] = 0x81;
    reply[1] = request[1] ?? 0;
    // As memcached does: the flags of the item touched.
    if (body.length === 4) reply[4] = 4;
    reply.writeUInt16BE(status, 6);
    reply.writeUInt32BE(body.length, 8);
    request.copy(reply, 12, 12, 16);
    body.copy(reply, 24);
    if (status === REFUSED) this.#isSpoilt = true;
    if (this.#parse(request).key === PROBE_KEY && !this.#isSpoilt) this.#network.proven.add(this.#id);
    for (const bytes of this.#tampered(reply)) this.#down.send(bytes);
  }

  /** What the client gets in place of a reply. */
  #tampered(reply: Buffer): Buffer[] {
    if (this.#held) {
      const held = this.#held;
      this.#held = undefined;
      return [reply, held];
    }
    const { tampering } = this.#network;
    const isCount = reply[1] === INCREMENT && reply.length === 32;
    if (!isCount && (tampering === 'zero' || tampering === 'no body' || tampering === 'body')) return [reply];
    this.#network.tampering = undefined;
    if (tampering) this.#isSpoilt = true;
    switch (tampering) {
      case undefined:
        break;
      case 'magic':
        reply[0] = 0x80;
        break;
      case 'opcode':
        reply[1] = (reply[1] ?? 0) ^ 0x11;
        break;
      case 'number':
        reply.writeUInt32BE((reply.readUInt32BE(12) + 1) >>> 0, 12);
        break;
      case 'status':
        reply.writeUInt16BE(0x86, 6);
        break;
      case 'length':
        reply.writeUInt32BE(reply.readUInt32BE(8) + 3, 8);
        break;
      case 'endless':
        reply.writeUInt32BE(0xfffffff0, 8);
        break;
      case 'body':
        reply.writeUInt32BE(16, 8);
        return [reply.subarray(0, 24), Buffer.from([0, 0, 0, 0, 0, 0, 1, 0]), reply.subarray(24)];
      case 'no body':
        reply.writeUInt32BE(0, 8);
        return [reply.subarray(0, 24)];
      case 'zero':
        reply.fill(0, 24);
        break;
      case 'drop':
        return [];
      case 'double':
        return [reply, reply];
      case 'swap':
        this.#held = reply;
        return [];
    }
    return [reply];
  }
}

/** The whole requests at the beginning of some bytes, and the rest. */
function split(bytes: Buffer): { requests: Buffer[]; rest: Buffer } {
  const requests: Buffer[] = [];
  let at = 0;
  while (bytes.length >= at + 24) {
    const end = at + 24 + bytes.readUInt32BE(at + 8);
    if (bytes.length < end) break;
    requests.push(bytes.subarray(at, end));
    at = end;
  }
  return { requests, rest: bytes.subarray(at) };
}
