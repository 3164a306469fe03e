// The gate: what every request meets first. It sets the headers that all answers carry, and answers requests that no
// handler should see: plain http on Heroku, another path, another method.

import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Config } from './config.ts';
import { policy } from './page.ts';

export const TEXT = 'text/plain; charset=utf-8';
const METHODS = ['GET', 'HEAD', 'POST'];
/** The path `/`, with or without a query. Fastify's router takes `*` and `/#x` for that path as well. */
const HOME = /^\/(\?|$)/;

/**
 * Makes the gate: it answers a request itself, or calls `admit`. As Fastify's `onRequest` hook it is given `done` for that;
 * for a malformed path, for which Fastify runs no hook, it is given nothing, and always answers.
 */
export function gate({ onHeroku, dyno }: Config) {
  const headers = {
    'cache-control': 'no-store',
    vary: 'Accept',
    'x-dyno': dyno,
    'content-security-policy': policy,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
  };
  return (request: FastifyRequest, reply: FastifyReply, admit?: () => void): void => {
    reply.headers(headers);
    const protocol = onHeroku ? forwardedProtocol(request.headers) : undefined;
    // In lower case for request.protocol as well, by which the session decides whether its cookie is secure.
    if (protocol) request.headers['x-forwarded-proto'] = protocol;
    if (protocol === 'https') reply.header('strict-transport-security', 'max-age=31536000');

    const path = pathOf(request.url);
    if (protocol === 'http') return redirect(request, reply, path);
    if (!HOME.test(path)) return nothingHere(reply);
    if (!METHODS.includes(request.method)) return otherMethod(reply);
    // Fastify has no route for a URL of another scheme, such as ftp://a/, or for a malformed one, such as http://%/.
    if (request.is404) return nothingHere(reply);
    admit?.();
  };
}

export function sendLine(reply: FastifyReply, status: number, line: string): FastifyReply {
  return reply.code(status).type(TEXT).send(`${line}\n`);
}

/**
 * The protocol by which Heroku's router received a request; undefined if there was no router. Of several entries the
 * router's is the last. `request.protocol` says the same, but not for a malformed path, and not always in lower case.
 */
function forwardedProtocol(headers: IncomingHttpHeaders): string | undefined {
  return headers['x-forwarded-proto']?.toString().replace(/.*,/, '').trim().toLowerCase();
}

/** Sends a request to its own address on https. Only the Host header tells which host that is. */
function redirect({ headers: { host } }: FastifyRequest, reply: FastifyReply, path: string): void {
  // HTTP/1.0 allows requests without one.
  if (!host) sendLine(reply, 400, 'The request needs a Host header');
  // A path that does not begin with / would become part of the host.
  else reply.redirect(`https://${host}${path.startsWith('/') ? path : '/'}`, 308);
}

function nothingHere(reply: FastifyReply): void {
  sendLine(reply, 404, 'There is nothing at this address');
}

function otherMethod(reply: FastifyReply): void {
  sendLine(reply.header('allow', METHODS.join(', ')), 405, 'Only GET, HEAD and POST work here');
}

/** The path and query of a request's target, which may be an absolute URL (RFC 9112, 3.2.2). */
function pathOf(target: string): string {
  return target.replace(/^\w+:\/\/[^/?#]*\/?/, '/');
}
