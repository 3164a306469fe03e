// The gate: what every request meets first. It sets the headers that all answers of the app carry, and answers requests that no
// handler should see: plain http on Heroku, another path, another method.

import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Config } from './config.ts';
import { contentSecurityPolicy } from './page.ts';

export const TEXT = 'text/plain; charset=utf-8';
const METHODS = ['GET', 'HEAD', 'POST'];
/** The path `/`, with or without a query. Fastify's router would also accept `*` and `/#x`. */
const HOME = /^\/(\?|$)/;

/**
 * Creates an `onRequest` hook, which answers a request or calls `done`. For a malformed path app.ts calls it without `done`: it
 * always answers that.
 */
export function createGate({ onHeroku, dyno }: Config) {
  const headers = {
    'cache-control': 'no-store',
    vary: 'Accept',
    'x-dyno': dyno,
    'content-security-policy': contentSecurityPolicy,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
  };
  return (request: FastifyRequest, reply: FastifyReply, done?: () => void): void => {
    reply.headers(headers);
    const protocol = onHeroku ? forwardedProtocol(request.headers) : undefined;
    if (protocol === 'https') reply.header('strict-transport-security', 'max-age=31536000');

    const target = originForm(request.url);
    if (protocol === 'http') return redirectToHttps(request, reply, target);
    if (!HOME.test(target)) return sendNotFound(reply);
    if (!METHODS.includes(request.method))
      return void sendLine(reply.header('allow', METHODS.join(', ')), 405, 'Only GET, HEAD and POST work here');
    // Fastify has no route for a URL of another scheme, such as ftp://a/, or for a malformed one, such as http://%/.
    if (request.is404) return sendNotFound(reply);
    done?.();
  };
}

export function sendLine(reply: FastifyReply, status: number, line: string): FastifyReply {
  return reply.code(status).type(TEXT).send(`${line}\n`);
}

/**
 * The protocol by which Heroku's router received a request, in lower case; undefined if there was no router. A client may send
 * this header too, and then the router appends to it: the last entry is the router's. `request.protocol` would not do, since
 * Fastify ignores trustProxy for a malformed path.
 */
function forwardedProtocol(headers: IncomingHttpHeaders): string | undefined {
  return headers['x-forwarded-proto']?.toString().replace(/.*,/, '').trim().toLowerCase();
}

/** Sends a request to its own address on https, by its Host header and never by X-Forwarded-Host. */
function redirectToHttps({ headers: { host } }: FastifyRequest, reply: FastifyReply, target: string): void {
  // HTTP/1.0 allows requests without one.
  if (!host) return void sendLine(reply, 400, 'The request needs a Host header');
  // A target such as * would become part of the host.
  reply.redirect(`https://${host}${target.startsWith('/') ? target : '/'}`, 308);
}

function sendNotFound(reply: FastifyReply): void {
  sendLine(reply, 404, 'There is nothing at this address');
}

/** The path and query of a URL, which may be absolute (RFC 9112, 3.2.1 and 3.2.2). */
function originForm(url: string): string {
  return url.replace(/^\w+:\/\/[^/?#]*\/?/, '/');
}
