import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';
import { createConnection, type AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify';
import { test, type Test } from 'tap';
import { buildApp } from '../src/app.js';
import { configOf } from './support/config.js';
import { Recorder, unavailable } from './support/recorder.js';

const HTTPS = { 'x-forwarded-proto': 'https' };
const PAGE = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };
/** Shaped like an id, and known to nobody. */
const FORGED = 'sid=AAAAAAAAAAAAAAAAAAAAAAAA';

/** The app as it runs on a dyno, or on a developer's machine, on counters that write down what they are asked. */
async function build(t: Test, env: Record<string, string> = {}): Promise<{ app: FastifyInstance; counters: Recorder }> {
  const counters = new Recorder();
  const app = buildApp(configOf({ LOG_LEVEL: 'silent', ...env }), counters);
  t.teardown(() => app.close());
  await app.ready();
  counters.heard();
  return { app, counters };
}

const HEROKU = { DYNO: 'web.3', COUNTERS: 'memory' };

/** Makes an app listen. `send` sends a request as it stands, and gives the answer in its parts. */
async function listen(app: FastifyInstance): Promise<{ port: number; send: Send }> {
  await app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = app.server.address() as AddressInfo;
  return {
    port,
    send: async (request, fields = '', body = '') => {
      const socket = createConnection(port, '127.0.0.1').setEncoding('latin1');
      socket.write(`${request}\r\n${fields}Connection: close\r\n\r\n${body}`);
      const [head = '', ...rest] = (await text(socket)).split('\r\n\r\n');
      const lines = [...head.matchAll(/^([\w-]+): ([^\r]*)/gm)].map(([, name = '', value]) => [
        name.toLowerCase(),
        value,
      ]);
      const headers = Object.fromEntries(lines) as IncomingHttpHeaders;
      return { status: Number(head.split(' ')[1]), headers, body: rest.join('') };
    },
  };
}

type Send = (
  request: string,
  fields?: string,
  body?: string,
) => Promise<{ status: number; headers: IncomingHttpHeaders; body: string }>;

function cookieOf(response: LightMyRequestResponse): string {
  return String(response.headers['set-cookie']).replace(/;.*/, '');
}

/** The heading, as it is read out. */
function headingOf(page: string): string {
  const [, heading = ''] = /<h1[^>]*>([^]*?)<\/h1>/.exec(page) ?? [];
  return heading.replace(/<[^>]*>/g, '').trim();
}

/** Checks what every answer carries. */
function carriesHeaders(t: Test, headers: OutgoingHttpHeaders | IncomingHttpHeaders, { https = false } = {}): void {
  t.match(headers, {
    'content-security-policy':
      /^default-src 'none'; style-src 'sha256-[\w+/]{43}='; script-src 'sha256-[\w+/]{43}='; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$/,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'strict-transport-security': https ? 'max-age=31536000' : undefined,
  });
}

/** Checks an error: one line of plain text that shows nothing of what is inside. */
function isOneLine(t: Test, headers: OutgoingHttpHeaders | IncomingHttpHeaders, body: string): void {
  t.equal(headers['content-type'], 'text/plain; charset=utf-8');
  t.match(body, /^(?!.*(secret|error|[\w-]{24}))[A-Z][^\n<>{}]+\n$/i);
}

await test('a visitor is greeted with a count that goes up', async (t) => {
  const { app } = await build(t);
  const first = await app.inject('/');
  t.equal(first.statusCode, 200);
  t.equal(first.headers['content-type'], 'text/plain; charset=utf-8');
  t.equal(first.body, 'Hello #1\n');
  for (let count = 2; count <= 12; count += 1) {
    const next = await app.inject({ url: '/', headers: { cookie: cookieOf(first) } });
    t.match(next, { body: `Hello #${count}\n`, headers: { 'set-cookie': undefined } }, 'the cookie is set once');
  }
  t.equal((await app.inject('/')).body, 'Hello #1\n', 'another visitor begins at 1');
  t.equal((await app.inject({ url: '/?from=mail&%ff=%', headers: { cookie: cookieOf(first) } })).body, 'Hello #13\n');
});

