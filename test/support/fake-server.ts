import type { Clock } from './clock.ts';
import * as packets from './packets.ts';
import { DELETE, INCREMENT, LOGIN, OK, response, split, TOUCH, type Packet } from './packets.ts';
import { END } from './pipe.ts';

/** What the server does to everybody, until it is changed. */
export interface ServerConditions {
  /** What it speaks; `too many` and `tls` also hang up. */
  speaks: 'binary' | 'text' | 'too many' | 'tls';
  /** A front end answers logins itself; the store behind it may be stuck. A busy one refuses all commands. */
  store: 'well' | 'stuck' | 'full' | 'busy';
  /** `revoked` is also refused on connections that have logged in; `unknown`: the server has none. */
  login: 'well' | 'refused' | 'revoked' | 'unknown' | 'incomplete';
  /** Whether it wants a login though the client has none. */
  isLoginRequired: boolean;
  touch: 'well' | 'refused' | 'hangs up' | 'silent';
}

export const WELL: ServerConditions = {
  speaks: 'binary',
  store: 'well',
  login: 'well',
  isLoginRequired: false,
  touch: 'well',
};

const TLS_ALERT = Buffer.from([0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a]);

const put8 = (bytes: Buffer, at: number, value: number): Buffer[] => (bytes.writeUInt8(value & 0xff, at), [bytes]);
const put32 = (bytes: Buffer, at: number, value: number): Buffer[] => (bytes.writeUInt32BE(value >>> 0, at), [bytes]);

/** What may be done to the next response of a connection, and to the one after it. */
export const TAMPERINGS = {
  magic: (bytes) => put8(bytes, 0, 0x80),
  opcode: (bytes) => put8(bytes, 1, bytes.readUInt8(1) ^ 0x11),
  opaque: (bytes) => put32(bytes, 12, bytes.readUInt32BE(12) + 1),
  status: (bytes) => put8(bytes, 7, 0x86),
  length: (bytes) => put32(bytes, 8, bytes.readUInt32BE(8) + 3),
  endless: (bytes) => put32(bytes, 8, 0xfffffff0),
  'two bodies': (bytes) => put32(Buffer.concat([bytes, bytes.subarray(24)]), 8, 2 * (bytes.length - 24)),
  'no body': (bytes) => put32(bytes.subarray(0, 24), 8, 0),
  zero: (bytes) => [bytes.fill(0, 24)],
  drop: () => [],
  double: (bytes) => [bytes, bytes],
  /** It follows the next one. */
  swap: () => [],
  text: () => [Buffer.from('ERROR\r\n')],
} satisfies Record<string, (bytes: Buffer) => Buffer[]>;
export type Tampering = keyof typeof TAMPERINGS;

/** What is stored under a key: a number of 64 bits, or text. */
interface Item {
  value: bigint | 'text';
  expires: number;
}

/** A Memcached server: what it stores, and how it behaves. */
export class FakeServer {
  readonly conditions: ServerConditions = { ...WELL };
  readonly items = new Map<string, Item>();
  readonly clock: Clock;
  /** What the login has to be, if there must be one. */
  readonly login: string | undefined;
  tampering: Tampering | undefined;

  constructor(clock: Clock, login: string | undefined) {
    this.clock = clock;
    this.login = login;
  }
}

/** The server's side of one connection. */
export class ServerConnection {
  readonly #server: FakeServer;
  readonly #send: (bytes: Buffer) => void;
  #received: Buffer = Buffer.alloc(0);
  #isLoggedIn = false;
  #hasHungUp = false;
  /** Requests that wait because the store is stuck. */
  #waiting: Packet[] = [];
  /** A response that the tampering `swap` holds back. */
  #held: Buffer | undefined;

  constructor(server: FakeServer, send: (bytes: Buffer) => void) {
    this.#server = server;
    this.#send = send;
  }

  hangUp(): void {
    this.#hasHungUp = true;
    this.#send(END);
  }

