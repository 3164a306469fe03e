// A client for one Memcached server: it connects, reconnects and gives up.

import assert from 'node:assert/strict';
import { Addresses } from './addresses.ts';
import { Backoff } from './backoff.ts';
import { Call, Connection } from './connection.ts';
import type { Operation, Response } from './protocol.ts';
import { realRuntime, type Runtime } from './runtime.ts';
import { ServerRecord } from './server-record.ts';
import { MemcachedError, type Log, type MemcachedServer } from './server.ts';

/** How often all deadlines are checked. */
const TICK_MS = 25;
/** How long an attempt may be silent before another one is made beside it. */
const SECOND_ATTEMPT_MS = 200;

type State =
  | { readonly name: 'idle' | 'connecting' | 'ready' }
  | { readonly name: 'failing' | 'closed'; readonly reason: MemcachedError };

const CLOSED = { name: 'closed', reason: new MemcachedError('UNAVAILABLE', 'its client is closed') } as const;
const REPLACED = new MemcachedError('UNAVAILABLE', 'another attempt takes its place');

const TRANSITIONS: Readonly<Record<State['name'], readonly State['name'][]>> = {
  closed: ['connecting'],
  idle: ['connecting', 'closed'],
  connecting: ['ready', 'failing', 'closed'],
  ready: ['connecting', 'idle', 'failing', 'closed'],
  failing: ['ready', 'failing', 'connecting', 'closed'],
};

/**
 * Keeps a connection to one Memcached server, and makes a new one whenever it is lost. It writes no request twice.
 *
 *     closed ------1--> connecting   it is opened
 *     idle --------2--> connecting   a call comes
 *     connecting --3--> ready        an attempt to connect succeeds
 *     connecting --4--> failing      the server refuses, or the oldest attempt fails and no address is left to try
 *     ready -------5--> failing      the connection is lost after a second of silence, while it owed a call its response
 *     ready -------6--> idle         it is lost otherwise, with no call written or waiting
 *     ready -------7--> connecting   it is lost otherwise
 *     failing -----8--> ready        an attempt succeeds
 *     failing -----9--> failing      an attempt fails, and its reason takes the place of the last
 *     failing ----10--> connecting   a call comes that may start an attempt before its time (see Backoff)
 *     any --------11--> closed       it is closed
 *
 * Calls wait in `connecting`; in `ready`, those of one turn of the event loop are written together; in `failing` and `closed`, they
 * fail at once with the reason of that state. Attempts are made in `connecting` and `failing`.
 */
export class Client {
  readonly name: string;
  readonly #runtime: Runtime;
  readonly #server: ServerRecord;
  readonly #backoff: Backoff;
  readonly #addresses = new Addresses();
  #state: State = CLOSED;
  /** The ready one, or up to two attempts, oldest first. */
  #connections: Connection[] = [];
  /** Calls that have not been written. */
  #waiting: Call[] = [];
  /** When it began to fail, if it has not been ready or closed since. */
  #failingSince: number | undefined;
  #isTicking = false;

  constructor(server: MemcachedServer, runtime: Runtime = realRuntime(server.host, server.port)) {
    this.#runtime = runtime;
    this.#server = new ServerRecord(server, runtime);
    this.#backoff = new Backoff(runtime);
    this.name = this.#server.name;
  }

  /** How long ago it began to fail, in milliseconds; 0 if it never did, or has been ready or closed since. */
  failingFor(): number {
    return this.#failingSince === undefined ? 0 : this.#runtime.now() - this.#failingSince;
  }