await test('a request whose Accept names text/html gets the page', async (t) => {
  const { app } = await build(t, HEROKU);
  for (const accept of ['text/html', 'TEXT/HTML;charset=utf-8', PAGE.accept, 'text/plain, text/html;level=1']) {
    const { statusCode, headers, body } = await app.inject({ url: '/', headers: { accept, ...HTTPS } });
    t.equal(statusCode, 200, accept);
    t.equal(headers['content-type'], 'text/html; charset=utf-8', accept);
    t.equal(headingOf(body), 'Hello #1');
    t.match(body, /^<!doctype html>\s*<html lang="en">/i);
    t.match(body, /web\.3/, 'the page says which dyno answered');
    t.match(body, /<form method="post"[^]*<button>\s*Start over\s*<\/button>[^]*<\/form>/);
    t.notMatch(body, /\{\{/, 'nothing is left to be filled in');
  }
  for (const accept of ['*/*', 'text/*', 'application/json', 'text/htmlx', '']) {
    t.equal((await app.inject({ url: '/', headers: { accept, ...HTTPS } })).body, 'Hello #1\n', accept);
  }
});

await test('the policy allows exactly the style and the script of the page', async (t) => {
  const { app } = await build(t);
  const { headers, body } = await app.inject({ url: '/', headers: PAGE });
  for (const element of ['style', 'script']) {
    const [one, ...others] = [...body.matchAll(new RegExp(`<${element}[^>]*>([^]*?)</${element}>`, 'g'))];
    t.strictSame(others, []);
    const hash = createHash('sha256')
      .update(one?.[1] ?? 'none')
      .digest('base64');
    t.match(headers['content-security-policy'], `${element}-src 'sha256-${hash}'`);
  }
  t.notMatch(body, /\s(style|on[a-z]+)=/, 'no attribute needs a policy that allows more');
});

await test("a dyno's name cannot break the page", async (t) => {
  const { app } = await build(t, { ...HEROKU, DYNO: `<b>"&'web.1` });
  const { body } = await app.inject({ url: '/', headers: { ...PAGE, ...HTTPS } });
  t.notMatch(body, `<b>"`);
  t.match(body, '&#60;b&#62;&#34;&#38;&#39;web.1');
});

await test('HEAD gives the headers of GET, and counts nothing', async (t) => {
  const { app, counters } = await build(t, HEROKU);
  const cookie = `__Host-${cookieOf(await app.inject({ url: '/' }))}`;
  counters.heard();
  for (const headers of [{}, PAGE, HTTPS, { ...PAGE, ...HTTPS }, { cookie, ...HTTPS }, { cookie: FORGED }]) {
    const head = await app.inject({ method: 'HEAD', url: '/', headers });
    t.equal(head.statusCode, 200);
    t.equal(head.body, '');
    t.notOk('content-length' in head.headers);
    t.notOk('set-cookie' in head.headers);
    t.strictSame(counters.heard(), []);
    const {
      date,
      'content-length': length,
      'set-cookie': set,
      ...others
    } = (await app.inject({ url: '/', headers })).headers;
    t.ok(date && length && (set ?? cookie));
    counters.heard();
    t.strictSame({ ...head.headers, date: undefined }, { ...others, date: undefined });
  }
  counters.failure = unavailable();
  t.equal((await app.inject({ method: 'HEAD', url: '/' })).statusCode, 200, 'also while the store is away');
});

await test('a prefetch counts nothing', async (t) => {
  const { app, counters } = await build(t);
  for (const purpose of ['prefetch', 'prefetch;prerender', 'prefetch; prerender', 'prefetch;anonymous-client-ip']) {
    const headers = { 'sec-purpose': purpose, cookie: FORGED, ...PAGE };
    const response = await app.inject({ url: '/', headers });
    t.equal(response.statusCode, 503, purpose);
    t.equal(response.headers['cache-control'], 'no-store');
    t.notOk(response.headers['set-cookie']);
    carriesHeaders(t, response.headers);
    isOneLine(t, response.headers, response.body);
  }
  t.strictSame(counters.heard(), []);
  t.equal((await app.inject({ url: '/', headers: { 'sec-purpose': 'something-else' } })).body, 'Hello #1\n');
});

await test('POST ends the session', async (t) => {
  for (const [env, headers, name, secure] of [
    [{}, {}, 'sid', ''],
    [HEROKU, HTTPS, '__Host-sid', ' Secure;'],
  ] as const) {
    const { app, counters } = await build(t, env);
    const cookie = cookieOf(await app.inject({ url: '/', headers }));
    await app.inject({ url: '/', headers: { ...headers, cookie } });
    const ended = await app.inject({ method: 'POST', url: '/', headers: { ...headers, cookie } });
    t.equal(ended.statusCode, 303);
    t.equal(ended.headers.location, '/');
    t.equal(ended.body, '');
    t.equal(
      ended.headers['set-cookie'],
      `${name}=; Max-Age=0; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly;${secure} SameSite=Lax`,
      'the cookie goes, by the attributes that it was set with',
    );
    t.strictSame(counters.heard(), ['start', 'increment', 'end']);
    t.equal((await app.inject({ url: '/', headers: { ...headers, cookie } })).body, 'Hello #1\n', 'the count is gone');
  }
});

await test('POST clears no cookie that the request does not carry', async (t) => {
  const { app, counters } = await build(t);
  for (const cookie of ['', 'theme=dark', '__Host-sid=AAAAAAAAAAAAAAAAAAAAAAAA']) {
    const response = await app.inject({ method: 'POST', url: '/', headers: { cookie } });
    t.equal(response.statusCode, 303);
    t.notOk(response.headers['set-cookie'], cookie);
  }
  const junk = await app.inject({ method: 'POST', url: '/', headers: { cookie: 'sid=junk' } });
  t.match(junk.headers['set-cookie'], /^sid=; Max-Age=0/, 'but one that is no id');
  t.strictSame(counters.heard(), [], 'for which the store is not asked');
});

await test('POST takes a body of up to 1 KB of any type, and ignores it', async (t) => {
  const { app, counters } = await build(t);
  const bodies: [string | undefined, string][] = [
    ['application/x-www-form-urlencoded', 'a=b&sid=x'],
    ['application/json', '{{{'],
    ['application/json', ''],
    ['multipart/form-data', 'no boundary'],
    ['text/plain; charset=nonsense', 'x'.repeat(1024)],
    ['this is no type', 'x'],
    ['%%%', 'x'],
    ['', 'x'],
    [undefined, 'x'],
    [undefined, ''],
    ['application/octet-stream', '\0\xff'],
  ];
  for (const [type, payload] of bodies) {
    const headers = { cookie: FORGED, ...(type === undefined ? {} : { 'content-type': type }) };
    const response = await app.inject({ method: 'POST', url: '/', headers, payload });
    t.equal(response.statusCode, 303, `${type ?? 'no type'} ${payload.slice(0, 10)}`);
    t.strictSame(counters.heard(), ['end']);
  }
  for (const type of ['application/json', 'text/plain', '%%%']) {
    const headers = { cookie: FORGED, 'content-type': type };
    const response = await app.inject({ method: 'POST', url: '/', headers, payload: 'x'.repeat(1025) });
    t.equal(response.statusCode, 413);
    t.notOk(response.headers['set-cookie']);
    carriesHeaders(t, response.headers);
    isOneLine(t, response.headers, response.body);
    t.strictSame(counters.heard(), [], 'nothing ends');
  }
});

await test('a POST from another site ends nothing', async (t) => {
  const { app, counters } = await build(t);
  const cookie = cookieOf(await app.inject('/'));
  counters.heard();
  const form = { 'content-type': 'application/x-www-form-urlencoded' };
  const post = (site: string): InjectOptions => ({
    method: 'POST',
    url: '/',
    headers: { cookie, 'sec-fetch-site': site, ...form },
    payload: 'a=b',
  });
  const refused = await app.inject(post('cross-site'));
  t.equal(refused.statusCode, 403);
  t.notOk(refused.headers['set-cookie']);
  carriesHeaders(t, refused.headers);
  isOneLine(t, refused.headers, refused.body);
  t.strictSame(counters.heard(), []);
  t.equal((await app.inject({ url: '/', headers: { cookie } })).body, 'Hello #2\n');
  for (const site of ['same-origin', 'same-site', 'none']) {
    t.equal((await app.inject(post(site))).statusCode, 303, site);
  }
});

await test('what the network can say and a well-behaved client does not', async (t) => {
  const { app, counters } = await build(t);
  const { port, send } = await listen(app);
  const host = 'Host: a.example\r\n';
  const cookie = `Cookie: ${FORGED}\r\n`;

  await t.test('another method on / is refused, with whatever body', async (t) => {
    const bodies = [
      ['', ''],
      ['Content-Type: application/json\r\nContent-Length: 3\r\n', '{{{'],
      ['Content-Type: %%%\r\nContent-Length: 3\r\n', 'abc'],
      ['Transfer-Encoding: chunked\r\n', '3\r\nabc\r\n0\r\n\r\n'],
      ['Content-Length: 20000\r\n', 'x'.repeat(20_000)],
    ] as const;
    const methods = [
      'PUT',
      'PATCH',
      'DELETE',
      'OPTIONS',
      'TRACE',
      'PROPFIND',
      'QUERY',
      'PURGE',
      'LOCK',
      'SEARCH',
      'M-SEARCH',
    ];
    for (const method of methods) {
      for (const [fields, body] of bodies) {
        const answer = await send(`${method} / HTTP/1.1`, host + cookie + fields, body);
        t.equal(answer.status, 405, `${method} ${fields}`);
        t.equal(answer.headers.allow, 'GET, HEAD, POST');
        t.notOk(answer.headers['set-cookie']);
        t.match(answer.headers, { 'cache-control': 'no-store', vary: 'Accept', 'x-dyno': 'local' });
        carriesHeaders(t, answer.headers);
        isOneLine(t, answer.headers, answer.body);
      }
    }
    t.equal((await send('PUT /?a=b HTTP/1.1', host)).status, 405);
    t.equal((await send('PUT http://a.example/ HTTP/1.1', host)).status, 405, 'the same address as an absolute URL');
    t.strictSame(counters.heard(), []);
  });

  await t.test('another path is not found, also a malformed one', async (t) => {
    const paths = [
      ...[
        '/favicon.ico',
        '/index.html',
        '//',
        '//evil.example/',
        '/.',
        '/..',
        '/;a',
        '/%2f',
        '/\\',
        '/%20',
        '/a/b?c=d',
      ],
      ...[
        '/%',
        '/%zz',
        '/%ff',
        '/%E0%A4%A',
        '/%00',
        '/a%',
        '*',
        '*?a',
        '/#a',
        'http://a.example/a',
        'http://a.example/%',
      ],
    ];
    for (const path of paths) {
      for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'OPTIONS', 'PROPFIND']) {
        const answer = await send(`${method} ${path} HTTP/1.1`, host + cookie);
        t.equal(answer.status, 404, `${method} ${path}`);
        t.notOk(answer.headers['set-cookie'], 'the cookie stays as it is');
        carriesHeaders(t, answer.headers);
        if (method !== 'HEAD') isOneLine(t, answer.headers, answer.body);
      }
    }
    t.strictSame(counters.heard(), []);
  });

  await t.test('HTTP/1.0, absolute URLs and bodies with GET are well', async (t) => {
    t.match(await send('GET / HTTP/1.0'), { status: 200, body: 'Hello #1\n' });
    t.match(await send('GET http://a.example/ HTTP/1.1', host), { status: 200, body: 'Hello #1\n' });
    t.match(await send('GET http://a.example HTTP/1.1', host), { status: 200, body: 'Hello #1\n' });
    t.match(await send('GET / HTTP/1.1', `${host}Content-Length: 3\r\n`, 'abc'), { status: 200, body: 'Hello #1\n' });
    t.match(await send('POST / HTTP/1.1', `${host}Expect: 100-continue\r\nContent-Length: 3\r\n`, 'abc'), {
      status: 100,
    });
  });

  await t.test('a body of unknown length is measured as it comes', async (t) => {
    const chunked = `${host}Transfer-Encoding: chunked\r\n`;
    const chunk = (length: number): string => `${length.toString(16)}\r\n${'x'.repeat(length)}\r\n0\r\n\r\n`;
    t.equal((await send('POST / HTTP/1.1', chunked, chunk(1024))).status, 303);
    const refused = await send('POST / HTTP/1.1', chunked, chunk(1025));
    t.equal(refused.status, 413);
    isOneLine(t, refused.headers, refused.body);
  });

  await t.test('an idle connection is kept for longer than the 90 s that the router of Heroku keeps it', async (t) => {
    const response = await fetch(`http://127.0.0.1:${port}/`);
    t.equal(response.headers.get('keep-alive'), 'timeout=95');
    await response.text();
  });
});

