import assert from 'node:assert/strict';
import { Addresses } from './addresses.ts';
import { Call, Connection } from './connection.ts';
import { Pace } from './pace.ts';
import type { Operation, Response } from './protocol.ts';
import { realRuntime, type Runtime } from './runtime.ts';
import { ServerRecord } from './server-record.ts';
import { MemcachedError, type Log, type MemcachedServer } from './server.ts';

/** How often all deadlines are checked. */
const TICK_MS = 25;
/** How long an attempt may be silent before another one is made beside it. */
const SECOND_ATTEMPT_MS = 200;

const SUPERSEDED = new MemcachedError('UNAVAILABLE', 'another attempt takes its place');

type State =
  | { readonly name: 'idle' | 'connecting' | 'ready' }
  | { readonly name: 'failing' | 'closed'; readonly reason: MemcachedError };

const CLOSED = { name: 'closed', reason: new MemcachedError('UNAVAILABLE', 'its client is closed') } as const;

/** The arrows of the drawing below. In `failing`, another attempt may fail. */
const TRANSITIONS: Readonly<Record<State['name'], readonly State['name'][]>> = {
  closed: ['connecting'],
  idle: ['connecting', 'closed'],
  connecting: ['ready', 'failing', 'closed'],
  ready: ['idle', 'connecting', 'failing', 'closed'],
  failing: ['ready', 'connecting', 'failing', 'closed'],
};

/**
 * Keeps a connection to one Memcached server, and makes a new one whenever it is lost. It writes no request twice.
 *
 *     closed --1--> connecting --2--> ready --5--> idle --1--> connecting
 *                     |   ^  ^         | |
 *                     3   7  +----4----+ 6
 *                     v   |              v
 *                     failing <----------+     failing --2--> ready
 *
 * - `idle`: there is no connection, and nobody needs one until a call comes (1).
 * - `connecting`: calls wait, and attempts are made, until one succeeds (2), or one has failed at each address (3).
 * - `ready`: calls are written, those of one turn of the event loop together. When the connection is lost, another one is
 *   made at once (4), unless nobody needs it (5), or somebody was owed a response by a server that was silent (6).
 * - `failing`: calls fail at once, with the reason of the last failure, and attempts are made, until one succeeds (2). A call
 *   that comes while none is under way, or after a quiet time, waits for its own (7), unless one began just now.
 * - `closed`: calls fail at once. `open` leads out of it (1), and `close` into it from everywhere.
 */
export class Client {
  readonly #runtime: Runtime;
  readonly #server: ServerRecord;
  readonly #pace: Pace;
  readonly #addresses = new Addresses();
  #state: State = CLOSED;
  /** The one that is ready or, before there is one, those that are attempted: two at most, oldest first. */
  #connections: Connection[] = [];
  /** Calls that have not been written. */
  #waiting: Call[] = [];
  /** When it began to fail, if it has not been ready or closed since. */
  #failingSince: number | undefined;
  #isTicking = false;

  constructor(server: MemcachedServer, runtime: Runtime = realRuntime(server.host, server.port)) {
    this.#runtime = runtime;
    this.#server = new ServerRecord(server, runtime);
    this.#pace = new Pace(runtime);
  }

  /** What the log calls the server. */
  get name(): string {
    return this.#server.name;
  }

  /** For how many milliseconds it has been failing, new attempts included; 0 if it is not. */
  failingFor(): number {
    return this.#failingSince === undefined ? 0 : this.#runtime.now() - this.#failingSince;
  }

