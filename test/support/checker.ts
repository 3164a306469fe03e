import type { Client } from '../../src/memcached/client.ts';
import type { ErrorCode, MemcachedError } from '../../src/memcached/server.ts';
import { create, increment, PROBE_KEY, REMOVE } from '../../src/memcached/protocol.ts';
import { AddressModel, LoginModel, LogModel } from './model.ts';
import { NAME, type Network, type Observer } from './network.ts';
import { DELETE, INCREMENT, LOGIN, OK, NOT_FOUND, AUTH_ERROR, TOUCH, ttlOf, type Packet } from './packets.ts';
import type { SimulatedSocket } from './socket.ts';

// What must hold, whatever happens:
//
//  1. A call settles by its deadline and 26 ms; at once if the client is closed.
//  2. What counts is written at most once, for a call that is still awaited, on a connection on which a request about a key
//     has been answered.
//  3. A call gives what the server answered to this very request. Within a session no number comes twice, or goes back.
//  4. A call fails only because its own response is bad, its connection is lost, the server is failing, or it is late, and
//     its code says which. Warming up needs a login that is set, has never worked, and is refused since less than 5 minutes.
//     While the server is failing, a call fails at once, unless it starts an attempt before its time: 200 ms after the last began,
//     if that is over, or if nobody had asked for 3 s when it began.
//  5. While a connection is ready, a call is written in the turn in which it came. Behind all calls of the turn comes the TOUCH
//     of each INCREMENT; none after two failures at TOUCH, unless one was ever answered.
//  6. Nothing is written before it is connected. A connection is lost at once for wrong bytes or a hang-up, after a second without
//     a response, and never without a reason.
//  7. There are never more than two sockets. Attempts begin at least 100 ms apart, unless somebody was served in between.
//     Two attempts never try the same of several addresses; the one that served last is tried first, then that tried
//     longest ago.
//  8. While nobody asks there are at most 18 attempts a minute, and none after a loss that nobody noticed.
//  9. When all is well again, calls are answered within 500 ms while visitors ask, and without any visitor there is a connection
//     within 6 s. A visitor who comes before or after that is served. (This is in simulation.ts.)
// 10. The log has a line for each change, and none beside it. (Its wording is in client.test.ts.)
// 11. A closed client has no socket and no timer.
// 12. Nothing is thrown but a MemcachedError; so no transition happens but those drawn.

const LATE_MS = 26;

type Kind = 'create' | 'increment' | 'end';

/** A call that has not settled. */
interface Call {
  readonly kind: Kind;
  readonly key: string;
  readonly at: number;
  /** A close brings it forward. */
  deadline: number;
  written?: { readonly socket: SimulatedSocket; readonly opaque: number };
}

/**
 * What the network shows of the client, which itself is never asked:
 *
 * - `idle`: the connection was lost when nobody needed it, and nobody has asked since. No attempt may be made.
 * - `connecting`: calls must wait.
 * - `ready`: a request about a key has been answered. Calls must be written.
 * - `failing`: an attempt was refused; or one has failed at each address, and none that is older is under way; or a call was
 *   met by a second of silence. Calls must fail.
 */
type State =
  | { readonly name: 'closed' | 'idle' | 'connecting' }
  | { readonly name: 'failing'; readonly reason: ErrorCode }
  | { readonly name: 'ready'; readonly socket: SimulatedSocket };

/** Watches a client and its network, and knows what must hold. */
export class Checker implements Observer {
  readonly violations: string[] = [];
  /** Sessions that were started. */
  readonly keys: string[] = [];
  /** Sessions whose number in the store was changed by somebody else. */
  readonly spoilt = new Set<string>();
  readonly log = new LogModel();
  servedAt = -Infinity;
  readonly #network: Network;
  readonly #client: Client;
  readonly #operations;
  readonly #login: LoginModel;
  readonly #addresses: AddressModel;
  #state: State = { name: 'closed' };
  /** How often it failed when a TOUCH was due; -Infinity once one was answered. */
  #touchFailures = 0;
  #calls: Call[] = [];
  /** The last number of each session. */
  readonly #last = new Map<string, number>();
  #askedAt = -Infinity;
  #attempts: number[] = [];
  /** Whether nobody had asked for 3 s when the last attempt began. */
  #beganInQuiet = false;