await test('on Heroku plain http is sent to https', async (t) => {
  const { app, counters } = await build(t, HEROKU);
  const http = { 'x-forwarded-proto': 'http', host: 'hello.example', cookie: FORGED };
  for (const [method, url] of [
    ['GET', '/'],
    ['HEAD', '/'],
    ['POST', '/'],
    ['PUT', '/'],
    ['GET', '/nothing?a=b%20c'],
    ['GET', '/%'],
    ['GET', '//evil.example/'],
  ] as const) {
    const response = await app.inject({ method, url, headers: { ...http, 'x-forwarded-host': 'evil.example' } });
    t.equal(response.statusCode, 308, `${method} ${url}`);
    t.equal(response.headers.location, `https://hello.example${url}`);
    t.equal(response.headers['cache-control'], 'no-store');
    t.notOk(response.headers['set-cookie']);
    t.equal(response.body, '');
    carriesHeaders(t, response.headers);
  }
  const absolute = await app.inject({ url: 'http://evil.example/a', headers: http });
  t.equal(absolute.headers.location, 'https://hello.example/a', 'by the Host header only');
  const { send } = await listen(app);
  const ancient = await send('GET / HTTP/1.0', `X-Forwarded-Proto: http\r\nCookie: ${FORGED}\r\n`);
  t.equal(ancient.status, 308, 'also where there is no Host, so that nothing goes over plain http');
  t.strictSame(counters.heard(), []);
});

