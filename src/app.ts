import fastify, { type FastifyError, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Config } from './config.js';
import { CountersUnavailable, type Counters } from './counters/counters.js';
import { drainOnClose } from './drain.js';
import { policy, render } from './page.js';
import { session } from './session.js';

const TEXT = 'text/plain; charset=utf-8';
const HTML = 'text/html; charset=utf-8';

/** Builds the app, to listen or to be asked by `inject`. It opens the counters, and closes them with itself. */
export function buildApp({ onHeroku, dyno, logLevel }: Config, counters: Counters) {
  // Made for its logger alone, so that the app below can log also where Fastify is to know of none.
  const { log } = fastify({ logger: { level: logLevel } });
  const app = fastify({
    // Heroku's router logs every request, with its dyno. To Fastify the app has no logger then, so none costs it anything.
    ...(!onHeroku && { loggerInstance: log }),
    // For request.protocol: Heroku's router always sets X-Forwarded-Proto. Of the other headers nothing is used.
    trustProxy: onHeroku,
    // Heroku's router reuses a connection for up to 90 s; whoever closes it first loses the request on its way.
    keepAliveTimeout: 95_000,
    // By then Heroku's router has given up.
    requestTimeout: 30_000,
    // HEAD would run the handler of GET, which counts.
    exposeHeadRoutes: false,
    return503OnClosing: false,
    // For a malformed path Fastify runs no hook, also not the one that tells the client of a close.
    frameworkErrors: (_error, request, reply) => receive(request, reply.header('connection', 'close')),
  });
  const headers = {
    'cache-control': 'no-store',
    vary: 'Accept',
    'x-dyno': dyno,
    'content-security-policy': policy,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
  };

  /** What every request meets first, also one that no route takes. */
  function receive(request: FastifyRequest, reply: FastifyReply): void {
    reply.headers(headers);
    // Whatever body comes is read and forgotten, also of a malformed type, which Fastify would refuse.
    if (request.method === 'POST') delete request.headers['content-type'];
    // As a path, also where the client sent an absolute URL (RFC 9112, 3.2.2).
    const target = request.url.replace(/^[a-z][a-z\d+.-]*:\/\/[^/?#]*/i, '');
    // Not by request.protocol, which for a malformed path trusts nobody.
    const protocol = onHeroku ? request.headers['x-forwarded-proto'] : undefined;
    if (protocol === 'https') reply.header('strict-transport-security', 'max-age=31536000');
    if (protocol === 'http') reply.redirect(`https://${request.headers.host ?? ''}${target}`, 308);
    // To Fastify's router `*` and `/#x` are `/`.
    else if (!/^\/?(\?|$)/.test(target)) say(reply, 404, 'There is nothing at this address');
    else if (request.is404) say(reply.header('allow', 'GET, HEAD, POST'), 405, 'Only GET, HEAD and POST work here');
  }

  app.log = log;
  drainOnClose(app);
  app.addHook('onRequest', (request, reply, done) => {
    receive(request, reply);
    if (!reply.sent) done();
  });
  app.register(session, { counters });

  app.get('/', async (request, reply) => {
    // Structured like "prefetch;prerender". A browser asks again when the visitor really comes.
    if (request.headers['sec-purpose']?.toString().startsWith('prefetch')) {
      return say(reply, 503, 'A greeting counts only when the visitor really comes');
    }
    const count = await request.session.increment();
    if (!wantsPage(request)) return `Hello #${count}\n`;
    return reply.type(HTML).send(render({ count: String(count), dyno, line: `Answered by ${dyno}` }));
  });

  app.head('/', (request, reply) => {
    reply.type(wantsPage(request) ? HTML : TEXT).send();
  });

  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, _body, done) => done(null));
  app.post('/', { bodyLimit: 1024 }, async (request, reply) => {
    if (request.headers['sec-fetch-site'] === 'cross-site') {
      return say(reply, 403, 'A session can be ended from its own page only');
    }
    await request.session.end();
    return reply.redirect('/', 303);
  });

  app.setErrorHandler((error: FastifyError, request, reply) => {
    if (error instanceof CountersUnavailable) {
      const line = error.warmingUp
        ? 'The session store is warming up, which takes a few minutes after a deploy.'
        : 'The session store cannot be reached just now. Your count is safe.';
      reply.header('retry-after', '1');
      if (!wantsPage(request)) return say(reply, 503, line);
      return reply
        .code(503)
        .header('refresh', '2')
        .type(HTML)
        .send(render({ count: '…', line: `${line} This page tries again by itself.` }));
    }
    const { statusCode = 500, message } = error;
    if (statusCode < 500) return say(reply, statusCode, message);
    app.log.error(error);
    return say(reply, 500, 'Something went wrong here; it is in the log');
  });
  return app;
}

function wantsPage(request: FastifyRequest): boolean {
  return /\btext\/html\b/i.test(request.headers.accept ?? '');
}

function say(reply: FastifyReply, status: number, line: string): FastifyReply {
  return reply.code(status).type(TEXT).send(`${line}\n`);
}
