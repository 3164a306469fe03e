import { once } from 'node:events';
import { createConnection } from 'node:net';
import { text } from 'node:stream/consumers';
import type { InjectOptions, LightMyRequestResponse } from 'fastify';
import { test } from 'tap';
import { build, checkHeaders, checkRefusal, FORGED, HEROKU, HTTPS, listen, PAGE } from './support/app.ts';
import { unavailable } from './support/recorder.ts';

function cookieOf(response: LightMyRequestResponse): string {
  return String(response.headers['set-cookie']).replace(/;.*/, '');
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
    t.match(body, /^<!doctype html>\s*<html lang="en">[^]*<title>Hello #1<\/title>/i);
    t.match(body, /web\.3/, 'the page says which dyno answered');
    t.match(body, /<form method="post"[^]*<button[^>]*>\s*Start over\s*<\/button>[^]*<\/form>/);
  }
  for (const accept of ['*/*', 'text/*', 'application/json', 'text/htmlx', '']) {
    t.equal((await app.inject({ url: '/', headers: { accept, ...HTTPS } })).body, 'Hello #1\n', accept);
  }
  for (const [env, words] of [
    [{ COUNTERS: 'memory' }, /Each dyno counts alone here/],
    [{ MEMCACHE_SERVERS: 'localhost' }, /Any dyno may answer/],
  ] as const) {
    const { app } = await build(t, env);
    t.match((await app.inject({ url: '/', headers: PAGE })).body, words, 'the page says where the counts live');
  }
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
    const { headers: all } = await app.inject({ url: '/', headers });
    const { 'content-length': length, 'set-cookie': set, ...others } = all;
    t.ok(length && (set ?? cookie));
    counters.heard();
    t.strictSame({ ...head.headers, date: '' }, { ...others, date: '' });
  }
  counters.failure = unavailable();
  t.equal((await app.inject({ method: 'HEAD', url: '/' })).statusCode, 200, 'also while the store is away');
});

await test('a prefetch counts nothing', async (t) => {
  const { app, counters } = await build(t);
  for (const purpose of ['prefetch', 'prefetch;prerender', 'prefetch; prerender', 'prefetch;anonymous-client-ip']) {
    const response = await app.inject({ url: '/', headers: { 'sec-purpose': purpose, cookie: FORGED, ...PAGE } });
    checkRefusal(t, response, 503, purpose);
    t.equal(response.headers['cache-control'], 'no-store');
  }
  t.strictSame(counters.heard(), []);
  t.equal((await app.inject({ url: '/', headers: { 'sec-purpose': 'something-else' } })).body, 'Hello #1\n');
});

await test('POST ends the session', async (t) => {
  const { app, counters } = await build(t);
  const headers = { cookie: cookieOf(await app.inject('/')) };
  await app.inject({ url: '/', headers });
  const ended = await app.inject({ method: 'POST', url: '/', headers });
  t.match(ended, { statusCode: 303, headers: { location: '/', 'set-cookie': /^sid=; Max-Age=0; / }, body: /^$/ });
  t.strictSame(counters.heard(), ['start', 'increment', 'end']);
  t.equal((await app.inject({ url: '/', headers })).body, 'Hello #1\n', 'the count is gone');
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
    checkRefusal(t, await app.inject({ method: 'POST', url: '/', headers, payload: 'x'.repeat(1025) }), 413, type);
    t.strictSame(counters.heard(), [], 'nothing ends');
  }
});

await test('a body of unknown length is measured as it comes', async (t) => {
  const { app, counters } = await build(t);
  const { send } = await listen(app);
  const fields = `Host: a.example\r\nCookie: ${FORGED}\r\nTransfer-Encoding: chunked\r\n`;
  const chunk = (length: number): string => `${length.toString(16)}\r\n${'x'.repeat(length)}\r\n0\r\n\r\n`;
  t.equal((await send('POST / HTTP/1.1', fields, chunk(1024))).statusCode, 303);
  t.strictSame(counters.heard(), ['end']);
  checkRefusal(t, await send('POST / HTTP/1.1', fields, chunk(1025)), 413, 'one more');
  t.strictSame(counters.heard(), []);
});