await test('on Heroku a request came over https if the router says so, else over http', async (t) => {
  const { app } = await build(t, HEROKU);
  for (const url of ['/', '/nothing', '/%']) {
    carriesHeaders(t, (await app.inject({ url, headers: HTTPS })).headers, { https: true });
    carriesHeaders(t, (await app.inject({ url, method: 'PUT', headers: HTTPS })).headers, { https: true });
    const plain = await app.inject({ url, headers: { 'x-forwarded-port': '443', forwarded: 'proto=https' } });
    carriesHeaders(t, plain.headers);
    t.not(plain.statusCode, 308, 'no word from the router is no reason to redirect');
  }
});

await test('off Heroku nothing that a client says of forwarding is believed', async (t) => {
  const { app } = await build(t);
  for (const proto of ['http', 'https']) {
    const headers = { 'x-forwarded-proto': proto, 'x-forwarded-host': 'evil.example', 'x-forwarded-for': '192.0.2.1' };
    const response = await app.inject({ url: '/', headers });
    t.equal(response.statusCode, 200, proto);
    t.match(response.headers['set-cookie'], /^sid=[\w-]+; Path=\/; HttpOnly; SameSite=Lax$/);
    carriesHeaders(t, response.headers);
  }
});

await test('every answer of / names its dyno, and is for this visitor only', async (t) => {
  const { app, counters } = await build(t, HEROKU);
  const requests: InjectOptions[] = [
    { method: 'GET', headers: HTTPS },
    { method: 'GET', headers: { ...PAGE, ...HTTPS } },
    { method: 'GET', headers: { 'sec-purpose': 'prefetch' } },
    { method: 'GET', headers: { 'x-forwarded-proto': 'http' } },
    { method: 'HEAD' },
    { method: 'POST' },
    { method: 'POST', headers: { 'sec-fetch-site': 'cross-site' } },
    { method: 'POST', payload: 'x'.repeat(2000) },
    { method: 'PUT' },
  ];
  for (const failure of [undefined, unavailable(), new Error('a secret')]) {
    counters.failure = failure;
    for (const request of requests) {
      const { headers } = await app.inject({ ...request, url: '/' });
      t.match(headers, { 'cache-control': 'no-store', vary: 'Accept', 'x-dyno': 'web.3' });
    }
  }
});

