import assert from 'node:assert/strict';
import { Call, type Connection } from './connection.ts';
import { Connector } from './connector.ts';
import { MemcachedError, Silence } from './errors.ts';
import { Login } from './login.ts';
import { nameOf, type Operation, type Response } from './protocol.ts';
import { Report, type Log } from './report.ts';
import { realRuntime, type Runtime } from './runtime.ts';

/** A Memcached server, and its login (SASL PLAIN) if it has one. */
export interface MemcachedServer {
  readonly host: string;
  readonly port: number;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
}

/** How often all deadlines are checked. */
const TICK_MS = 25;

const CLOSED = new MemcachedError('UNAVAILABLE', 'its client is closed');

type State =
  | { readonly name: 'closed' | 'idle' | 'connecting' }
  | { readonly name: 'ready'; readonly connection: Connection }
  | { readonly name: 'failing'; readonly reason: MemcachedError };

/** The arrows of the drawing below. */
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
 * 1. It is opened, or a call comes.
 * 2. An attempt succeeds.
 * 3. An attempt fails, and each address has been tried; in `failing`, another one fails.
 * 4. The connection is lost, and another attempt is due, or no call was owed a response.
 * 5. The connection is lost while nobody waits.
 * 6. The connection is lost because the server was silent, or no attempt is due yet.
 * 7. A call comes while no attempt is under way.
 *
 * - `idle`: there is no connection, and nobody needs one.
 * - `connecting`: attempts are made, and calls wait.
 * - `ready`: calls are written, those of one turn of the event loop together.
 * - `failing`: attempts are made, and calls fail at once, with the reason of the last failure.
 * - `closed`: calls fail at once. `close` leads here from everywhere.
 */
export class Client {
  readonly name: string;
  readonly #runtime: Runtime;
  readonly #login: Login;
  readonly #connector: Connector;
  readonly #report: Report;
  #state: State = { name: 'closed' };
  /** Calls that have not been written. */
  #waiting: Call[] = [];
  /** Undefined while it is ready, and until an attempt has failed. */
  #failingSince: number | undefined;
  #cancelTick: (() => void) | undefined;