await test('a POST from another site ends nothing', async (t) => {
  const { app, counters } = await build(t);
  const cookie = cookieOf(await app.inject('/'));
  counters.heard();
  const post = (site: string): InjectOptions => {
    const headers = { cookie, 'sec-fetch-site': site, 'content-type': 'application/x-www-form-urlencoded' };
    return { method: 'POST', url: '/', headers, payload: 'a=b' };
  };
  checkRefusal(t, await app.inject(post('cross-site')), 403, 'cross-site');
  t.strictSame(counters.heard(), []);
  t.equal((await app.inject({ url: '/', headers: { cookie } })).body, 'Hello #2\n');
  for (const site of ['same-origin', 'same-site', 'none']) {
    t.equal((await app.inject(post(site))).statusCode, 303, site);
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

await test('while the store is unreachable, the visitor is told so in plain words', async (t) => {
  const { app, counters, log } = await build(t, HEROKU);
  const cookie = cookieOf(await app.inject({ url: '/', headers: HTTPS }));
  const requests: InjectOptions[] = [
    { headers: { cookie } },
    {},
    { headers: { cookie: '__Host-sid=junk' } },
    { method: 'POST', headers: { cookie } },
  ];
  for (const [code, words] of [
    ['ERR_COUNTERS_UNAVAILABLE', /cannot be reached/],
    ['ERR_COUNTERS_WARMING_UP', /warming up/],
    ['ERR_COUNTERS_LOGIN_REFUSED', /refuses .* login/],
  ] as const) {
    counters.failure = unavailable(code);
    for (const { headers: sent, ...request } of requests) {
      for (const accept of [{}, PAGE]) {
        const answer = await app.inject({ ...request, url: '/', headers: { ...sent, ...HTTPS, ...accept } });
        const { statusCode, headers, body } = answer;
        t.match(body, words);
        t.equal(/nothing was ended/i.test(body), request.method === 'POST');
        t.equal(headers['retry-after'], '1');
        t.equal(headers.refresh, accept === PAGE ? '2' : undefined, 'the page reloads without a script');
        if (accept !== PAGE) {
          checkRefusal(t, answer, 503, code, { https: true });
          continue;
        }
        t.match({ statusCode, ...headers }, { statusCode: 503, 'content-type': 'text/html; charset=utf-8' });
        t.notOk(headers['set-cookie'], 'the cookie stays as it is');
        t.notMatch(body, /secret/);
        checkHeaders(t, headers, { https: true });
      }
    }
  }
  t.strictSame(log, [], 'no failed request is a line in the log');
  counters.failure = undefined;
  t.equal((await app.inject({ url: '/', headers: { ...HTTPS, cookie } })).body, 'Hello #2\n', 'the count continues');
});

await test('an error that nobody foresaw shows nothing of itself, and is logged with its request', async (t) => {
  for (const env of [{}, HEROKU]) {
    const { app, counters, log } = await build(t, env);
    counters.failure = new Error('a secret of Memcached at secret.example');
    for (const method of ['GET', 'POST'] as const) {
      const headers = { cookie: FORGED, ...PAGE };
      checkRefusal(t, await app.inject({ method, url: '/?a=secret', headers }), 500, method);
    }
    const err = { message: 'a secret of Memcached at secret.example', stack: /app\.test\.ts/ };
    t.match(log, [
      { level: 50, msg: 'GET / failed', err, reqId: /./ },
      { level: 50, msg: 'POST / failed', err, reqId: /./ },
    ]);
    t.equal(log.length, 2);
  }
});

await test('a handler can log on Heroku too, where LOG_LEVEL=debug logs each request', async (t) => {
  for (const level of ['info', 'debug', 'trace']) {
    const { app, log } = await build(t, { ...HEROKU, LOG_LEVEL: level }, (app) => {
      app.addHook('preHandler', async (request) => request.log.info('from a hook'));
    });
    await app.inject({ url: '/', headers: HTTPS });
    const lines = log.map(({ msg }) => msg).join(', ');
    t.equal(lines, level === 'info' ? 'from a hook' : 'incoming request, from a hook, request completed');
    for (const line of log) t.match(line, { level: 30, reqId: /./ });
  }
});

await test('an idle connection outlives the 90 s of the router, and half a request is given up within 30 s', async (t) => {
  const { app, counters } = await build(t);
  const { port } = await listen(app);
  const { keepAliveTimeout, headersTimeout, requestTimeout } = app.server;
  t.strictSame([keepAliveTimeout, headersTimeout, requestTimeout], [95_000, 10_000, 10_000]);
  // Only so that nobody has to wait for 10 s. Node.js looks for late requests as often as before.
  Object.assign(app.server, { headersTimeout: 1, requestTimeout: 1 });
  const requests = {
    'half of the headers': `POST / HTTP/1.1\r\nHost: a.example\r\n`,
    'half of the body': `POST / HTTP/1.1\r\nHost: a.example\r\nCookie: ${FORGED}\r\nContent-Length: 2\r\n\r\nx`,
  };
  await Promise.all(
    Object.entries(requests).map(async ([what, half]) => {
      const socket = createConnection(port, '127.0.0.1').setEncoding('latin1');
      await once(socket, 'connect');
      const began = performance.now();
      socket.write(half);
      t.match(await text(socket), /^HTTP\/1.1 408 /, what);
      const seconds = (performance.now() - began) / 1000;
      t.ok(seconds < 20, `${what}: ${seconds.toFixed(1)} s`);
    }),
  );
  t.strictSame(counters.heard(), []);
});
