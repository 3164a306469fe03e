import type { Client } from '../../src/memcached/client.ts';
import type { ErrorCode, MemcachedError } from '../../src/memcached/server.ts';
import { create, increment, PROBE_KEY, REMOVE } from '../../src/memcached/protocol.ts';
import type { Network, Observer, SimulatedSocket } from './network.ts';
import { DELETE, INCREMENT, LOGIN, OK, NOT_FOUND, REFUSED, TOUCH, ttlOf, UNKNOWN, type Packet } from './packets.ts';
import { AddressHistory, LoginHistory, TouchHistory } from './server-history.ts';

// What must hold, whatever happens:
//
//  1. A call settles once, by its deadline and 26 ms; at once if the client is closed.
//  2. What counts is written at most once, for a call that is still awaited, on a connection on which a request about a key
//     has been answered.
//  3. A call gives what the server answered to this very request. Within a session no number comes twice, or goes back.
//  4. A call fails only because its own response is bad, its connection is lost, the server is failing, or it is late, and
//     its code says which. Warming up needs a login that is set, has never worked, and is refused since less than 5 minutes.
//     While the server is failing, a call fails at once, unless nobody asked for 3 s or no attempt is under way.
//  5. While a connection is ready, a call is written in the turn in which it came. Behind all calls of the turn comes the TOUCH
//     of each INCREMENT, unless the server has hung up at TOUCH twice and never answered one.
//  6. A connection is lost at once for wrong bytes, after a second without a response, and never without a reason.
//  7. There are never more than two sockets. Attempts begin at least 100 ms apart, unless somebody was served in between.
//     Two attempts never try the same of several addresses; the one that served last is tried first, then that tried
//     longest ago.
//  8. While nobody asks there are at most 18 attempts a minute, and none after a loss that nobody noticed.
//  9. When all is well again, calls are answered within 500 ms while visitors ask, and without any visitor there is a connection
//     within 6 s. The visitor who then comes is served, and so is one who comes before.
// 10. The log has a line for each change, and none beside it.
// 11. A closed client has no socket and no timer.
// 12. Nothing is thrown but a MemcachedError; so no transition happens but those drawn.

const LATE_MS = 26;
const NAME = 'Memcached at store.example:11211';
/** What the log says of each code. */
const WORDS: Readonly<Record<ErrorCode, RegExp>> = {
  UNAVAILABLE:
    /^(it (closed|sent|does not complete)|no (response|connection) within a second|read|connect|getaddrinfo)/,
  WARMING_UP: /^it refuses the login: "Auth failure.*", status 0x20\. .* up to three minutes to work$/,
  LOGIN_REFUSED: /^it refuses the login: "Auth failure.*", status 0x20\. Check/,
  LOGIN_REQUIRED: /^it requires a login, and none is set: "Auth failure.*", status 0x20$/,
  LOGIN_UNSUPPORTED: /^it has no logins, but one is set: "Unknown command.*", status 0x81$/,
  NOT_MEMCACHED: /^it sent /,
  COMMAND_REFUSED: /^$/,
};

export type Kind = 'create' | 'increment' | 'end';

/** A call that somebody made, and what became of it. */
interface Asked {
  readonly kind: Kind;
  readonly key: string;
  readonly at: number;
  readonly deadline: number;
  written: { socket: SimulatedSocket; opaque: number } | undefined;
  isSettled: boolean;
  isClosed: boolean;
}

/** Watches a client and its network, and knows what must hold. */
export class Checker implements Observer {
  readonly violations: string[] = [];
  /** Sessions that were started. */
  readonly keys: string[] = [];
  /** Sessions whose number in the store was changed by somebody else. */
  readonly spoilt = new Set<string>();
  readonly lines: string[] = [];
  isClosed = true;
  answeredAt = -Infinity;
  ready: SimulatedSocket | undefined;
  readonly #network: Network;
  readonly #client: Client;
  readonly #operations;
  /** Calls that have not settled, oldest first. */
  #open: Asked[] = [];
  readonly #last = new Map<string, number>();
  /** What has gone wrong since a connection was ready; `isLoss` if calls fail for it. */
  #troubles: { at: number; code: ErrorCode; isLoss: boolean }[] = [];
  /** What the log has said since a call was served. */
  readonly #said = new Set<ErrorCode>();
  #failsAtOnce = false;
  /** Whether a connection was lost that nobody needed, and nobody has asked since. */
  #isIdle = false;
  readonly #refusals = new Map<string, number>();
  /** Of this turn. */
  #refusedNow: { at: number; kind: string } | undefined;
  #askedAt = -Infinity;
  #attempts: number[] = [];
  readonly #login: LoginHistory;
  readonly #touch = new TouchHistory();
  readonly #addresses: AddressHistory;

