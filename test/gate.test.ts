import { setImmediate as nextTurn } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { test } from 'tap';
import { build, checkHeaders, checkRefusal, FORGED, HEROKU, HTTPS, listen } from './support/app.ts';

const HTTP = { 'x-forwarded-proto': 'http', host: 'hello.example', cookie: FORGED };

await test('another method on / is refused, with whatever body', async (t) => {
  const { app, counters } = await build(t);
  const { send } = await listen(app);
  const host = 'Host: a.example\r\n';
  const methods = ['PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'QUERY', 'PURGE', 'LOCK', 'M-SEARCH'];
  for (const method of methods) {
    for (const [fields, body] of [
      ['', ''],
      ['Content-Type: application/json\r\nContent-Length: 3\r\n', '{{{'],
      ['Content-Type: %%%\r\nContent-Length: 3\r\n', 'abc'],
      ['Transfer-Encoding: chunked\r\n', '3\r\nabc\r\n0\r\n\r\n'],
      ['Content-Length: 20000\r\n', 'x'.repeat(20_000)],
    ] as const) {
      const answer = await send(`${method} / HTTP/1.1`, `${host}Cookie: ${FORGED}\r\n${fields}`, body);
      checkRefusal(t, answer, 405, `${method} ${fields}`);
      t.equal(answer.headers.allow, 'GET, HEAD, POST');
      t.match(answer.headers, { 'cache-control': 'no-store', vary: 'Accept', 'x-dyno': 'local' });
    }
  }
  for (const target of ['/?a=b', 'http://a.example/'])
    t.equal((await send(`PUT ${target} HTTP/1.1`, host)).statusCode, 405, target);
  t.strictSame(counters.heard(), []);
});

await test('another path is not found, also a malformed one', async (t) => {
  const { app, counters } = await build(t);
  const { send } = await listen(app);
  const paths = ['/favicon.ico', '//', '//evil.example/', '/.', '/..', '/;a', '/%2f', '/\\', '/%20', '/a/b?c=d'];
  const malformed = ['/%', '/%zz', '/%ff', '/%E0%A4%A', '/%00', '/a%', '*', '*?a', '*@evil.example/', '/#a'];
  const absolute = ['http://a.example/a', 'http://a.example/%', 'http://a.example/#a'];
  for (const path of [...paths, ...malformed, ...absolute]) {
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'OPTIONS', 'PROPFIND']) {
      const answer = await send(`${method} ${path} HTTP/1.1`, `Host: a.example\r\nCookie: ${FORGED}\r\n`);
      checkRefusal(t, answer, 404, `${method} ${path}`, { isHead: method === 'HEAD' });
    }
  }
  // To Fastify's router the path of these is not /.
  for (const request of ['GET ftp://a.example/', 'POST ftp://a.example/', 'GET http://%/', 'POST http://%/'])
    checkRefusal(t, await send(`${request} HTTP/1.1`, 'Host: a.example\r\n'), 404, request);
  t.strictSame(counters.heard(), []);
});

await test('HTTP/1.0, absolute URLs and bodies with GET are let through', async (t) => {
  const { app } = await build(t);
  const { send } = await listen(app);
  const greeting = { statusCode: 200, body: 'Hello #1\n' };
  const host = 'Host: a.example\r\n';
  t.match(await send('GET / HTTP/1.0'), greeting);
  for (const url of ['http://a.example/', 'HTTP://a.example', 'http://a.example?a=b'])
    t.match(await send(`GET ${url} HTTP/1.1`, host), greeting, url);
  t.match(await send('GET / HTTP/1.1', `${host}Content-Length: 3\r\n`, 'abc'), greeting);
});

