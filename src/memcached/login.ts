import { MemcachedError } from './errors.ts';
import { login, type Operation, type Response } from './protocol.ts';

/** How long a refused login may be that of a new add-on, whose login takes some minutes to work. */
const WARM_UP_MS = 5 * 60_000;
const WARM_UP_ADVICE = 'The login of a new add-on takes up to three minutes to work';
const QUOTES_ADVICE = 'The username or the password is in quotes, which are sent as a part of it';
const REFUSED_ADVICE =
  'Check its username and password. MemCachier disables a free cache not used for 30 days, until ' +
  '"heroku addons:open memcachier" enables it again';

/** The login to one server, if it has one, and what a refusal means. */
export class Login {
  /** Undefined if no login is set. */
  readonly operation: Operation | undefined;
  readonly #isQuoted: boolean;
  /** Undefined before the first refusal; in the past once the login has worked. */
  #warmUpEndsAt: number | undefined;

  constructor(username: string | undefined, password: string | undefined) {
    this.operation = username && password ? login(username, password) : undefined;
    this.#isQuoted = [username, password].some((text) => /^(["']).*\1$/.test(text ?? ''));
  }

  /** Throws what is wrong with the login, by the response to it. */
  check({ outcome, words }: Response, now: number): void {
    if (outcome === 'unknown command')
      throw new MemcachedError('LOGIN_UNSUPPORTED', `it has no logins, but one is set: ${words}`);
    if (outcome === 'auth error') throw this.refusal(words, now);
    if (outcome !== 'ok') throw new MemcachedError('UNAVAILABLE', `it does not complete the login: ${words}`);
    this.#warmUpEndsAt = -Infinity;
  }

  /** What an `auth error` means, in response to the login or to a command. */
  refusal(words: string, now: number): MemcachedError {
    if (!this.operation) return new MemcachedError('LOGIN_REQUIRED', `it requires a login, and none is set: ${words}`);
    this.#warmUpEndsAt ??= now + WARM_UP_MS;
    const isWarmingUp = now < this.#warmUpEndsAt;
    const advice = isWarmingUp ? WARM_UP_ADVICE : REFUSED_ADVICE;
    return new MemcachedError(
      isWarmingUp ? 'WARMING_UP' : 'LOGIN_REFUSED',
      `it refuses the login: ${words}. ${this.#isQuoted ? QUOTES_ADVICE : advice}`,
    );
  }
}