  accept(): void {
    if (this.#server.conditions.speaks !== 'too many') return;
    this.#send(Buffer.from('ERROR Too many open connections\r\n'));
    this.hangUp();
  }

  receive(bytes: Buffer): void {
    const { speaks } = this.#server.conditions;
    if (this.#hasHungUp) return;
    if (speaks === 'tls') {
      this.#send(TLS_ALERT);
      this.hangUp();
    }
    this.#received = Buffer.concat([this.#received, bytes]);
    if (speaks === 'text' && this.#received.includes('\r\n')) this.#send(Buffer.from('ERROR\r\n'));
    if (speaks !== 'binary') return;
    const { packets: requests, rest } = split(this.#received);
    this.#received = rest;
    for (const request of requests) {
      if (request.magic !== 0x80) return this.hangUp();
      if (request.opcode === LOGIN) this.#answer(request);
      else this.#waiting.push(request);
    }
    this.goOn();
  }

  /** Answers what waits, unless the store is stuck. */
  goOn(): void {
    while (this.#server.conditions.store !== 'stuck' && this.#waiting.length > 0)
      this.#answer(this.#waiting.shift() as Packet);
  }

  #answer(request: Packet): void {
    if (this.#hasHungUp) return;
    const { touch } = this.#server.conditions;
    if (request.opcode === TOUCH && touch === 'hangs up') return this.hangUp();
    if (request.opcode === TOUCH && touch === 'silent') return;
    const bytes = request.opcode === LOGIN ? this.#logIn(request) : this.#execute(request);
    for (const sent of this.#tamper(bytes)) this.#send(sent);
    // As memcached does, if somebody has not logged in.
    if (request.opcode !== LOGIN && bytes.readUInt16BE(6) === packets.AUTH_ERROR) this.hangUp();
  }

  #logIn(request: Packet): Buffer {
    const { login } = this.#server.conditions;
    this.#isLoggedIn = login === 'well' && request.key === 'PLAIN' && request.value.toString() === this.#server.login;
    if (this.#isLoggedIn) return response(request, OK, 'Authenticated');
    if (login === 'unknown') return response(request, packets.UNKNOWN_COMMAND, 'Unknown command');
    if (login === 'incomplete') return response(request, packets.AUTH_CONTINUE, 'Continue');
    return response(request, packets.AUTH_ERROR, 'Auth failure');
  }

  #execute(request: Packet): Buffer {
    const { clock, items, conditions, login } = this.#server;
    const { opcode, key } = request;
    const isLoginRequired = conditions.isLoginRequired || (login !== undefined && conditions.login !== 'unknown');
    const isLoggedIn = this.#isLoggedIn && conditions.login !== 'revoked';
    if (isLoginRequired && !isLoggedIn) return response(request, packets.AUTH_ERROR, 'Auth failure');
    if (conditions.store === 'busy') return response(request, packets.BUSY, 'Busy');
    if (opcode === TOUCH && conditions.touch === 'refused')
      return response(request, packets.UNKNOWN_COMMAND, 'Unknown command');
    const stored = items.get(key);
    const item = stored && stored.expires > clock.now ? stored : undefined;
    const ttl = opcode === DELETE ? undefined : packets.ttlOf(request);
    if (opcode === INCREMENT && !item && ttl !== undefined) {
      if (conditions.store === 'full') return response(request, packets.OUT_OF_MEMORY, 'Out of memory');
      const value = request.extras.readBigUInt64BE(8);
      items.set(key, { value, expires: clock.now + 1000 * ttl });
      return response(request, OK, value);
    }
    if (!item) return response(request, packets.NOT_FOUND, 'Not found');
    if (opcode === DELETE) {
      items.delete(key);
      return response(request);
    }
    if (opcode === TOUCH) {
      item.expires = clock.now + 1000 * (ttl ?? 0);
      // As memcached does: the flags of the item touched.
      return response(request, OK, Buffer.alloc(4), 4);
    }
    if (item.value === 'text')
      return response(request, packets.NON_NUMERIC, 'Non-numeric server-side value for incr or decr');
    item.value = BigInt.asUintN(64, item.value + request.extras.readBigUInt64BE());
    return response(request, OK, item.value);
  }

  /** What the client gets in place of a response. */
  #tamper(bytes: Buffer): Buffer[] {
    const { tampering } = this.#server;
    const held = this.#held;
    this.#held = undefined;
    if (held) return [bytes, held];
    if (!tampering) return [bytes];
    const isCount = bytes[1] === INCREMENT && bytes.length === 32;
    if (!isCount && ['zero', 'no body', 'two bodies'].includes(tampering)) return [bytes];
    this.#server.tampering = undefined;
    if (tampering === 'swap') this.#held = bytes;
    return TAMPERINGS[tampering](bytes);
  }
}