await test('on Heroku plain http is sent to https', async (t) => {
  const { app, counters } = await build(t, HEROKU);
  for (const [method, url, path = url] of [
    ['GET', '/'],
    ['HEAD', '/'],
    ['POST', '/'],
    ['PUT', '/'],
    ['GET', '/nothing?a=b%20c'],
    ['GET', '/%'],
    ['GET', '//evil.example/'],
    ['GET', 'http://evil.example/a', '/a'],
    ['GET', 'http://evil.example', '/'],
    ['GET', 'http://evil.example?a=b', '/?a=b'],
    ['GET', '/?next=http://other.example/a'],
  ] as const) {
    const response = await app.inject({ method, url, headers: { ...HTTP, 'x-forwarded-host': 'evil.example' } });
    t.equal(response.statusCode, 308, `${method} ${url}`);
    t.equal(response.headers.location, `https://hello.example${path}`, 'by the Host header only');
    t.equal(response.headers['cache-control'], 'no-store');
    t.notOk(response.headers['set-cookie']);
    t.equal(response.body, '');
    checkHeaders(t, response.headers);
  }
  const { send } = await listen(app);
  for (const target of ['*', '*@evil.example/', '*?a=b']) {
    const answer = await send(`GET ${target} HTTP/1.1`, 'Host: hello.example\r\nX-Forwarded-Proto: http\r\n');
    t.equal(answer.statusCode, 308, target);
    t.equal(answer.headers.location, 'https://hello.example/', 'only a path becomes part of the address');
  }
  for (const host of ['', 'Host: \r\n']) {
    const ancient = await send('GET / HTTP/1.0', `${host}X-Forwarded-Proto: http\r\nCookie: ${FORGED}\r\n`);
    checkRefusal(t, ancient, 400, 'without a host there is nowhere to send it');
  }
  t.strictSame(counters.heard(), []);
});

await test('on Heroku the redirect, the cookie and HSTS agree on the protocol', async (t) => {
  const { app } = await build(t, HEROKU);
  const { send } = await listen(app);
  const sent = {
    https: ['https', 'HTTPS', ' Https ', 'http, https', 'https,https', 'http | https'],
    http: ['http', 'HTTP', 'https, http', 'https | http'],
    none: [undefined, '', 'https,', 'wss'],
  };
  for (const [protocol, value] of Object.entries(sent).flatMap(([name, all]) => all.map((each) => [name, each]))) {
    const fields = value?.split(' | ') ?? [];
    const lines = fields.map((field) => `X-Forwarded-Proto: ${field}\r\n`).join('');
    const forwarded = 'X-Forwarded-Port: 443\r\nForwarded: proto=https\r\nX-Forwarded-Ssl: on\r\n';
    const answer = await send('GET / HTTP/1.1', `Host: hello.example\r\n${forwarded}${lines}`);
    const cookie = answer.headers['set-cookie'];
    const what = `${value} is ${protocol}`;
    t.equal(answer.statusCode, protocol === 'http' ? 308 : 200, what);
    checkHeaders(t, answer.headers, { https: protocol === 'https' });
    if (protocol === 'https') t.match(cookie, /^__Host-sid=[\w-]+; Path=\/; HttpOnly; Secure; SameSite=Lax$/, what);
    if (protocol === 'http') t.equal(cookie, undefined, what);
    if (protocol === 'none') t.match(cookie, /^sid=[\w-]+; Path=\/; HttpOnly; SameSite=Lax$/, what);
  }
});

await test('off Heroku nothing that a client says of forwarding is believed', async (t) => {
  const { app } = await build(t);
  for (const proto of ['http', 'https']) {
    const headers = { 'x-forwarded-proto': proto, 'x-forwarded-host': 'evil.example', 'x-forwarded-for': '192.0.2.1' };
    const response = await app.inject({ url: '/', headers });
    t.equal(response.statusCode, 200, proto);
    t.match(response.headers['set-cookie'], /^sid=[\w-]+; Path=\/; HttpOnly; SameSite=Lax$/);
    checkHeaders(t, response.headers);
  }
});

await test('a refused request reaches no handler and no store, whatever hooks other plugins add', async (t) => {
  const handled: string[] = [];
  const { app, counters } = await build(t, HEROKU, (app: FastifyInstance) => {
    app.addHook('onRequest', async () => nextTurn());
    // Longer, so that a request which is still handled after its answer would get far.
    app.addHook('onSend', async (_request, _reply, payload) => nextTurn(await nextTurn(await nextTurn(payload))));
    app.addHook('preHandler', async ({ method, url }) => void handled.push(`${method} ${url}`));
  });
  for (const [method, url, proto, status] of [
    ['GET', '/', 'http', 308],
    ['POST', '/', 'http', 308],
    ['PUT', '/', 'https', 405],
    ['GET', '/nothing', 'https', 404],
    ['GET', '/%', 'https', 404],
  ] as const) {
    const response = await app.inject({ method, url, headers: { ...HTTP, 'x-forwarded-proto': proto } });
    t.equal(response.statusCode, status);
    checkHeaders(t, response.headers, { https: proto === 'https' });
  }
  t.equal((await app.inject({ url: '/', headers: HTTPS })).body, 'Hello #1\n');
  t.strictSame(handled, ['GET /'], 'this request alone, which would be behind the others');
  t.strictSame(counters.heard(), ['start']);
});