  /** Starts to connect, unless it is open. `log` is told when the server is lost and when it serves again. */
  open(log: Log): void {
    if (this.#state.name !== 'closed') return;
    this.#server.open(log);
    this.#backoff.reset();
    this.#connect(); // 1
  }

  /** Fails all calls, and closes all sockets. The client may be opened again. */
  close(): void {
    if (this.#state.name === 'closed') return;
    this.#enter(CLOSED); // 11
    for (const connection of this.#connections.splice(0)) connection.destroy(CLOSED.reason);
    this.#failingSince = undefined;
  }

  /**
   * Does an operation, at most once. Gives the count of an INCREMENT, 0 for a DELETE, or undefined if there is no such key.
   *
   * @param deadline in milliseconds of the runtime's clock; a late call fails up to 25 ms after it
   * @throws MemcachedError
   */
  async call(operation: Operation, key: string, deadline: number): Promise<number | undefined> {
    try {
      return this.#conclude(await this.#start(operation, key, deadline).response);
    } catch (error) {
      if (!(error instanceof MemcachedError)) throw error;
      throw new MemcachedError(error.code, `${this.name}: ${error.message}`);
    }
  }

  #start(operation: Operation, key: string, deadline: number): Call {
    this.#backoff.callCame();
    if (this.#state.name === 'idle') this.#connect(); // 2
    if (this.#state.name === 'failing' && this.#backoff.maySkip(this.#connections.length > 0)) {
      this.#backoff.skip();
      this.#connect(); // 10
    }
    if ('reason' in this.#state) throw this.#state.reason;
    const call = new Call(operation, key, deadline);
    this.#waiting.push(call);
    if (this.#waiting.length === 1) this.#runtime.endOfTurn(() => this.#write());
    this.#keepTicking();
    return call;
  }

  #conclude(response: Response): number | undefined {
    const { outcome, count, words } = response;
    if (outcome === 'ok' || outcome === 'not found') {
      // If the same piece went wrong behind the response, the connection was lost before this runs.
      if (this.#state.name === 'ready') this.#served();
      return outcome === 'ok' ? count : undefined;
    }
    if (outcome !== 'auth error') throw this.#server.noteCommandRefusal(response);
    const reason = this.#server.noteLoginRefusal(words);
    this.#readyConnection?.destroy(reason);
    this.#server.logUnavailable(reason);
    throw reason;
  }

  #served(): void {
    // A connection that has served is replaced at once if it is lost.
    this.#backoff.skip();
    this.#server.logAvailable();
  }

  get #readyConnection(): Connection | undefined {
    return this.#state.name === 'ready' ? this.#connections[0] : undefined;
  }

  #enter(state: State): void {
    const { name } = this.#state;
    assert(TRANSITIONS[name].includes(state.name), `A client that is ${name} cannot be ${state.name}`);
    this.#state = state;
    if ('reason' in state) for (const call of this.#waiting.splice(0)) call.settle(state.reason);
    this.#keepTicking();
  }

  #connect(): void {
    this.#enter({ name: 'connecting' });
    // At arrow 10, attempts may be under way. A silent one could time out soon, and the call that has just come would fail with it.
    this.#giveUp(this.#connections.filter(({ silence }) => silence >= SECOND_ATTEMPT_MS));
    this.#attemptIfDue();
  }

  /**
   * Starts an attempt if one is due, unless the newest makes progress. The oldest continues beside it: it may be slow rather than
   * lost. At most two run: a third takes the place of the second.
   */
  #attemptIfDue(): void {
    const newest = this.#connections.at(-1);
    if (!this.#backoff.isDue() || (newest && newest.silence < SECOND_ATTEMPT_MS)) return;
    this.#giveUp(this.#connections.slice(1));
    this.#backoff.attemptBegan();
    const connection: Connection = new Connection(this.#runtime, this.#server, {
      pick: (addresses) => this.#addresses.pick(addresses, this.#connections),
      onReady: () => this.#ready(connection),
      onLost: (reason) => this.#lost(connection, reason),
    });
    this.#connections.push(connection);
  }

  #ready(connection: Connection): void {
    this.#giveUp(this.#connections.filter((other) => other !== connection));
    this.#server.logAddress(connection.address, this.#addresses.lastReady);
    this.#addresses.becameReady(connection.address);
    this.#enter({ name: 'ready' }); // 3, 8
    this.#failingSince = undefined;
    this.#write();
  }

  /** Closes attempts that are needed no more. They leave the list first, so their loss is no failure. */
  #giveUp(attempts: readonly Connection[]): void {
    this.#connections = this.#connections.filter((each) => !attempts.includes(each));
    for (const attempt of attempts) attempt.destroy(REPLACED);
  }

  #lost(connection: Connection, reason: MemcachedError): void {
    const index = this.#connections.indexOf(connection);
    if (index < 0) return;
    this.#connections.splice(index, 1);
    if (this.#state.name !== 'ready') return this.#attemptFailed(connection, index === 0, reason);
    const { owesCalls, hasTimedOut } = connection;
    if (owesCalls && hasTimedOut) return this.#fail(reason); // 5
    if (owesCalls) this.#server.logUnavailable(reason);
    if (owesCalls || this.#waiting.length > 0) return this.#connect(); // 7
    this.#enter({ name: 'idle' }); // 6
  }

  #attemptFailed({ address }: Connection, isOldest: boolean, reason: MemcachedError): void {
    const isRefused = reason.code !== 'UNAVAILABLE';
    // Without an address its look-up has failed or hangs, and the next one would too.
    const isAddressLeft = address !== undefined && this.#addresses.isAnyUntried;
    // Addresses that are left are tried without doubling the backoff, unless what answers refuses.
    if (isRefused || !isAddressLeft) this.#backoff.attemptFailed(isRefused);
    // Another address may succeed although this one has failed, and the oldest attempt although the second has.
    const mayCallsWait = this.#state.name === 'connecting' && !isRefused && (isAddressLeft || !isOldest);
    if (!mayCallsWait) this.#fail(reason); // 4, 9
  }

  #fail(reason: MemcachedError): void {
    this.#enter({ name: 'failing', reason });
    this.#failingSince ??= this.#runtime.now();
    this.#server.logUnavailable(reason);
  }

  #write(): void {
    this.#expireWaiting();
    if (this.#waiting.length > 0) this.#readyConnection?.write(this.#waiting.splice(0));
  }

  #keepTicking(): void {
    if (this.#isTicking) return;
    this.#isTicking = true;
    this.#runtime.after(TICK_MS, () => this.#tick());
  }

  #tick(): void {
    this.#isTicking = false;
    for (const connection of [...this.#connections]) connection.expire(); // a copy, as a lost one leaves the list
    this.#expireWaiting();
    const isAttempting = ['connecting', 'failing'].includes(this.#state.name);
    if (isAttempting) this.#attemptIfDue();
    if (isAttempting || this.#waiting.length > 0 || this.#readyConnection?.hasOutstanding) this.#keepTicking();
  }

  #expireWaiting(): void {
    for (const call of this.#waiting) call.expire(this.#runtime.now(), 'no connection in time');
    this.#waiting = this.#waiting.filter(({ isSettled }) => !isSettled);
  }
}