  constructor(network: Network, client: Client, hasLogin: boolean, ttl: number) {
    this.#network = network;
    this.#client = client;
    this.#operations = { create: create(ttl), increment: increment(ttl), end: REMOVE };
    this.#login = new LoginModel(hasLogin);
    this.#addresses = new AddressModel([...network.addresses.keys()]);
    network.observer = this;
  }

  get #now(): number {
    return this.#network.clock.now;
  }

  get #ready(): SimulatedSocket | undefined {
    return this.#state.name === 'ready' ? this.#state.socket : undefined;
  }

  get isClosed(): boolean {
    return this.#state.name === 'closed';
  }

  /** Whether it has to make a connection although nobody asks. */
  get isConnecting(): boolean {
    return this.#state.name === 'connecting' || this.#state.name === 'failing';
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
    if (this.isClosed) this.#state = { name: 'connecting' };
    const log = (line: string): void => {
      if (!line.startsWith(NAME) || !this.log.write(line)) this.violate(10, `this line was not due: ${line}`);
    };
    this.#client.open({ info: log, warn: log });
  }

  close(): void {
    this.#state = { name: 'closed' };
    this.log.closed();
    for (const call of this.#calls) call.deadline = this.#now;
    this.#client.close();
  }

  ask(kind: Kind, key: string, patience = 1000): void {
    const now = this.#now;
    const call: Call = { kind, key, at: now, deadline: this.isClosed ? now : now + patience };
    const mayStartAttempt = !this.hasJustTried && (this.#network.open.length === 0 || this.#beganInQuiet);
    const endsFailing = this.#state.name === 'failing' && mayStartAttempt;
    if (this.#state.name === 'idle') this.#state = { name: 'connecting' };
    this.#askedAt = now;
    this.#calls.push(call);
    const counted = this.#client.call(this.#operations[kind], key, now + patience);
    // Not before the call: it gives up silent attempts, and one that has timed out would make `connecting` fail again.
    if (endsFailing) this.#state = { name: 'connecting' };
    counted.then(
      (count) => this.#succeeded(call, count),
      (error: unknown) => this.#failed(call, error as MemcachedError),
    );
  }

  // What becomes of calls.

  #succeeded(call: Call, count: number | undefined): void {
    const { kind, key } = call;
    const given = kind === 'end' ? undefined : count;
    this.#settled(call, given);
    this.servedAt = this.#now;
    if (kind === 'create') this.keys.push(key);
    if (given === undefined || this.spoilt.has(key)) return;
    const last = this.#last.get(key) ?? 0;
    if (given <= last) this.violate(3, `${given} was given after ${last}`);
    this.#last.set(key, given);
  }

  #failed(call: Call, { code, message }: { readonly code?: ErrorCode; readonly message: string }): void {
    this.#settled(call, code ?? message, message);
    if (!message.startsWith(NAME)) this.violate(4, `it does not name the server: ${message}`);
    const isSaid = code === 'COMMAND_REFUSED' || this.#now >= call.deadline || this.log.losses.has(code ?? '');
    if (!isSaid) this.violate(10, `a call failed, and the log does not say so: ${message}`);
  }

  /** `outcome` is what it gave, or the code of its failure. */
  #settled(call: Call, outcome: number | string | undefined, words = String(outcome)): void {
    this.#calls = this.#calls.filter((other) => other !== call);
    const late = this.#now - call.deadline;
    if (late > LATE_MS) this.violate(1, `${call.kind} settled ${late} ms late`);
    const right = this.#outcomesOf(call);
    if (!right.includes(outcome))
      this.violate(typeof outcome === 'string' ? 4 : 3, `${call.kind} came to ${words}, not ${String(right)}`);
  }

  /** What a call may come to: what its response means or, without one, the reason for that, or its deadline. */
  #outcomesOf({ written, deadline }: Call): (number | string | undefined)[] {
    const response = written?.socket.responses.get(written.opaque);
    if (response) return [this.#meaningOf(response)];
    const failing = 'reason' in this.#state ? this.#state : undefined;
    const reason = written ? written.socket.isClosed && written.socket.reason : failing?.reason;
    return [...(reason ? [reason] : []), ...(this.#now >= deadline ? ['UNAVAILABLE'] : [])];
  }

  /** What a response to a call means: a count, nothing, or the code of a failure. */
  #meaningOf({ opcode, status, value }: Packet): number | ErrorCode | undefined {
    if (status === AUTH_ERROR) return this.#login.refused(this.#now);
    if (status === NOT_FOUND || (status === OK && opcode !== INCREMENT)) return undefined;
    const count = status === OK ? value.readBigUInt64BE() : 0n;
    return count > 0n && count < 2n ** 53n ? Number(count) : 'COMMAND_REFUSED';
  }

  // What happens on the network.

  attempted(): void {
    const before = this.#attempts.at(-1) ?? -Infinity;
    const pause = this.#now - before;
    if (this.#state.name === 'idle') this.violate(8, 'an attempt that nobody needs');
    this.#beganInQuiet = this.#now - this.#askedAt >= 3000;
    if (pause < 100 && this.servedAt < before) this.violate(7, `attempts ${pause} ms apart`);
    this.#attempts = [...this.#attempts.filter((at) => at > this.#now - 60_000), this.#now];
    if (this.#now > this.#askedAt + 70_000 && this.#attempts.length > 18)
      this.violate(8, `${this.#attempts.length} attempts a minute`);
  }

  picked(socket: SimulatedSocket): void {
    const { address = '' } = socket;
    const inUse = this.#network.open.filter((other) => other !== socket).map((other) => other.address);
    if (!this.#addresses.tried(address, inUse, this.#now)) this.violate(7, `${address} was tried out of turn`);
  }

  wrote(socket: SimulatedSocket, requests: readonly Packet[]): void {
    for (const request of requests) {
      const kind = kindOf(request);
      if (!kind) continue;
      const call = this.#calls.find(
        (it) => it.kind === kind && it.key === request.key && !it.written && it.deadline > this.#now,
      );
      if (call) call.written = { socket, opaque: request.opaque };
      else this.violate(2, `${kind} was written for nobody`);
      if (socket !== this.#ready) this.violate(2, `${kind} was written on a connection that is not ready`);
    }
    const touched = keysOf(requests.filter(({ opcode }) => opcode === TOUCH));
    const due = keysOf(requests.filter((request) => kindOf(request) === 'increment' && this.#touchFailures < 2));
    if (touched !== due) this.violate(5, `TOUCH of ${touched}, not of ${due}`);
    if (requests.some(({ opcode }, n) => opcode !== TOUCH && requests[n - 1]?.opcode === TOUCH))
      this.violate(5, 'a request behind a TOUCH, at which the server may hang up');
  }

  answered(socket: SimulatedSocket, { opcode, opaque, key }: Packet, response: Packet): void {
    const { status } = response;
    const isAwaited = this.#calls.some(({ written }) => written?.socket === socket && written.opaque === opaque);
    if (opcode === LOGIN) socket.reason = this.#login.answered(status, this.#now);
    else if (opcode === TOUCH) this.#touchAnswered(status);
    else if (key === PROBE_KEY && status === AUTH_ERROR) socket.reason = this.#login.refused(this.#now);
    else if (key === PROBE_KEY && !socket.isBroken) this.#becameReady(socket);
    else if (isAwaited) this.#callAnswered(socket, response);
  }

  #touchAnswered(status: number): void {
    this.#touchFailures = -Infinity;
    if ([OK, NOT_FOUND, AUTH_ERROR].includes(status)) return;
    this.log.happened('TOUCH', / refuses TOUCH: /, this.#now, Infinity);
  }

  #becameReady(socket: SimulatedSocket): void {
    const { address } = socket;
    this.#state = { name: 'ready', socket };
    const before = this.#addresses.becameReady(address);
    if (before) this.log.happened('move', new RegExp(` is at ${address} now, and was at ${before}$`), this.#now, 0);
  }

  #callAnswered(socket: SimulatedSocket, response: Packet): void {
    const meaning = this.#meaningOf(response);
    if (typeof meaning !== 'string') {
      this.log.served();
    } else if (meaning === 'COMMAND_REFUSED') {
      const what = `${response.opcode} ${response.status}`;
      this.log.happened(what, / refuses (INCREMENT|DELETE): /, this.#now, 60_000);
    } else {
      socket.reason = meaning;
      this.log.lost(meaning);
    }
  }

  failed({ outstanding }: SimulatedSocket): void {
    if (outstanding[0]?.request.opcode !== TOUCH || this.isClosed) return;
    this.#touchFailures += 1;
    if (this.#touchFailures >= 2) this.log.happened('TOUCH', / does not answer TOUCH\. /, this.#now, Infinity);
  }

  lost(socket: SimulatedSocket): void {
    const { reason } = socket;
    const isReady = socket === this.#ready;
    // Once another connection is ready, an attempt is needed no more.
    if (this.isClosed || (this.#ready && !isReady)) return;
    if (reason) return isReady ? this.#readyLost(socket, reason) : this.#attemptFailed(socket, reason);
    // An attempt may be given up for another one.
    if (isReady) this.violate(6, `a connection was given up after ${socket.silence} ms of silence`);
  }

  #readyLost({ outstanding, silence }: SimulatedSocket, reason: ErrorCode): void {
    const isOwing = outstanding.some(({ request }) => request.opcode !== TOUCH);
    const isNeeded = isOwing || this.#calls.some(({ written }) => !written);
    this.#state = { name: isNeeded ? 'connecting' : 'idle' };
    this.log.withdrawReturn();
    if (!isOwing) return;
    if (silence >= 1000) this.#state = { name: 'failing', reason };
    this.log.lost(reason);
  }

  #attemptFailed({ address, openedAt }: SimulatedSocket, reason: ErrorCode): void {
    const isOldest = this.#network.open.every((other) => other.openedAt > openedAt);
    // Without an address the look-up has failed, or there is only one.
    const isNoneLeft = address === undefined || this.#addresses.isEachTried;
    const isHopeless = reason !== 'UNAVAILABLE' || (isOldest && isNoneLeft);
    if (!isHopeless && this.#state.name !== 'failing') return;
    this.#state = { name: 'failing', reason };
    this.log.lost(reason);
  }

  /** What must hold after every event. */
  check(): void {
    const { open } = this.#network;
    if (this.isClosed && open.length > 0) this.violate(11, 'a closed client has a socket');
    if (open.length > 2) this.violate(7, `${open.length} sockets`);
    for (const { silence } of open) if (silence > 1000 + LATE_MS) this.violate(6, `${silence} ms of silence`);
    for (const what of this.log.takeUnsaid()) this.violate(10, `the log does not say: ${what}`);
    if (this.isClosed && this.#calls.length > 0) this.violate(1, 'a call outlived the client');
    const unwritten = this.#calls.filter(({ written }) => !written);
    if (this.#state.name === 'failing' && unwritten.length > 0) this.violate(4, 'a call waits for a failing server');
    if (this.#ready && unwritten.some(({ at }) => at < this.#now)) this.violate(5, 'a call was not written');
  }

  /** What must hold when nothing more will happen. */
  finish(): void {
    this.check();
    if (this.#calls.length > 0) this.violate(1, 'a call has not settled');
    if (this.#network.clock.pending > 0) this.violate(11, `${this.#network.clock.pending} timers were left`);
  }
}

function keysOf(requests: readonly Packet[]): string {
  return requests.map(({ key }) => key).join();
}

/** What somebody wants by a request; undefined for a login, a probe, and a TOUCH. */
function kindOf(request: Packet): Kind | undefined {
  const { opcode, key } = request;
  if (opcode === LOGIN || opcode === TOUCH || key === PROBE_KEY) return undefined;
  if (opcode === DELETE) return 'end';
  return ttlOf(request) === undefined ? 'increment' : 'create';
}
