// The app: Fastify with its plugins, what / answers to GET, HEAD and POST, and what errors look like.

import fastify, { LogController, type FastifyError, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Config } from './config.ts';
import { CountersUnavailable, type Counters } from './counters/counters.ts';
import { createGate, sendLine, TEXT } from './gate.ts';
import type { LogStream } from './log.ts';
import { preparePage } from './page.ts';
import { session } from './session.ts';

const HTML = 'text/html; charset=utf-8';

/**
 * Builds the app, to listen or to be tested by `inject`. It opens the counters, and closes them when it closes.
 *
 * @param plainLog takes the log in place of standard output, for a person to read
 */
export function buildApp(config: Config, counters: Counters, plainLog?: LogStream) {
  const { onHeroku, dyno, memcached, logLevel } = config;
  const isDebugging = ['debug', 'trace'].includes(logLevel);
  const gate = createGate(config);
  const page = preparePage({ dyno, store: memcached ? 'memcached' : 'memory', onHeroku });
  const app = fastify({
    logger: { level: logLevel, ...(plainLog && { stream: plainLog }) },
    // Heroku's router logs each request with its dyno, and a person wants to see only what changes.
    logController: new LogController({ disableRequestLogging: !isDebugging && (onHeroku || plainLog !== undefined) }),
    // Makes request.protocol follow X-Forwarded-Proto, which decides whether the session's cookie is secure. The other
    // forwarding headers only reach the debug log.
    trustProxy: onHeroku,
    // Heroku's router reuses a connection for up to 90 s. If this side closed it first, a request on its way would be lost.
    keepAliveTimeout: 95_000,
    // A request here has a few hundred bytes, so 10 s are enough for all of it. Node.js applies the longer of headersTimeout and
    // requestTimeout to the whole request, so both are set. It looks for late requests every 5 s.
    http: { headersTimeout: 10_000, connectionsCheckingInterval: 5000 },
    requestTimeout: 10_000,
    // Otherwise HEAD would run the handler of GET, which counts.
    exposeHeadRoutes: false,
    // For a malformed path Fastify runs no hooks, not even that of shutdown.ts: this calls the gate, and closes the connection.
    frameworkErrors: (_error, request, reply) => gate(request, reply.header('connection', 'close')),
  });

  app.addHook('onRequest', gate);
  app.register(session, { counters });

  app.get('/', async (request, reply) => {
    // The value may be "prefetch;prerender". A browser that is refused asks again when the visitor opens the page.
    if (request.headers['sec-purpose']?.toString().startsWith('prefetch')) {
      return sendLine(reply, 503, 'A prefetch is not counted; the visit itself is');
    }
    const count = await request.session.increment();
    if (!wantsPage(request)) return `Hello #${count}\n`;
    return reply.type(HTML).send(page.greeting(count));
  });

  app.head('/', (request, reply) => {
    reply.type(wantsPage(request) ? HTML : TEXT).send();
  });

  app.post('/', { bodyLimit: 1024, onRequest: takeAnyBody }, async (request, reply) => {
    if (request.headers['sec-fetch-site'] === 'cross-site') {
      return sendLine(reply, 403, 'A session can be ended only from its own page');
    }
    await request.session.end();
    return reply.redirect('/', 303);
  });

  app.setErrorHandler((error: FastifyError, request, reply) => {
    if (error instanceof CountersUnavailable) {
      reply.code(503).header('retry-after', '1');
      if (wantsPage(request)) {
        // Browsers ignore Retry-After.
        return reply.header('refresh', '2').type(HTML).send(page.unavailable(error.code, request.method));
      }
      const ending =
        request.method === 'POST' ? '; nothing was ended yet, but a hung store may still end the session' : '';
      return sendLine(reply, 503, error.message + ending);
    }
    const { statusCode = 500, message } = error;
    if (statusCode < 500) return sendLine(reply, statusCode, message);
    request.log.error(error, `${request.method} / failed`);
    return sendLine(reply, 500, 'Something went wrong; the log says what');
  });
  return app;
}

/** Declares any body to be text, since Fastify refuses types that it does not know. */
function takeAnyBody(request: FastifyRequest, _reply: FastifyReply, done: () => void): void {
  // Fastify's setter adds this to the headers that came, and drops none.
  request.headers = { 'content-type': 'text/plain' };
  done();
}

function wantsPage(request: FastifyRequest): boolean {
  return /\btext\/html\b/i.test(request.headers.accept ?? '');
}