  constructor({ host, port, username, password }: MemcachedServer, runtime: Runtime = realRuntime(host, port)) {
    this.name = `Memcached at ${host.includes(':') ? `[${host}]` : host}:${port}`;
    this.#report = new Report(this.name);
    this.#runtime = runtime;
    this.#login = new Login(username, password);
    this.#connector = new Connector(runtime, this.#login, this.#report, {
      onReady: (connection) => this.#ready(connection),
      onFailed: (reason, isAddressLeft) => this.#attemptFailed(reason, isAddressLeft),
      onLost: (connection, reason, isOwing) => this.#lost(connection, reason, isOwing),
    });
  }

  /** How long calls have failed, in milliseconds; 0 if they do not. */
  failingFor(): number {
    return this.#failingSince === undefined ? 0 : this.#runtime.now() - this.#failingSince;
  }

  /** Starts to connect, unless it is open. `log` is told when the server is lost and when it serves again. */
  open(log: Log): void {
    if (this.#state.name !== 'closed') return;
    this.#report.open(log);
    this.#connect();
  }

  /** Fails all calls, and closes all sockets. The client may be opened again. */
  close(): void {
    if (this.#state.name === 'closed') return;
    const connection = this.#connection;
    // First, because a client that is closed ignores the losses that follow.
    this.#enter({ name: 'closed' });
    this.#connector.stop();
    connection?.lose(CLOSED);
    this.#failWaiting(CLOSED);
    this.#failingSince = undefined;
    this.#cancelTick?.();
    this.#cancelTick = undefined;
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
    const now = this.#runtime.now();
    // Asked first, because this call ends a quiet time.
    const mayHurry = this.#connector.mayHurry(now);
    this.#connector.callCame(now);
    if (this.#state.name === 'idle') this.#connect();
    if (this.#state.name === 'failing' && mayHurry) {
      this.#connector.hurry();
      this.#connect();
    }
    if (this.#state.name === 'closed') throw CLOSED;
    if (this.#state.name === 'failing') throw this.#state.reason;
    const call = new Call(operation, key, deadline);
    this.#waiting.push(call);
    if (this.#state.name === 'ready' && this.#waiting.length === 1) this.#runtime.endOfTurn(() => this.#write());
    this.#keepTicking();
    return call;
  }

  #resultOf({ opcode, status, outcome, count, words }: Response): number | undefined {
    if (outcome === 'ok' || outcome === 'not found') {
      this.#served();
      return outcome === 'ok' ? count : undefined;
    }
    if (outcome === 'auth error') {
      const reason = this.#login.refusal(words, this.#runtime.now());
      this.#connection?.lose(reason);
      this.#report.lost(reason);
      throw reason;
    }
    const refusal = `refuses ${nameOf(opcode)}: ${words}`;
    this.#report.refused(`${opcode} ${Math.min(status, 0xff)}`, refusal, this.#runtime.now());
    throw new MemcachedError('COMMAND_REFUSED', `it ${refusal}`);
  }

  get #connection(): Connection | undefined {
    return this.#state.name === 'ready' ? this.#state.connection : undefined;
  }

  #enter(state: State): void {
    const { name } = this.#state;
    assert(TRANSITIONS[name].includes(state.name), `A client that is ${name} cannot be ${state.name}`);
    this.#state = state;
  }

  #connect(): void {
    this.#enter({ name: 'connecting' });
    this.#connector.attemptIfDue(this.#runtime.now());
    this.#keepTicking();
  }

  #ready(connection: Connection): void {
    this.#enter({ name: 'ready', connection });
    this.#failingSince = undefined;
    this.#write();
  }

  #served(): void {
    if (this.#state.name !== 'ready') return;
    // A connection that has served is replaced at once.
    this.#connector.hurry();
    this.#report.served();
  }

  #lost(connection: Connection, reason: MemcachedError, isOwing: boolean): void {
    if (connection !== this.#connection) return;
    if (!isOwing && this.#waiting.length === 0) return this.#enter({ name: 'idle' });
    if (isOwing) this.#report.lost(reason);
    const isPausing = reason instanceof Silence || !this.#connector.isDue(this.#runtime.now());
    if (isOwing && isPausing) this.#fail(reason);
    else this.#connect();
  }

  #attemptFailed(reason: MemcachedError, isAddressLeft: boolean): void {
    if (this.#state.name === 'failing' || !isAddressLeft) this.#fail(reason);
  }

  #fail(reason: MemcachedError): void {
    this.#enter({ name: 'failing', reason });
    this.#failingSince ??= this.#runtime.now();
    this.#report.lost(reason);
    this.#failWaiting(reason);
    this.#keepTicking();
  }

  #failWaiting(reason: MemcachedError): void {
    for (const call of this.#waiting.splice(0)) call.fail(reason);
  }

  #write(): void {
    this.#expireWaiting(this.#runtime.now());
    if (this.#waiting.length > 0) this.#connection?.write(this.#waiting.splice(0));
  }

  #keepTicking(): void {
    this.#cancelTick ??= this.#runtime.after(TICK_MS, () => {
      this.#cancelTick = undefined;
      this.#tick(this.#runtime.now());
    });
  }

  #tick(now: number): void {
    const connection = this.#connection;
    connection?.loseIfSilent(now);
    connection?.expireCalls(now);
    this.#connector.loseIfSilent(now);
    this.#expireWaiting(now);
    const isConnecting = ['connecting', 'failing'].includes(this.#state.name);
    if (isConnecting) this.#connector.attemptIfDue(now);
    if (isConnecting || this.#waiting.length > 0 || connection?.isIdle === false) this.#keepTicking();
  }

  #expireWaiting(now: number): void {
    for (const call of this.#waiting) call.expire(now, 'no connection in time');
    this.#waiting = this.#waiting.filter(({ isSettled }) => !isSettled);
  }
}
