import { createHash, randomBytes } from 'node:crypto';
import cookie, { type CookieSerializeOptions } from '@fastify/cookie';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Counters } from './counters/counters.js';

declare module 'fastify' {
  interface FastifyRequest {
    session: Session;
  }
}

export interface SessionOptions {
  counters: Counters;
}

/** A session's id: 144 random bits. */
const ID_BYTES = 18;
const ID_SHAPE = /^[\w-]{24}$/;
/** How long a greeting or a good-bye may wait for its count, in milliseconds. */
const PATIENCE = 1000;

/**
 * Fastify plugin: a count per visitor, under a random id in a cookie. Gives `request.session`, which asks the counters
 * only when it is called. Whether the cookie is a secure one is what `request.protocol` says, so behind a router that
 * ends TLS the app needs Fastify's `trustProxy`.
 */
export const session = Object.assign(
  async (app: FastifyInstance, { counters }: SessionOptions): Promise<void> => {
    if (!app.hasPlugin('@fastify/cookie')) await app.register(cookie);
    app.decorateRequest('session');
    app.addHook('onRequest', (request, reply, done) => {
      request.session = new Session(counters, request, reply);
      done();
    });
    app.addHook('onReady', (done) => {
      counters.open(app.log);
      done();
    });
    app.addHook('onClose', (_app, done) => {
      counters.close();
      done();
    });
  },
  // What Fastify does for a plugin made by fastify-plugin: the decorations are for the app that registers it.
  { [Symbol.for('skip-override')]: true, [Symbol.for('fastify.display-name')]: 'session' },
);

/** The session of one request. */
class Session {
  readonly #counters: Counters;
  readonly #request: FastifyRequest;
  readonly #reply: FastifyReply;
  readonly #secure: boolean;
  /** With this prefix a browser takes the cookie over https only, for this host only, so no subdomain can plant one. */
  readonly #name: '__Host-sid' | 'sid';
  #id: string | undefined;

  constructor(counters: Counters, request: FastifyRequest, reply: FastifyReply) {
    this.#counters = counters;
    this.#request = request;
    this.#reply = reply;
    this.#secure = request.protocol === 'https';
    this.#name = this.#secure ? '__Host-sid' : 'sid';
    const sent = request.cookies[this.#name];
    this.#id = sent !== undefined && ID_SHAPE.test(sent) ? sent : undefined;
  }

  /**
   * Counts this greeting. A visitor without a session, or with an id that the counters do not know, gets a new session
   * and its cookie: an id from outside is never adopted.
   *
   * @returns the count, 1 in a new session
   * @throws {CountersUnavailable} within a second; the cookie stays as it is
   */
  async increment(): Promise<number> {
    const deadline = performance.now() + PATIENCE;
    if (this.#id !== undefined) {
      const count = await this.#counters.increment(keyOf(this.#id), deadline);
      if (count !== undefined) return count;
    }
    let id = '';
    await this.#counters.start(() => keyOf((id = randomBytes(ID_BYTES).toString('base64url'))), deadline);
    this.#id = id;
    this.#reply.setCookie(this.#name, id, this.#attributes);
    return 1;
  }

  /**
   * Ends the session: its count is gone, and so is the cookie, if the request carried one.
   *
   * @throws {CountersUnavailable} within a second; the cookie stays as it is
   */
  async end(): Promise<void> {
    if (this.#id !== undefined) await this.#counters.end(keyOf(this.#id), performance.now() + PATIENCE);
    this.#id = undefined;
    if (this.#request.cookies[this.#name] !== undefined) this.#reply.clearCookie(this.#name, this.#attributes);
  }

  get #attributes(): CookieSerializeOptions {
    return { path: '/', httpOnly: true, sameSite: 'lax', secure: this.#secure };
  }
}

/** The key is a digest: whoever reads the store learns no id from it, and a look-up leaks nothing through timing. */
function keyOf(id: string): string {
  return createHash('sha256').update(id).digest('base64url').slice(0, 32);
}
