// What a client knows of its server beyond one connection, and what it has told the log of it.

import { login, nameOf, type Operation, type Response } from './protocol.ts';
import type { Runtime } from './runtime.ts';
import { MemcachedError, type ErrorCode, type Log, type MemcachedServer } from './server.ts';

/** How long after its first refusal a login may be that of a new add-on. MemCachier says three minutes; two more to be safe. */
const WARM_UP_MS = 5 * 60_000;
const WARM_UP_ADVICE = 'The login of a new add-on takes up to three minutes to work';
const QUOTES_ADVICE = 'The username or the password is in quotes, which are sent as a part of it';
const REFUSED_ADVICE =
  'Check its username and password. MemCachier disables a free cache not used for 30 days, until ' +
  '"heroku addons:open memcachier" enables it again';

/** TOUCH is sent no more after so many failures, if it has never been answered: some proxies do not know it. */
const MAX_TOUCH_FAILURES = 2;
/** How long a repeated refusal stays out of the log. */
const REFUSAL_PAUSE_MS = 60_000;

/** Each client has one, which outlives its connections, and also a close of the client. */
export class ServerRecord {
  readonly name: string;
  readonly loginOperation: Operation | undefined;
  readonly #isQuoted: boolean;
  readonly #runtime: Runtime;
  /** Set by `open`, before which nothing happens. */
  #log!: Log;
  /** What the log has been told since the server last served. */
  readonly #loggedCodes = new Set<ErrorCode>();
  /** When each kind of refusal may be logged again. */
  readonly #quietUntil = new Map<string, number>();
  /** Undefined before the first refusal; -Infinity once the login has worked. */
  #warmUpEndsAt: number | undefined;
  /** How many connections were lost when a TOUCH was the next to be answered. */
  #touchFailures = 0;
  #hasAnsweredTouch = false;

  constructor({ host, port, username, password }: MemcachedServer, runtime: Runtime) {
    this.name = `Memcached at ${host.includes(':') ? `[${host}]` : host}:${port}`;
    this.loginOperation = username && password ? login(username, password) : undefined;
    this.#isQuoted = [username, password].some((text) => /^(["']).*\1$/.test(text ?? ''));
    this.#runtime = runtime;
  }

  /** Uses this log from now on, which has been told nothing yet. A repeated refusal still waits for its pause. */
  open(log: Log): void {
    this.#log = log;
    this.#loggedCodes.clear();
  }

  logUnavailable({ code, message }: MemcachedError): void {
    if (this.#loggedCodes.has(code)) return;
    this.#loggedCodes.add(code);
    this.#log.warn(`${this.name} is not available: ${message}`);
  }

  logAvailable(): void {
    if (this.#loggedCodes.size === 0) return;
    this.#loggedCodes.clear();
    this.#log.info(`${this.name} is available again`);
  }

  /** Logs a change of address. `before` is undefined at the first connection; if the host is an address, both always are. */
  logAddress(address: string | undefined, before: string | undefined): void {
    if (before === undefined || before === address) return;
    this.#log.info(`${this.name} is at ${address} now, and was at ${before}`);
  }

  /** @throws MemcachedError if this response to the login is not `ok` */
  checkLogin({ outcome, words }: Response): void {
    if (outcome === 'unknown command')
      throw new MemcachedError('LOGIN_UNSUPPORTED', `it has no logins, but one is set: ${words}`);
    if (outcome === 'auth error') throw this.noteLoginRefusal(words);
    if (outcome !== 'ok') throw new MemcachedError('UNAVAILABLE', `it does not complete the login: ${words}`);
    this.#warmUpEndsAt = -Infinity;
  }

  /** Notes that a login was refused, and gives the error to throw. The first time begins the warm-up, unless a login has worked. */
  noteLoginRefusal(words: string): MemcachedError {
    if (!this.loginOperation)
      return new MemcachedError('LOGIN_REQUIRED', `it requires a login, and none is set: ${words}`);
    const now = this.#runtime.now();
    this.#warmUpEndsAt ??= now + WARM_UP_MS;
    const isWarmingUp = now < this.#warmUpEndsAt;
    const code = isWarmingUp ? 'WARMING_UP' : 'LOGIN_REFUSED';
    let advice = isWarmingUp ? WARM_UP_ADVICE : REFUSED_ADVICE;
    if (this.#isQuoted) advice = QUOTES_ADVICE;
    return new MemcachedError(code, `it refuses the login: ${words}. ${advice}`);
  }

  /** Logs that a command was refused, and gives the error to throw. */
  noteCommandRefusal({ opcode, status, words }: Response): MemcachedError {
    const refusal = `refuses ${nameOf(opcode)}: ${words}`;
    this.#logRefusal(`${opcode} ${status}`, refusal, REFUSAL_PAUSE_MS);
    return new MemcachedError('COMMAND_REFUSED', `it ${refusal}`);
  }

  get maySendTouch(): boolean {
    return this.#hasAnsweredTouch || this.#touchFailures < MAX_TOUCH_FAILURES;
  }

  touchAnswered({ outcome, words }: Response): void {
    this.#hasAnsweredTouch = true;
    // An auth error is not logged here: the INCREMENT before it had one too, and that was.
    const isRefused = outcome === 'refused' || outcome === 'unknown command';
    if (isRefused) this.#logTouchFault(`refuses TOUCH: ${words}`);
  }

  touchFailed(): void {
    this.#touchFailures += 1;
    if (!this.maySendTouch) this.#logTouchFault('does not answer TOUCH');
  }

  /** Logs it once, as a server usually refuses TOUCH each time or never. */
  #logTouchFault(words: string): void {
    this.#logRefusal('TOUCH', `${words}. Sessions in use no longer outlive their time to live`, Infinity);
  }

  /** Logs this kind of refusal, unless the last one is less than `pause` milliseconds old. */
  #logRefusal(kind: string, words: string, pause: number): void {
    const now = this.#runtime.now();
    if (now < (this.#quietUntil.get(kind) ?? -Infinity)) return;
    this.#quietUntil.set(kind, now + pause);
    this.#log.warn(`${this.name} ${words}`);
  }
}
