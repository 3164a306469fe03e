import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type RequestListener } from 'node:http';
import { createConnection, createServer as createPlainServer, type AddressInfo, type Server } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'tap';
import { logTo } from '../tools/logs.js';
import { startRouter } from '../tools/router.js';
import { startMemcached } from './support/memcached.js';
import { freePort, stop, until } from './support/processes.js';
import { childrenOf, gone, run, startDynos, type Dynos } from './support/tools.js';

interface Test {
  teardown(action: () => unknown): void;
}

interface Answer {
  status: number | undefined;
  headers: IncomingMessage['headers'];
  body: string;
}

/** Sends a request on a connection of its own. Unlike fetch it sends any method, path and header as it is. */
async function send(
  url: string,
  {
    method = 'GET',
    path = '/',
    headers = {},
    body,
  }: { method?: string; path?: string; headers?: object; body?: string },
): Promise<Answer> {
  const { hostname, port } = new URL(url);
  const sent = request({ hostname, port, method, path, headers: { ...headers }, agent: false }).end(body);
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
}

async function listening(t: Test, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** A router before one dyno, which does as it is told. */
async function routerBefore(
  t: Test,
  listener: RequestListener,
  https = false,
): Promise<{ url: string; log: string[] }> {
  const log: string[] = [];
  const router = await startRouter({ https, log: (line) => log.push(line) });
  t.teardown(() => router.close());
  router.add('web.1', await listening(t, createServer({ keepAliveTimeout: 95_000 }, listener)));
  return { url: `http://127.0.0.1:${router.port}/`, log };
}

/** Which dynos answer, of so many requests that none is left out. */
async function answering({ url }: Dynos): Promise<string[]> {
  const names = new Set<string>();
  for (let i = 0; i < 150; i++) {
    const response = await fetch(url, { method: 'HEAD' });
    names.add(response.headers.get('x-dyno') ?? '');
  }
  return [...names].sort();
}

await test('five dynos run, and typing scales them without losing a request', async (t) => {
  const dynos = await startDynos(t);
  const started = childrenOf(dynos.child);
  t.equal(started.size, 7, 'five dynos, memcached, and the keeper');
  t.same(await answering(dynos), ['web.1', 'web.2', 'web.3', 'web.4', 'web.5']);
  t.ok(dynos.lines.some((line) => /^20\S+\+00:00 app\[web\.3\]: \{.*Hello #N is at/.test(line)));

  const proof = run('verify', [dynos.url, '--requests', '2000', '--concurrency', '20']);
  let scaled = dynos.says(/^Scaled to 2 dynos$/);
  dynos.type('web=2');
  await scaled;
  t.same(await answering(dynos), ['web.1', 'web.2']);
  t.equal(dynos.lines.filter((line) => /local\[web\.[345]\]: down, ended with status 0/.test(line)).length, 3);
  scaled = dynos.says(/^Scaled to 4 dynos$/);
  dynos.type('web=4');
  await scaled;
  t.same(await answering(dynos), ['web.1', 'web.2', 'web.3', 'web.4']);
  t.match(await proof, { status: 0, out: 'each number from 1 to 2000 came exactly once' });

  for (const [order, answer] of [
    ['web=0', /^web=0 would leave nobody to answer; web=1 is the least$/],
    ['web=100', /^web=100 is too many for one machine; web=20 is the most$/],
    ['more!', /^"more!" is not understood; web=7 would be$/],
  ] as const) {
    const said = dynos.says(answer);
    dynos.type(order);
    await said;
  }

  const all = [...started.keys(), ...childrenOf(dynos.child).keys()];
  dynos.child.kill('SIGINT');
  dynos.child.kill('SIGINT');
  t.equal(await stop(dynos.child, 'SIGINT'), 0);
  await gone(all);
});

await test('a part that crashes is reported and started again', async (t) => {
  const dynos = await startDynos(t, ['web=2']);
  const { url } = dynos;
  const children = childrenOf(dynos.child);
  const find = (what: RegExp): number => [...children].find(([, command]) => what.test(command))?.[0] ?? 0;

  const crashed = dynos.says(/local\[web\.[12]\]: crashed, ended with SIGKILL; starts again in 1 s/);
  const up = dynos.says(/local\[web\.[12]\]: up/);
  process.kill(find(/server\.js/), 'SIGKILL');
  const [, name = ''] = /(web\.\d)/.exec(await crashed) ?? [];
  for (let i = 0; i < 20; i++) t.equal((await fetch(url)).status, 200, `${name} is not asked`);
  await up;
  t.same(await answering(dynos), ['web.1', 'web.2']);

  const lost = dynos.says(/local\[memcached\]: crashed, ended with SIGKILL; starts again in 1 s, with no counts/);
  process.kill(find(/^memcached|\/memcached/), 'SIGKILL');
  await lost;
  t.equal((await fetch(url)).status, 503);
  await until('the counts are back', async () => (await fetch(url)).status === 200);

  const all = [...childrenOf(dynos.child).keys()];
  process.kill(find(/keeper\.js/), 'SIGKILL');
  await once(dynos.child, 'exit');
  t.equal(dynos.child.exitCode, 1);
  t.ok(dynos.lines.includes('A part of dynos itself has ended, so it stops'));
  await gone(all);
});

await test('nothing outlives dynos, even if it is killed', async (t) => {
  const { child, url } = await startDynos(t, ['web=2']);
  t.equal((await fetch(url)).status, 200);
  const children = childrenOf(child);
  t.equal(children.size, 4);
  await stop(child, 'SIGKILL');
  await gone(children.keys());
});

await test('the store that the environment names is used, and SIGTERM ends all but that', async (t) => {
  const memcached = await startMemcached(t);
  const { child, url, lines } = await startDynos(t, ['web=1', '--https'], { MEMCACHE_SERVERS: memcached.address });
  t.ok(lines.some((line) => line.endsWith('on 1 dyno, with the counts in the Memcached that MEMCACHE_SERVERS names')));
  const response = await fetch(url, { headers: { 'x-forwarded-proto': 'http' } });
  t.match(response.headers.get('set-cookie'), /^__Host-sid=.*; Secure/);
  t.equal((await memcached.stats()).get('curr_items'), '1');
  const children = childrenOf(child);
  t.equal(children.size, 2, 'one dyno and the keeper');
  t.equal(await stop(child), 0);
  await gone(children.keys());
  t.equal((await memcached.stats()).get('curr_items'), '1');
});

await test('what keeps dynos from starting is one plain line', async (t) => {
  const port = String(await listening(t, createPlainServer()));
  t.match(await run('dynos', [], { PORT: port }), {
    status: 1,
    out: '',
    err: new RegExp(`^Port ${port} is taken; PORT=\\d+ npm run dynos takes another\n$`),
  });
  t.match(await run('dynos', [], { PORT: 'http' }), { status: 1, err: /^PORT is "http"; it has to be a port .*\n$/ });
  t.match(await run('dynos', [], { PORT: '0', PATH: '/nonexistent' }), {
    status: 1,
    out: '',
    err: /^There is no memcached on this machine; "apt-get install memcached".*dynos -- --memory.*\n$/,
  });
  t.match(await run('dynos', ['web=1', '--memory'], { PORT: '0', SESSION_TTL: 'long' }), {
    status: 1,
    out: /app\[web\.1\]: SESSION_TTL is "long"/,
    err: 'web.1 does not start\n',
  });
});

await test('wrong arguments are told in plain words', async (t) => {
  const wrong: [string[], RegExp][] = [
    [['web=0'], /^web=0 would leave nobody to answer/],
    [['web=21'], /^web=21 is too many for one machine/],
    [['five'], /^"five" is not understood; web=7 would be\. npm run dynos -- --help says what there is\n$/],
    [['web=1', 'web=2'], /^One web=N is enough, not web=1 web=2/],
    [['--what'], /^Unknown option '--what'\. npm run/],
  ];
  for (const [args, complaint] of wrong) t.match(await run('dynos', args), { status: 2, out: '', err: complaint });
  t.match(await run('dynos', ['--help']), { status: 0, out: /^Usage: npm run dynos/, err: '' });
});

await test('the router passes every request as it came, but for who it came from', async (t) => {
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

await test('the router keeps its connections to a dyno', async (t) => {
  const ports = new Set<number | undefined>();
  const { url } = await routerBefore(
    t,
    (asked, response) => {
      ports.add(asked.socket.remotePort);
      response.end(String(asked.headers['x-forwarded-proto']));
    },
    true,
  );
  for (let i = 0; i < 5; i++) {
    t.equal((await send(url, { headers: { connection: 'close', 'x-forwarded-proto': 'http' } })).body, 'https');
  }
  t.equal(ports.size, 1);
});

await test('a request goes to another dyno only if none has seen it', async (t) => {
  let asked = 0;
  const die: RequestListener = ({ socket }) => {
    asked++;
    socket.destroy();
  };
  const router = await startRouter();
  t.teardown(() => router.close());
  const url = `http://127.0.0.1:${router.port}/`;
  t.match(await send(url, {}), { status: 503, body: 'No web dyno is running\n' });

  for (let i = 1; i <= 5; i++) router.add(`web.${i}`, await freePort());
  t.match(await send(url, {}), { status: 503, body: 'No web dyno is running\n' });
  router.add(
    'web.6',
    await listening(
      t,
      createServer((request, response) => request.pipe(response)),
    ),
  );
  for (let i = 0; i < 10; i++) {
    t.match(await send(url, { method: 'POST', body: 'kept' }), { status: 200, body: 'kept' });
  }

  router.remove('web.6');
  for (const name of ['web.7', 'web.8']) router.add(name, await listening(t, createServer(die)));
  t.match(await send(url, { method: 'POST', body: 'once' }), { status: 503, body: /^web\.[78] gave no answer/ });
  t.equal(asked, 1);
});

await test('the router ends though a browser holds a connection that it never used', async (t) => {
  const router = await startRouter();
  const socket = createConnection(router.port, '127.0.0.1');
  await once(socket, 'connect');
  // It is accepted before this request, which is answered.
  await send(`http://127.0.0.1:${router.port}/`, {});
  const start = performance.now();
  await router.close();
  t.ok(performance.now() - start < 4000, 'sooner than after the 5 s that a request may take');
  socket.destroy();
});

await test('on a terminal each dyno has its colour', (t) => {
  let written = '';
  const out = { isTTY: true, hasColors: () => true, write: (line: string) => (written += line) };
  const log = logTo(out);
  log('app', 'web.1', 'one');
  log('local', 'web.2', 'two');
  log('local', 'web.1', 'three');
  t.match(
    written,
    /^\x1b\[32m20\S+ app\[web\.1\]:\x1b\[0m one\n\x1b\[33m.*web\.2\]:\x1b\[0m two\n\x1b\[32m.* three\n$/,
  );
  written = '';
  logTo({ ...out, hasColors: () => false })('app', 'web.1', 'one');
  t.match(written, /^20\S+ app\[web\.1\]: one\n$/);
  t.end();
});