  constructor(network: Network, client: Client, hasLogin: boolean, ttl: number) {
    this.#network = network;
    this.#client = client;
    this.#login = new LoginHistory(hasLogin);
    this.#addresses = new AddressHistory([...network.addresses.keys()]);
    this.#operations = { create: create(ttl), increment: increment(ttl), end: REMOVE };
    network.observer = this;
  }

  get #now(): number {
    return this.#network.clock.now;
  }

  /** Whether it has to make connections although nobody asks. */
  get isFailing(): boolean {
    return this.#troubles.some(({ isLoss }) => isLoss);
  }

  /** Whether an attempt began so lately that a call does not start another. */
  get hasJustTried(): boolean {
    return this.#now - (this.#attempts.at(-1) ?? -Infinity) < 200;
  }

  violate(invariant: number, what: string): void {
    this.violations.push(`${this.#now.toFixed(1)} ms: [${invariant}] ${what}`);
  }

  // What the client is told to do.

  open(): void {
    if (this.isClosed) this.#isIdle = false;
    this.isClosed = false;
    this.#client.open({ info: (line) => this.#log(line), warn: (line) => this.#log(line) });
  }

  close(): void {
    this.isClosed = true;
    this.ready = undefined;
    this.#troubles = [];
    this.#failsAtOnce = false;
    this.#said.clear();
    for (const asked of this.#open) asked.isClosed = true;
    this.#client.close();
    if (this.#network.open.length > 0) this.violate(11, 'the close left a socket open');
  }

  ask(kind: Kind, key: string, patience = 1000): void {
    const deadline = this.#now + patience;
    const asked: Asked = {
      kind,
      key,
      at: this.#now,
      deadline,
      written: undefined,
      isSettled: false,
      isClosed: this.isClosed,
    };
    if (this.#network.open.length === 0 || this.#now - this.#askedAt >= 3000) this.#failsAtOnce = false;
    this.#askedAt = this.#now;
    this.#isIdle = false;
    this.#open.push(asked);
    this.#client.call(this.#operations[kind], key, deadline).then(
      (count) => this.#succeeded(asked, count),
      (error: unknown) => this.#failed(asked, error as MemcachedError),
    );
  }

  // What becomes of calls.

  #settled(asked: Asked): void {
    if (asked.isSettled) this.violate(1, `${asked.kind} settled twice`);
    asked.isSettled = true;
    this.#open = this.#open.filter((other) => other !== asked);
    if (this.#now > asked.deadline + LATE_MS)
      this.violate(1, `${asked.kind} settled ${this.#now - asked.deadline} ms late`);
  }

  #succeeded(asked: Asked, count: number | undefined): void {
    const { kind, key } = asked;
    const response = responseTo(asked);
    this.#settled(asked);
    this.answeredAt = this.#now;
    if (kind === 'create') this.keys.push(key);
    if (this.ready && this.#said.size > 0) this.violate(10, 'a call was served, and the log does not say so');
    if (!response) return this.violate(3, `${kind} succeeded without a response`);
    if (this.#codeOf(response)) return this.violate(4, `${kind} succeeded by a bad response`);
    if (kind === 'end') return;
    const answered = response.status === OK ? Number(response.value.readBigUInt64BE()) : undefined;
    if (count !== answered) this.violate(3, `the server answered ${answered}, and ${count} was given`);
    if (count === undefined || this.spoilt.has(key)) return;
    const last = this.#last.get(key) ?? 0;
    if (count <= last) this.violate(3, `${count} was given after ${last}`);
    this.#last.set(key, count);
  }

  #failed(asked: Asked, { code, message }: MemcachedError): void {
    this.#settled(asked);
    const reasons = this.#reasonsOf(asked);
    if (!(code in WORDS)) this.violate(12, `${code} ${message}`);
    else if (!reasons.includes(code))
      this.violate(4, `${asked.kind} failed as ${code}, not ${String(reasons)}: ${message}`);
    const isSaid = code === 'COMMAND_REFUSED' || asked.isClosed || this.#now >= asked.deadline || this.#said.has(code);
    if (!isSaid) this.violate(10, `a call failed as ${code}, and the log does not say so`);
    if (!message.startsWith(NAME)) this.violate(4, `it does not name the server: ${message}`);
  }

  /** Why a call may fail: one reason, or its deadline beside it. */
  #reasonsOf(asked: Asked): (ErrorCode | undefined)[] {
    const response = responseTo(asked);
    if (response) return [this.#codeOf(response)];
    const { socket } = asked.written ?? {};
    const failure = this.#troubles.findLast(({ isLoss }) => isLoss)?.code;
    const reason = socket ? socket.isClosed && socket.reason : failure;
    return [reason || undefined, asked.isClosed || this.#now >= asked.deadline ? 'UNAVAILABLE' : undefined];
  }

  /** What is wrong with the response to a call. */
  #codeOf({ opcode, status, value }: Packet): ErrorCode | undefined {
    if (status === REFUSED) return this.#login.refused(this.#now);
    if (status === NOT_FOUND || (status === OK && opcode !== INCREMENT)) return undefined;
    const count = status === OK ? value.readBigUInt64BE() : 0n;
    return count > 0n && count < 2n ** 53n ? undefined : 'COMMAND_REFUSED';
  }

  // What happens on the network.

  attempted(): void {
    const [before = -Infinity] = this.#attempts.slice(-1);
    if (this.isClosed) this.violate(11, 'an attempt after the close');
    if (this.#isIdle) this.violate(8, 'an attempt that nobody needs');
    if (this.#now - before < 100 && this.answeredAt < before)
      this.violate(7, `attempts ${this.#now - before} ms apart`);
    this.#attempts = [...this.#attempts.filter((at) => at > this.#now - 60_000), this.#now];
    if (this.#now > this.#askedAt + 70_000 && this.#attempts.length > 18)
      this.violate(8, `${this.#attempts.length} attempts a minute`);
  }

  picked({ address = '' }: SimulatedSocket): void {
    const underWay = this.#network.open.map((socket) => socket.address);
    const fault = this.#addresses.picked(address, underWay, this.#now);
    if (fault) this.violate(7, fault);
  }

  wrote(socket: SimulatedSocket, requests: readonly Packet[]): void {
    let increments = 0;
    for (const request of requests) {
      const { opcode, key, opaque } = request;
      if (opcode === LOGIN || opcode === TOUCH || key === PROBE_KEY) continue;
      const kind = opcode === DELETE ? 'end' : ttlOf(request) === undefined ? 'increment' : 'create';
      const asked = this.#open.find(
        (it) => it.kind === kind && it.key === key && !it.written && it.deadline > this.#now,
      );
      if (asked) asked.written = { socket, opaque };
      else this.violate(2, `${kind} was written for nobody`);
      if (socket !== this.ready) this.violate(2, `${kind} was written on a connection that is not ready`);
      if (kind === 'increment') increments += 1;
    }
    const touches = requests.filter(({ opcode }) => opcode === TOUCH).length;
    if (requests.slice(0, requests.length - touches).some(({ opcode }) => opcode === TOUCH))
      this.violate(5, 'a request behind a TOUCH, at which the server may hang up');
    if (touches !== (this.#touch.isSent ? increments : 0))
      this.violate(5, `${increments} INCREMENTs, ${touches} TOUCHes`);
  }

  answered(socket: SimulatedSocket, request: Packet, { status, value }: Packet): void {
    const { opcode, opaque, key } = request;
    if (opcode === LOGIN) {
      if (status === OK) this.#login.worked();
      else if (status === UNKNOWN) socket.reason ??= 'LOGIN_UNSUPPORTED';
      else socket.reason ??= status === REFUSED ? this.#login.refused(this.#now) : 'UNAVAILABLE';
    } else if (opcode === TOUCH) {
      this.#touch.answered(status);
    } else if (key === PROBE_KEY) {
      if (status === REFUSED) socket.reason ??= this.#login.refused(this.#now);
      else this.#becomesReady(socket);
    } else {
      const isAwaited = this.#open.some(({ written }) => written?.socket === socket && written.opaque === opaque);
      if (status === REFUSED && isAwaited) {
        socket.reason = this.#login.refused(this.#now);
        this.#troubles.push({ at: this.#now, code: socket.reason, isLoss: false });
      }
      if (this.#codeOf({ ...request, status, value }))
        this.#refusedNow = { at: this.#now, kind: `${opcode} ${status}` };
    }
  }

  #becomesReady(socket: SimulatedSocket): void {
    this.ready = socket;
    this.#troubles = [];
    this.#failsAtOnce = false;
    this.#addresses.served(socket.address);
  }

  hungUp({ outstanding }: SimulatedSocket): void {
    if (outstanding[0]?.request.opcode === TOUCH) this.#touch.hungUp();
  }

  lost(socket: SimulatedSocket): void {
    const { reason, outstanding } = socket;
    if (this.isClosed) return;
    const isReady = socket === this.ready;
    if (isReady && !reason) this.violate(6, `a connection was given up after ${socket.silence} ms of silence`);
    if (!reason || (this.ready && !isReady)) return;
    if (isReady) this.ready = undefined;
    else this.#failsAtOnce ||= this.#addresses.isNoneLeft;
    const isOwing = outstanding.some(({ request }) => request.opcode !== TOUCH);
    this.#isIdle = isReady && !isOwing && !this.#open.some(({ written }) => !written);
    if (!isReady || isOwing) this.#troubles.push({ at: this.#now, code: reason, isLoss: true });
  }

  // What the log says.

  #log(line: string): void {
    this.lines.push(line);
    const [, words = '', reason = ''] =
      /^Memcached at store\.example:11211 (is not available: |is |refuses |hangs )(.*)$/.exec(line) ?? [];
    if (words === 'is not available: ') this.#logLoss(line, reason);
    else if (line === `${NAME} is available again`) {
      if (this.#said.size === 0) this.violate(10, `without a reason: ${line}`);
      this.#said.clear();
    } else if (words === 'is ') {
      if (reason !== this.#addresses.unsaid) this.violate(10, `without a reason: ${line}`);
      this.#addresses.unsaid = undefined;
    } else if (/TOUCH.* Sessions in use no longer outlive their time to live$/.test(line)) this.#logTouch(line);
    else if (words === 'refuses ') this.#logRefusal(line);
    else this.violate(10, `unknown: ${line}`);
  }

  #logLoss(line: string, reason: string): void {
    const trouble = this.#troubles.find(
      ({ at, code }) => at === this.#now && !this.#said.has(code) && WORDS[code].test(reason),
    );
    if (trouble) this.#said.add(trouble.code);
    else this.violate(10, `without a reason, or twice: ${line}`);
  }

  #logTouch(line: string): void {
    if (!this.#touch.explains(line)) this.violate(10, `without a reason: ${line}`);
    if (this.lines.filter((other) => other.includes('outlive')).length > 1) this.violate(10, `twice: ${line}`);
  }

  #logRefusal(line: string): void {
    const { at = 0, kind = '' } = this.#refusedNow ?? {};
    if (at !== this.#now) this.violate(10, `without a reason: ${line}`);
    if (this.#now < (this.#refusals.get(kind) ?? -Infinity) + 60_000)
      this.violate(10, `twice within a minute: ${line}`);
    this.#refusals.set(kind, this.#now);
  }

  /** What must hold after every event. */
  check(): void {
    const { open } = this.#network;
    if (open.length > 2) this.violate(7, `${open.length} sockets`);
    for (const socket of open) if (socket.silence > 1000 + LATE_MS) this.violate(6, `${socket.silence} ms of silence`);
    if (this.#addresses.unsaid) this.violate(10, `the log does not say that it is ${this.#addresses.unsaid}`);
    const [waiting] = this.#open;
    if (waiting && this.#now > waiting.deadline + LATE_MS) this.violate(1, `${waiting.kind} has not settled`);
    if (this.#failsAtOnce && this.#open.some(({ written }) => !written))
      this.violate(4, 'a call waits for a failing server');
    if (this.isClosed && waiting) this.violate(1, 'a call outlived the client');
    if (this.ready && this.#open.some(({ at, written }) => at < this.#now && !written))
      this.violate(5, 'a call was not written');
  }

  /** What must hold when nothing more will happen. */
  finish(): void {
    if (this.#open.length > 0) this.violate(1, 'a call has not settled');
    if (this.#network.clock.pending > 0) this.violate(11, `${this.#network.clock.pending} timers were left`);
  }
}

function responseTo({ written }: Asked): Packet | undefined {
  return written?.socket.responses.get(written.opaque);
}