await test('while the store cannot be asked, the visitor is told so in plain words', async (t) => {
  const { app, counters } = await build(t, HEROKU);
  const cookie = cookieOf(await app.inject({ url: '/', headers: HTTPS }));
  for (const [failure, words] of [
    [unavailable(), /Your count is safe/],
    [unavailable(true), /warming up/],
  ] as const) {
    for (const method of ['GET', 'POST'] as const) {
      for (const sent of [{ cookie }, {}, { cookie: '__Host-sid=junk' }]) {
        counters.failure = failure;
        if (method === 'POST' && sent.cookie !== cookie) continue;
        const asText = await app.inject({ method, url: '/', headers: { ...HTTPS, ...sent } });
        t.equal(asText.statusCode, 503);
        t.equal(asText.headers['retry-after'], '1');
        t.notOk(asText.headers.refresh);
        t.notOk(asText.headers['set-cookie'], 'the cookie stays as it is');
        t.match(asText.body, words);
        carriesHeaders(t, asText.headers, { https: true });
        isOneLine(t, asText.headers, asText.body);

        const asPage = await app.inject({ method, url: '/', headers: { ...HTTPS, ...PAGE, ...sent } });
        t.equal(asPage.statusCode, 503);
        t.equal(asPage.headers['retry-after'], '1');
        t.equal(asPage.headers.refresh, '2', 'the page returns by itself without a script');
        t.equal(asPage.headers['content-type'], 'text/html; charset=utf-8');
        t.notOk(asPage.headers['set-cookie']);
        t.match(asPage.body, words);
        t.notMatch(asPage.body, /secret/);
        t.notMatch(headingOf(asPage.body), /\d/, 'no count is made up');
        carriesHeaders(t, asPage.headers, { https: true });
      }
    }
    counters.failure = undefined;
  }
  t.equal((await app.inject({ url: '/', headers: { ...HTTPS, cookie } })).body, 'Hello #2\n', 'the count goes on');
});

