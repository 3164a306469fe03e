import { Connection } from './connection.ts';
import { MemcachedError } from './errors.ts';
import type { Login } from './login.ts';
import { probe, PROBE_KEY } from './protocol.ts';
import type { Report } from './report.ts';
import type { Runtime } from './runtime.ts';
import { Touch } from './touch.ts';

/** How long an attempt may be silent before another one is made beside it. */
const SECOND_ATTEMPT_MS = 200;
/** From the start of one attempt to the start of the next, plus or minus up to half, at random. */
const PAUSE_MS = 200;
/** For how long after a call others are expected. */
const EXPECTED_MS = 3000;
/** The longest pause, reached while nobody asks or while the login is refused. */
const MAX_PAUSE_MS = 5000;

const PROBE = probe();
const SUPERSEDED = new MemcachedError('UNAVAILABLE', 'another attempt takes its place');

interface ConnectorEvents {
  /** A connection is ready: it is connected, logged in, and has had a response about a key. */
  onReady(connection: Connection): void;
  /** An attempt failed; `isAddressLeft` if the name has another address, not tried since the last success. */
  onFailed(reason: MemcachedError, isAddressLeft: boolean): void;
  /** A connection is lost that was ready, or that another attempt has superseded. */
  onLost(connection: Connection, reason: MemcachedError, isOwing: boolean): void;
}

/**
 * Makes connections to one server: when to try, which address, how often. An attempt that is silent may only be slow, so it
 * has a second for each step. Its packets may also be lost, so another one is made beside it; there are never more than two.
 */
export class Connector {
  readonly #runtime: Runtime;
  readonly #login: Login;
  readonly #report: Report;
  readonly #touch: Touch;
  readonly #events: ConnectorEvents;
  /** The connections that are not ready, oldest first. */
  #attempts: Connection[] = [];
  #lastCallAt = -Infinity;
  #lastAttemptAt = -Infinity;
  #pause = PAUSE_MS;
  /** What the pause is multiplied by, so that all dynos do not try at once. */
  #jitter = 1;
  #addresses: readonly string[] = [];
  /** When each address was tried, since the last success. */
  readonly #triedAt = new Map<string, number>();
  #servingAddress: string | undefined;

  constructor(runtime: Runtime, login: Login, report: Report, events: ConnectorEvents) {
    this.#runtime = runtime;
    this.#login = login;
    this.#report = report;
    this.#touch = new Touch(report);
    this.#events = events;
  }

  isDue(now: number): boolean {
    return now >= this.#lastAttemptAt + Math.min(this.#pause * this.#jitter, MAX_PAUSE_MS);
  }

  /** Whether a call may start an attempt at once: none is under way, or the call comes after a quiet time. */
  mayHurry(now: number): boolean {
    return (this.#attempts.length === 0 || !this.#isExpected(now)) && now >= this.#lastAttemptAt + PAUSE_MS;
  }

  /** Makes the next attempt due now. */
  hurry(): void {
    this.#lastAttemptAt = -Infinity;
  }

  /** More calls are expected now: makes the pause short again, also the present one. */
  callCame(now: number): void {
    this.#lastCallAt = now;
    this.#pause = PAUSE_MS;
  }

  /** Starts an attempt, unless none is due or the newest one may soon succeed. */
  attemptIfDue(now: number): void {
    const newest = this.#attempts.at(-1);
    if (!this.isDue(now) || (newest && newest.silentFor(now) < SECOND_ATTEMPT_MS)) return;
    this.#lastAttemptAt = now;
    this.#jitter = 0.5 + this.#runtime.random();
    if (this.#attempts.length === 2) this.#attempts.pop()?.lose(SUPERSEDED);
    void this.#attempt();
  }

  loseIfSilent(now: number): void {
    for (const connection of [...this.#attempts]) connection.loseIfSilent(now);
  }

  /** Ends all attempts but the one that made this connection. */
  stop(except?: Connection): void {
    for (const connection of this.#attempts.splice(0)) if (connection !== except) connection.lose(SUPERSEDED);
  }

  async #attempt(): Promise<void> {
    const connection: Connection = new Connection(
      this.#runtime,
      this.#touch,
      (addresses) => this.#pick(addresses, connection),
      (reason, isOwing) => this.#lost(connection, reason, isOwing),
    );
    this.#attempts.push(connection);
    try {
      await connection.connected;
      const { operation } = this.#login;
      if (operation) this.#login.check(await connection.request(operation, ''), this.#runtime.now());
      // Any other response will do. A proxy may answer other commands without a store behind it.
      const { outcome, words } = await connection.request(PROBE, PROBE_KEY);
      if (outcome === 'auth error') throw this.#login.refusal(words, this.#runtime.now());
    } catch (reason) {
      connection.lose(reason as MemcachedError);
    }
    if (this.#attempts.includes(connection)) this.#succeed(connection);
  }

  #succeed(connection: Connection): void {
    this.#report.moved(this.#servingAddress, connection.address);
    this.#servingAddress = connection.address;
    this.#triedAt.clear();
    this.stop(connection);
    this.#events.onReady(connection);
  }

  #lost(connection: Connection, reason: MemcachedError, isOwing: boolean): void {
    if (!this.#attempts.includes(connection)) return this.#events.onLost(connection, reason, isOwing);
    this.#attempts = this.#attempts.filter((other) => other !== connection);
    const isRefused = reason.code === 'WARMING_UP' || reason.code === 'LOGIN_REFUSED';
    if (isRefused || !this.#isExpected(this.#runtime.now())) this.#pause = Math.min(2 * this.#pause, MAX_PAUSE_MS);
    const isNamed = connection.address !== undefined;
    this.#events.onFailed(reason, isNamed && this.#addresses.some((address) => !this.#triedAt.has(address)));
  }

  #isExpected(now: number): boolean {
    return now - this.#lastCallAt < EXPECTED_MS;
  }

  /** The address that served last comes first, then those tried longest ago. Two attempts never try the same. */
  #pick(addresses: readonly string[], connection: Connection): string {
    // A look-up may end after its attempt has, which then tries none.
    if (!this.#attempts.includes(connection)) return addresses[0] as string;
    this.#addresses = addresses;
    const underWay = this.#attempts.map(({ address }) => address);
    const rank = (address: string): number => {
      if (underWay.includes(address)) return Infinity;
      return this.#triedAt.get(address) ?? (address === this.#servingAddress ? -2 : -1);
    };
    const [first = ''] = [...addresses].sort((one, other) => rank(one) - rank(other));
    this.#triedAt.set(first, this.#runtime.now());
    return first;
  }
}
