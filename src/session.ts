// Fastify plugin: `request.session`, a count per visitor under a random id in a cookie. It knows nothing of this app.

import { hash, randomBytes } from 'node:crypto';
import { fastifyCookie } from '@fastify/cookie';
import fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import type { Counters } from './counters/counters.ts';

/** Where a request keeps its session, once that has been used. */
const SESSION = Symbol('session');

declare module 'fastify' {
  interface FastifyRequest {
    readonly session: Session;
    [SESSION]: RequestSession | undefined;
  }
}

/** One request's session. If a method fails with `CountersUnavailable`, after a second at most, it leaves the cookie unchanged. */
export interface Session {
  /** Adds one to the count and gives it. An unknown id is replaced by a new session's, never adopted. */
  increment(): Promise<number>;
  /** Deletes the count, and the cookie if the request carried one. */
  end(): Promise<void>;
}

export interface SessionOptions {
  readonly counters: Counters;
  /** `sid` by default, with the prefix `__Host-` over https. Cookies ignore the port, so two apps on one host need two names. */
  readonly cookieName?: string | undefined;
}

/** How long `increment` or `end` may take, including the wait for earlier calls of the same request. */
const TIMEOUT_MS = 1000;
/** An id is 144 random bits, which are 24 characters in base64url. */
const ID_BYTES = 18;
const ID_SHAPE = /^[\w-]{24}$/;
/** A token (RFC 9110, 5.6.2) without a prefix that has a meaning to browsers. */
const COOKIE_NAME = /^(?!__(?:Host|Secure|Http)-)[\w!#$%&'*+.^`|~-]+$/i;

/**
 * Adds `request.session`. The cookie is `Secure` if `request.protocol` says https, for which an app behind a router needs
 * Fastify's `trustProxy`: `true` or addresses; a number of hops has no effect. The response sets the cookie, so call the methods
 * before it is sent. This is for HTTP/1.1: over HTTP/2, `request.protocol` no longer says https once the connection was reset.
 *
 * @throws TypeError if `counters` is missing, or `cookieName` is no name for a cookie
 */
export const session = Object.assign(plugin, {
  // What fastify-plugin would set. The first makes `request.session` known in the whole scope that registers the plugin, not only
  // inside the plugin; by the second, Fastify refuses it in another major.
  [Symbol.for('skip-override')]: true,
  [Symbol.for('plugin-meta')]: { name: 'hello-n-session', fastify: '5.x' },
});

async function plugin(app: FastifyInstance, options: SessionOptions): Promise<void> {
  // JavaScript callers can omit required options.
  const { counters, cookieName = 'sid' } = options as Partial<SessionOptions>;
  if (!counters) throw new TypeError('The session needs counters, such as new MemcachedCounters(servers, 86400)');
  if (!COOKIE_NAME.test(cookieName))
    throw new TypeError(`${JSON.stringify(cookieName)} cannot be the name of a cookie`);
  // The parse and serialize of @fastify/cookie work only once it has been registered somewhere. A throwaway app does that, as this
  // app may register it with options of its own, or use another plugin for cookies.
  await fastify().register(fastifyCookie);
  // Declares the property that the getter fills, so that all requests have one shape.
  app.decorateRequest(SESSION);
  app.decorateRequest('session', {
    getter(this: FastifyRequest) {
      return (this[SESSION] ??= new RequestSession(this, counters, cookieName));
    },
  });
  app.addHook('onSend', (request, reply, payload, done) => {
    // Taken once: if a later onSend hook fails, this one runs again, and the response has the header already.
    const header = request[SESSION]?.takeHeader();
    if (header !== undefined) reply.header('set-cookie', header);
    done(null, payload);
  });
  app.addHook('onClose', async () => counters.close());
  counters.open(app.log);
}

class RequestSession implements Session {
  readonly #counters: Counters;
  readonly #isSecure: boolean;
  readonly #cookieName: string;
  /** The cookie's value as the request carried it, whatever its shape. */
  readonly #received: string | undefined;
  /** The id to count under: the received one if it has the shape of an id, later that of a session that was started. */
  #id: string | undefined;
  /** The `Set-Cookie` that the response does not have yet. */
  #pendingHeader: string | undefined;
  #lastCall: Promise<unknown> = Promise.resolve();

  constructor(request: FastifyRequest, counters: Counters, cookieName: string) {
    this.#counters = counters;
    // Fastify gives what the router wrote, which may be HTTPS.
    this.#isSecure = /^https$/i.test(request.protocol);
    // With this prefix no other host, not even a subdomain, can plant the cookie.
    this.#cookieName = this.#isSecure ? `__Host-${cookieName}` : cookieName;
    this.#received = fastifyCookie.parse(request.headers.cookie ?? '')[this.#cookieName];
    this.#id = this.#received?.match(ID_SHAPE)?.[0];
  }

  increment(): Promise<number> {
    return this.#inTurn(async (deadline) => {
      if (this.#id !== undefined) {
        const count = await this.#counters.increment(keyOf(this.#id), deadline);
        if (count !== undefined) return count;
      }
      // Several ids may be drawn; the last one is the session's.
      let id = '';
      const drawKey = (): string => {
        id = randomBytes(ID_BYTES).toString('base64url');
        return keyOf(id);
      };
      await this.#counters.start(drawKey, deadline);
      this.#id = id;
      this.#prepareHeader(id);
      return 1;
    });
  }

  end(): Promise<void> {
    return this.#inTurn(async (deadline) => {
      if (this.#id !== undefined) await this.#counters.end(keyOf(this.#id), deadline);
      this.#id = undefined;
      this.#pendingHeader = undefined;
      if (this.#received !== undefined) this.#prepareHeader('', { maxAge: 0, expires: new Date(0) });
    });
  }

  /** Gives the pending header, once. */
  takeHeader(): string | undefined {
    const header = this.#pendingHeader;
    this.#pendingHeader = undefined;
    return header;
  }

  /** Runs the calls of a request one after another, so that two first increments do not start two sessions. */
  #inTurn<Result>(action: (deadline: number) => Promise<Result>): Promise<Result> {
    const deadline = performance.now() + TIMEOUT_MS;
    const run = (): Promise<Result> => action(deadline);
    const result = this.#lastCall.then(run, run);
    this.#lastCall = result;
    return result;
  }

  #prepareHeader(value: string, expiry = {}): void {
    const attributes = { path: '/', httpOnly: true, sameSite: 'lax', secure: this.#isSecure } as const;
    this.#pendingHeader = fastifyCookie.serialize(this.#cookieName, value, { ...attributes, ...expiry });
  }
}

/** A digest of 32 characters: who reads the store learns no id, and a look-up leaks nothing through timing. */
function keyOf(id: string): string {
  return hash('sha256', id, 'base64url').slice(0, 32);
}
