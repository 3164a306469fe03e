import fastify, { LogController, type FastifyError, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Config } from './config.ts';
import { CountersUnavailable, type Counters } from './counters/counters.ts';
import { drainOnClose } from './drain.ts';
import { gate, sendLine, TEXT } from './gate.ts';
import { preparePage } from './page.ts';
import { session } from './session.ts';

const HTML = 'text/html; charset=utf-8';

/** Where log lines go when a person reads them: each is a JSON object, as on standard output. */
export interface Terminal {
  write(line: string): void;
}

/**
 * Builds the app, to listen or to be asked by `inject`. It opens the counters, and closes them with itself.
 *
 * @param terminal takes the log instead of standard output
 */
export function buildApp(config: Config, counters: Counters, terminal?: Terminal) {
  const { onHeroku, dyno, memcached, logLevel } = config;
  const isDebugging = ['debug', 'trace'].includes(logLevel);
  const hasAnswered = gate(config);
  const page = preparePage({ dyno, store: memcached ? 'memcached' : 'memory', onHeroku });
  const app = fastify({
    logger: { level: logLevel, ...(terminal && { stream: terminal }) },
    // Heroku's router logs each request, with its dyno. A person wants to see what changes.
    logController: new LogController({ disableRequestLogging: !isDebugging && (onHeroku || terminal !== undefined) }),
    // For request.protocol. Nothing uses what other forwarding headers say.
    trustProxy: onHeroku,
    // Heroku's router reuses a connection for up to 90 s; whoever closes it first loses the request on its way.
    keepAliveTimeout: 95_000,
    // How long the headers, and the whole of a request, may take to arrive. Node.js looks every 5 s for what is late,
    // and swaps the two if the first is longer. A request here is a few hundred bytes.
    http: { headersTimeout: 10_000, connectionsCheckingInterval: 5000 },
    requestTimeout: 10_000,
    // HEAD would run the handler of GET, which counts.
    exposeHeadRoutes: false,
    return503OnClosing: false,
    // For a malformed path Fastify runs no hook, not even the one that tells the client of a close.
    frameworkErrors: (_error, request, reply) => void hasAnswered(request, reply.header('connection', 'close')),
  });

  drainOnClose(app);
  app.addHook('onRequest', (request, reply, done) => {
    if (!hasAnswered(request, reply)) done();
  });
  app.register(session, { counters });

  app.get('/', async (request, reply) => {
    // Structured like "prefetch;prerender". A browser asks again when the visitor really comes.
    if (request.headers['sec-purpose']?.toString().startsWith('prefetch')) {
      return sendLine(reply, 503, 'A greeting counts only when the visitor really comes');
    }
    const count = await request.session.increment();
    if (!wantsPage(request)) return `Hello #${count}\n`;
    const greeting = page.greeting(count);
    // When the last byte has been handed to the system, or nobody is left to send it to.
    reply.raw.once('close', () => page.reuse(greeting));
    return reply.type(HTML).send(greeting);
  });

  app.head('/', (request, reply) => {
    reply.type(wantsPage(request) ? HTML : TEXT).send();
  });

  app.post('/', { bodyLimit: 1024, onRequest: takeAnyBody }, async (request, reply) => {
    if (request.headers['sec-fetch-site'] === 'cross-site') {
      return sendLine(reply, 403, 'A session can be ended from its own page only');
    }
    await request.session.end();
    return reply.redirect('/', 303);
  });

  app.setErrorHandler((error: FastifyError, request, reply) => {
    if (error instanceof CountersUnavailable) {
      reply.header('retry-after', '1');
      if (!wantsPage(request)) return sendLine(reply, 503, error.message);
      return reply.code(503).header('refresh', '2').type(HTML).send(page.waiting(error.code));
    }
    const { statusCode = 500, message } = error;
    if (statusCode < 500) return sendLine(reply, statusCode, message);
    request.log.error(error, `${request.method} ${String(request.routeOptions.url)} failed`);
    return sendLine(reply, 500, 'Something went wrong here; it is in the log');
  });
  return app;
}

/** Fastify reads only bodies of types that it knows, and text is one; the body is ignored. */
function takeAnyBody(request: FastifyRequest, _reply: FastifyReply, done: () => void): void {
  request.headers = { 'content-type': 'text/plain' };
  done();
}

function wantsPage(request: FastifyRequest): boolean {
  return /\btext\/html\b/i.test(request.headers.accept ?? '');
}