await test('an error that nobody foresaw shows nothing of itself', async (t) => {
  const { app, counters } = await build(t);
  counters.failure = new Error('a secret of Memcached at secret.example');
  for (const method of ['GET', 'POST'] as const) {
    const response = await app.inject({ method, url: '/', headers: { cookie: FORGED, ...PAGE } });
    t.equal(response.statusCode, 500);
    t.notOk(response.headers['set-cookie']);
    carriesHeaders(t, response.headers);
    isOneLine(t, response.headers, response.body);
  }
});

await test('two apps in one process know nothing of each other', async (t) => {
  const [one, other] = [await build(t), await build(t, HEROKU)];
  const cookie = cookieOf(await one.app.inject('/'));
  t.equal((await other.app.inject({ url: '/', headers: { cookie } })).body, 'Hello #1\n');
  t.equal((await one.app.inject({ url: '/', headers: { cookie } })).body, 'Hello #2\n');
  await one.app.close();
  t.equal((await other.app.inject('/')).body, 'Hello #1\n');
});

await test('the counters are opened and closed with the app', async (t) => {
  const counters = new Recorder();
  const app = buildApp(configOf({ LOG_LEVEL: 'silent' }), counters);
  t.strictSame(counters.heard(), []);
  await app.ready();
  t.strictSame(counters.heard(), ['open']);
  await app.close();
  t.strictSame(counters.heard(), ['close']);
});