  /** Starts to connect, unless it is open. `log` is told when the server is lost and when it serves again. */
  open(log: Log): void {
    if (this.#state.name !== 'closed') return;
    this.#server.open(log);
    this.#connect(); // 1
  }

  /** Fails all calls, and closes all sockets. The client may be opened again. */
  close(): void {
    if (this.#state.name === 'closed') return;
    this.#enter(CLOSED);
    for (const connection of this.#connections.splice(0)) connection.lose(CLOSED.reason);
    this.#failingSince = undefined;
  }

  /**
   * Does an operation, at most once. Gives the count of an INCREMENT, or undefined if there is no such key.
   *
   * @param deadline in milliseconds of the runtime's clock; a late call fails up to 25 ms after it
   * @throws MemcachedError
   */
  async call(operation: Operation, key: string, deadline: number): Promise<number | undefined> {
    try {
      return this.#resultOf(await this.#start(operation, key, deadline).response);
    } catch (error) {
      if (!(error instanceof MemcachedError)) throw error;
      throw new MemcachedError(error.code, `${this.name}: ${error.message}`);
    }
  }

  #start(operation: Operation, key: string, deadline: number): Call {
    // Asked first, because this call ends a quiet time.
    const hurries = this.#state.name === 'failing' && this.#pace.mayHurry(this.#connections.length > 0);
    this.#pace.callCame();
    if (this.#state.name === 'idle') this.#connect(); // 1
    if (hurries) {
      this.#pace.makeDue();
      this.#connect(); // 7
    }
    if ('reason' in this.#state) throw this.#state.reason;
    const call = new Call(operation, key, deadline);
    this.#waiting.push(call);
    if (this.#waiting.length === 1) this.#runtime.endOfTurn(() => this.#write());
    this.#keepTicking();
    return call;
  }

  #resultOf(response: Response): number | undefined {
    const { outcome, count, words } = response;
    if (outcome === 'ok' || outcome === 'not found') {
      // Not if the connection was lost in the same turn, behind this response.
      if (this.#state.name === 'ready') {
        // A connection that has served is replaced at once.
        this.#pace.makeDue();
        this.#server.served();
      }
      return outcome === 'ok' ? count : undefined;
    }
    if (outcome !== 'auth error') throw this.#server.commandRefused(response);
    const reason = this.#server.loginRefused(words);
    this.#connection?.lose(reason);
    this.#server.lost(reason);
    throw reason;
  }

  get #connection(): Connection | undefined {
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
    this.#attemptIfDue();
  }

  /** The oldest attempt may be slow, so it continues; or its packets are lost, so others begin beside it, one at a time. */
  #attemptIfDue(): void {
    const newest = this.#connections.at(-1);
    if (!this.#pace.isDue() || (newest && newest.silence < SECOND_ATTEMPT_MS)) return;
    for (const second of this.#connections.splice(1)) second.lose(SUPERSEDED);
    this.#pace.attemptBegan();
    void this.#attempt();
  }

  async #attempt(): Promise<void> {
    const connection: Connection = new Connection(
      this.#runtime,
      this.#server,
      (addresses) => this.#addresses.pick(addresses, this.#connections, this.#runtime.now()),
      (reason) => this.#lost(connection, reason),
    );
    this.#connections.push(connection);
    await connection.shakeHands();
    if (this.#connections.includes(connection)) this.#ready(connection);
  }

  #ready(connection: Connection): void {
    this.#server.reached(connection.address, this.#addresses.serving);
    this.#addresses.served(connection.address);
    this.#enter({ name: 'ready' }); // 2
    const other = this.#connections.find((each) => each !== connection);
    this.#connections = [connection];
    other?.lose(SUPERSEDED);
    this.#failingSince = undefined;
    this.#write();
  }

  #lost(connection: Connection, reason: MemcachedError): void {
    if (!this.#connections.includes(connection)) return;
    this.#connections = this.#connections.filter((other) => other !== connection);
    if (this.#state.name !== 'ready') return this.#attemptFailed(connection, reason);
    const { isOwing, isSilent } = connection;
    if (!isOwing && this.#waiting.length === 0) return this.#enter({ name: 'idle' }); // 5
    if (isOwing && isSilent) return this.#fail(reason); // 6
    if (isOwing) this.#server.lost(reason);
    this.#connect(); // 4
  }

  #attemptFailed({ address }: Connection, reason: MemcachedError): void {
    const isRefused = reason.code === 'WARMING_UP' || reason.code === 'LOGIN_REFUSED';
    this.#pace.attemptFailed(isRefused);
    // Without an address the look-up has failed, or the host is one itself.
    const isAddressLeft = address !== undefined && this.#addresses.isAnyLeft;
    if (this.#state.name === 'failing' || !isAddressLeft) this.#fail(reason); // 3
  }

  #fail(reason: MemcachedError): void {
    this.#enter({ name: 'failing', reason });
    this.#failingSince ??= this.#runtime.now();
    this.#server.lost(reason);
  }

  #write(): void {
    this.#expireWaiting(this.#runtime.now());
    const connection = this.#connection;
    if (connection && this.#waiting.length > 0) connection.write(this.#waiting.splice(0));
  }

  #keepTicking(): void {
    if (this.#isTicking) return;
    this.#isTicking = true;
    this.#runtime.after(TICK_MS, () => {
      this.#isTicking = false;
      this.#tick(this.#runtime.now());
    });
  }

  #tick(now: number): void {
    for (const connection of this.#connections) connection.expire(now);
    this.#expireWaiting(now);
    const isConnecting = ['connecting', 'failing'].includes(this.#state.name);
    if (isConnecting) this.#attemptIfDue();
    if (isConnecting || this.#waiting.length > 0 || this.#connection?.isWaiting) this.#keepTicking();
  }

  #expireWaiting(now: number): void {
    for (const call of this.#waiting) call.expire(now, 'no connection in time');
    this.#waiting = this.#waiting.filter(({ isSettled }) => !isSettled);
  }
}
