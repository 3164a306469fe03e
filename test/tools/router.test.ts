import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type RequestListener, type RequestOptions } from 'node:http';
import { createConnection, createServer as createPlainServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'tap';
import { freePort, until } from '../../tools/processes.ts';
import { startRouter } from '../../tools/router.ts';
import type { Owner } from '../support/program.ts';
import { listening } from '../support/web.ts';

interface Answer {
  status: number | undefined;
  headers: IncomingMessage['headers'];
  body: string;
}

/** Sends a request on a connection of its own. Unlike fetch, it takes any method, target and header as it is. */
async function send(url: string, { body, ...options }: RequestOptions & { body?: string } = {}): Promise<Answer> {
  const { hostname, port } = new URL(url);
  const sent = request({ hostname, port, agent: false, ...options }).end(body);
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
}

/** A router before one dyno. */
async function routerBefore(t: Owner, listener: RequestListener, https = false) {
  const log: string[] = [];
  const router = await startRouter({ https, log: (line) => log.push(line) });
  t.teardown(() => router.close());
  router.add('web.1', await listening(t, createServer({ keepAliveTimeout: 95_000 }, listener)));
  return { url: `http://127.0.0.1:${router.port}/`, log };
}

await test('the router passes on every request as it came, without forwarding headers', async (t) => {
  const seen: [method: string | undefined, target: string | undefined, body: string][] = [];
  const { url, log } = await routerBefore(t, (asked, response) => {
    void text(asked).then((body) => {
      seen.push([asked.method, asked.url, body]);
      response.setHeader('set-cookie', ['sid=a; Path=/; HttpOnly', 'b=c']);
      response.writeHead(303, { location: '/there?x#y', 'x-headers': JSON.stringify(asked.headers) }).end('done');
    });
  });
  const requests: [method: string, path: string, body: string][] = [
    ['GET', '/', ''],
    ['POST', '/a?b=c', 'form=sent'],
    ['PROPFIND', '/%zz', ''],
    ['DELETE', '//a/../b', ''],
    ['PURGE', '/a?b?c=%', 'with a body'],
    ['OPTIONS', '*', ''],
    ['GET', 'http://elsewhere/', ''],
  ];
  const forged = { host: 'hello.example', 'x-forwarded-proto': 'https', 'x-forwarded-for': '1.2.3.4' };
  for (const [method, path, body] of requests) {
    const headers = body === '' ? forged : { ...forged, 'transfer-encoding': 'chunked' };
    const answer = await send(url, { method, path, headers, body });
    t.match(answer, { status: 303, headers: { location: '/there?x#y' }, body: 'done' });
    t.same(answer.headers['set-cookie'], ['sid=a; Path=/; HttpOnly', 'b=c']);
    const passed = JSON.parse(String(answer.headers['x-headers'])) as Record<string, string>;
    t.equal(passed.host, 'hello.example');
    t.notMatch(Object.keys(passed).join(), /x-forwarded/);
  }
  t.same(seen, requests);
  t.match(log[1], /^at=info method=POST path="\/a\?b=c" dyno=web\.1 service=\d+ms status=303$/);
});

await test('the router keeps its connections to a dyno, and says so when visitors come over https', async (t) => {
  const ports = new Set<number | undefined>();
  const answer: RequestListener = (asked, response) => {
    ports.add(asked.socket.remotePort);
    response.end(String(asked.headers['x-forwarded-proto']));
  };
  const { url } = await routerBefore(t, answer, true);
  for (let i = 0; i < 5; i++) {
    t.equal((await send(url, { headers: { connection: 'close', 'x-forwarded-proto': 'http' } })).body, 'https');
  }
  t.equal(ports.size, 1);
});

await test('a request goes to another dyno only if none has received it', async (t) => {
  let asked = 0;
  const router = await startRouter();
  t.teardown(() => router.close());
  const url = `http://127.0.0.1:${router.port}/`;
  t.match(await send(url), { status: 503, body: 'No web dyno is running\n' });

  for (let i = 1; i <= 5; i++) router.add(`web.${i}`, await freePort());
  t.match(await send(url), { status: 503, body: 'No web dyno is running\n' });
  const echo = createServer((request, response) => request.pipe(response));
  router.add('web.6', await listening(t, echo));
  for (let i = 0; i < 10; i++) {
    t.match(await send(url, { method: 'POST', body: 'kept' }), { status: 200, body: 'kept' });
  }

  router.remove('web.6');
  for (const name of ['web.7', 'web.8']) {
    const dying = createPlainServer((socket) => {
      asked++;
      socket.once('data', () => socket.destroy());
    });
    router.add(name, await listening(t, dying));
  }
  t.match(await send(url, { method: 'POST', body: 'once' }), { status: 503, body: /^web\.[78] did not answer/ });
  t.equal(asked, 1);
});

await test('an answer that breaks off ends the connection', async (t) => {
  const { url, log } = await routerBefore(t, (_request, response) => {
    response.writeHead(200, { 'content-length': 10 }).write('half', () => response.destroy());
  });
  await t.rejects(send(url), { code: 'ECONNRESET' });
  await until('it is logged', () => log.length > 0);
  t.match(log[0], /^at=error .* dyno= /);
});

await test('when a visitor leaves, the router drops the request to the dyno', async (t) => {
  const dyno = createServer();
  const router = await startRouter();
  t.teardown(() => router.close());
  router.add('web.1', await listening(t, dyno));
  const visitor = createConnection(router.port, '127.0.0.1');
  visitor.write('GET / HTTP/1.1\r\nhost: hello.example\r\n\r\n');
  const [{ socket }] = (await once(dyno, 'request')) as [IncomingMessage];
  visitor.destroy();
  await once(socket, 'close');
});

await test('the router ends even if a browser holds a connection that it never used', async (t) => {
  const router = await startRouter();
  const socket = createConnection(router.port, '127.0.0.1');
  await once(socket, 'connect');
  // The router accepts it before this request, which it answers.
  await send(`http://127.0.0.1:${router.port}/`);
  const start = performance.now();
  await router.close();
  t.ok(performance.now() - start < 4000, 'sooner than after the 5 s that a request may take');
  socket.destroy();
});
