import { createHash, randomBytes } from 'node:crypto';
import cookie from '@fastify/cookie';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Counters } from './counters/counters.ts';

declare module 'fastify' {
  interface FastifyRequest {
    session: Session;
  }
}

/** The session of one request. Both functions throw `CountersUnavailable` within a second and leave the cookie then. */
export interface Session {
  /** Counts this greeting and gives the count. An unknown id is replaced by a new session's, never adopted. */
  increment(): Promise<number>;
  /** Deletes the count, and the cookie if the request carried one. */
  end(): Promise<void>;
}

/** How long all that a request asks the counters may take, in milliseconds. */
const PATIENCE = 1000;
/** An id is 144 random bits. */
const ID_BYTES = 18;
const ID_SHAPE = /^[\w-]{24}$/;
const ATTRIBUTES = { path: '/', httpOnly: true, sameSite: 'lax' } as const;

/**
 * Fastify plugin: a count per visitor, under a random id in a cookie, as `request.session`. The cookie is a secure one if
 * `request.protocol` says https, for which an app behind a router needs Fastify's `trustProxy`.
 */
export const session = Object.assign(plugin, { [Symbol.for('skip-override')]: true });

async function plugin(app: FastifyInstance, { counters }: { counters: Counters }): Promise<void> {
  if (!app.hasPlugin('@fastify/cookie')) await app.register(cookie);
  app.decorateRequest('session');
  app.addHook('onRequest', (request, reply, done) => {
    request.session = sessionOf(request, reply, counters);
    done();
  });
  app.addHook('onClose', async () => counters.close());
  counters.open(app.log);
}

function sessionOf(request: FastifyRequest, reply: FastifyReply, counters: Counters): Session {
  const secure = request.protocol === 'https';
  // With this prefix no other host, not even a subdomain, can plant the cookie.
  const name = secure ? '__Host-sid' : 'sid';
  const sent = request.cookies[name];
  let id = sent !== undefined && ID_SHAPE.test(sent) ? sent : undefined;
  let last: Promise<unknown> | undefined;

  // One call after the other, so that two first ones do not start two sessions.
  function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = last ? last.then(work, work) : work();
    last = result;
    return result;
  }

  async function increment(deadline: number): Promise<number> {
    const count = id === undefined ? undefined : await counters.increment(keyOf(id), deadline);
    if (count !== undefined) return count;
    ({ id } = await counters.start(drawId, deadline));
    reply.setCookie(name, id, { ...ATTRIBUTES, secure });
    return 1;
  }

  async function end(deadline: number): Promise<void> {
    if (id !== undefined) await counters.end(keyOf(id), deadline);
    id = undefined;
    if (sent !== undefined) reply.clearCookie(name, { ...ATTRIBUTES, secure });
  }

  return {
    increment() {
      const deadline = performance.now() + PATIENCE;
      return inTurn(() => increment(deadline));
    },
    end() {
      const deadline = performance.now() + PATIENCE;
      return inTurn(() => end(deadline));
    },
  };
}

function drawId(): { id: string; key: string } {
  const id = randomBytes(ID_BYTES).toString('base64url');
  return { id, key: keyOf(id) };
}

/** The key is a digest: whoever reads the store learns no id from it, and a look-up leaks nothing through timing. */
function keyOf(id: string): string {
  return createHash('sha256').update(id).digest('base64url').slice(0, 32);
}
