import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';
import { createConnection, type AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { FastifyInstance } from 'fastify';
import type { Test } from 'tap';
import { buildApp } from '../../src/app.ts';
import { readConfig } from '../../src/config.ts';
import { Recorder } from './recorder.ts';

export const HEROKU = { DYNO: 'web.3', COUNTERS: 'memory' };
export const HTTPS = { 'x-forwarded-proto': 'https' };
export const PAGE = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };
/** Shaped like an id, and known to nobody. */
export const FORGED = 'sid=AAAAAAAAAAAAAAAAAAAAAAAA';

export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly reqId?: string;
  readonly err?: { readonly message: string; readonly stack: string };
}

interface Answer {
  readonly statusCode: number;
  readonly headers: IncomingHttpHeaders | OutgoingHttpHeaders;
  readonly body: string;
}

/**
 * Builds the app as it runs on a dyno or on a developer's machine. Its counters write down what they are asked.
 *
 * @param extend adds what another plugin would add
 */
export async function build(
  t: Test,
  env: Record<string, string> = {},
  extend: (app: FastifyInstance) => void = () => undefined,
): Promise<{ app: FastifyInstance; counters: Recorder; log: LogLine[] }> {
  const counters = new Recorder();
  const log: LogLine[] = [];
  const app = buildApp(readConfig(env), counters, { write: (line) => log.push(JSON.parse(line) as LogLine) });
  extend(app);
  t.teardown(() => app.close());
  await app.ready();
  counters.heard();
  return { app, counters, log };
}

/** Makes an app listen. Gives its port, and a function that sends a request as it stands. */
export async function listen(
  app: FastifyInstance,
): Promise<{ port: number; send: (request: string, fields?: string, body?: string) => Promise<Answer> }> {
  await app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = app.server.address() as AddressInfo;
  return {
    port,
    send: async (request, fields = '', body = '') => {
      const socket = createConnection(port, '127.0.0.1').setEncoding('latin1');
      socket.write(`${request}\r\n${fields}Connection: close\r\n\r\n${body}`);
      const [head = '', ...rest] = (await text(socket)).split('\r\n\r\n');
      const lines = [...head.matchAll(/^([\w-]+): ([^\r]*)/gm)];
      const headers = Object.fromEntries(lines.map(([, name = '', value]) => [name.toLowerCase(), value]));
      return { statusCode: Number(head.split(' ')[1]), headers, body: rest.join('') };
    },
  };
}

/** Checks what every answer carries. */
export function checkHeaders(t: Test, headers: Answer['headers'], { https = false } = {}): void {
  t.match(headers, {
    'content-security-policy':
      /^default-src 'none'; style-src 'sha256-[\w+/]{43}='; script-src 'sha256-[\w+/]{43}='; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$/,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
  });
  t.equal(headers['strict-transport-security'], https ? 'max-age=31536000' : undefined);
}

/** Checks an error: one line of plain text that shows nothing of what is inside. The cookie stays as it is. */
export function checkRefusal(
  t: Test,
  answer: Answer,
  status: number,
  what: string,
  { https = false, isHead = false } = {},
): void {
  t.equal(answer.statusCode, status, what);
  t.equal(answer.headers['set-cookie'], undefined, what);
  t.equal(answer.headers['content-type'], 'text/plain; charset=utf-8');
  t.match(answer.body, isHead ? /^$/ : /^[A-Z][^\n<>{}]+\n$/);
  t.notMatch(answer.body, /secret|error|[\w-]{24}/i);
  checkHeaders(t, answer.headers, { https });
}
