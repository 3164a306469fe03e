import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Config } from './config.ts';
import { policy } from './page.ts';

export const TEXT = 'text/plain; charset=utf-8';
const METHODS = ['GET', 'HEAD', 'POST'];
/** The path `/`, with a query or without. To Fastify's router `*` and `/#x` are that path as well. */
const HOME = /^\/(\?|$)/;

/**
 * Makes the function that every request meets first, also one that no route takes. It sets the headers that all answers
 * carry, and answers what no handler and no store is to hear of: plain http on Heroku, another path, another method.
 *
 * @returns a function that tells whether it has answered
 */
export function gate({ onHeroku, dyno }: Config): (request: FastifyRequest, reply: FastifyReply) => boolean {
  const headers = {
    'cache-control': 'no-store',
    vary: 'Accept',
    'x-dyno': dyno,
    'content-security-policy': policy,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
  };
  return (request, reply) => {
    reply.headers(headers);
    const protocol = onHeroku ? forwardedProtocol(request) : undefined;
    const path = pathOf(request.url);
    const isHome = HOME.test(path);
    if (protocol === 'https') reply.header('strict-transport-security', 'max-age=31536000');
    if (protocol === 'http') redirect(request, reply, path);
    else if (isHome && !METHODS.includes(request.method)) {
      sendLine(reply.header('allow', METHODS.join(', ')), 405, 'Only GET, HEAD and POST work here');
    } else if (!isHome || request.is404) sendLine(reply, 404, 'There is nothing at this address');
    else return false;
    return true;
  };
}

/** Sends one line of plain text. */
export function sendLine(reply: FastifyReply, status: number, line: string): FastifyReply {
  return reply.code(status).type(TEXT).send(`${line}\n`);
}

/** Sends a request to its own address on https. Only the Host header tells which host that is. */
function redirect({ headers: { host } }: FastifyRequest, reply: FastifyReply, path: string): void {
  // HTTP/1.0 knows requests without one.
  if (!host) sendLine(reply, 400, 'The request needs a Host header');
  // What does not begin with / would become a part of the host.
  else reply.redirect(`https://${host}${path.startsWith('/') ? path : '/'}`, 308);
}

/**
 * The protocol by which Heroku's router received a request; undefined if there was no router. Of several entries the
 * router's is the last. The header keeps this one word, so that `request.protocol`, which decides whether the cookie is
 * secure, always agrees.
 */
function forwardedProtocol({ headers }: FastifyRequest): string | undefined {
  const protocol = headers['x-forwarded-proto']?.toString().split(',').at(-1)?.trim().toLowerCase();
  if (protocol !== undefined) headers['x-forwarded-proto'] = protocol;
  return protocol;
}

/** The path and query of a request's target, which may be an absolute URL (RFC 9112, 3.2.2). */
function pathOf(target: string): string {
  return target.replace(/^[a-z][a-z\d+.-]*:\/\/[^/?#]*\/?/i, '/');
}
