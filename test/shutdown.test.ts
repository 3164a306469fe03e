import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { createConnection, Socket, type AddressInfo } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { queryObjects } from 'node:v8';
import fastify from 'fastify';
import { test, type Test } from 'tap';
import { prepareShutdown } from '../src/shutdown.ts';
import { until } from '../tools/processes.ts';
import { startRouter } from '../tools/router.ts';
import { startMemcached } from './support/memcached.ts';
import { violations, Visitor } from './support/visitors.ts';
import { preload, startWeb, type Web } from './support/web.ts';

await test('a dyno that is stopped under load loses no request, though the router continues to send them', async (t) => {
  const memcached = await startMemcached(t);
  const router = await startRouter({ https: true });
  t.teardown(() => router.close());
  const start = (DYNO: string): Promise<Web> => startWeb(t, { DYNO, MEMCACHIER_SERVERS: memcached.address });
  const [stopped, other] = await Promise.all([start('web.1'), start('web.2')]);
  router.add('web.1', stopped.port);
  router.add('web.2', other.port);
  const visitors = Array.from({ length: 40 }, () => new Visitor(`http://127.0.0.1:${router.port}/`));
  for (const visitor of visitors) visitor.walk(0);
  await until('both are busy', () => visitors.every(({ greetings }) => greetings.length > 5));
  t.equal(await stopped.stop(), 0);
  await Promise.all(visitors.map((visitor) => visitor.stop()));
  t.strictSame(visitors.flatMap(violations), [], 'each session counted without a gap');
  const all = visitors.flatMap(({ greetings }) => greetings);
  t.equal(all.filter(({ status }) => status !== 200).length, 0, 'none failed');
  t.equal(all.filter(({ isNew }) => isNew).length, visitors.length, 'nobody had to start over');
});

/** A connection to a web process, on which a test says exactly what is sent. */
class Visit {
  received = '';
  /** When the other side closed it, by the clock of `performance`, or why it broke. */
  readonly closed: Promise<number | string>;
  readonly #socket;

  constructor({ port }: Web, host = '127.0.0.1') {
    this.#socket = createConnection(port, host).setEncoding('latin1');
    this.#socket.on('data', (text: string) => (this.received += text));
    this.closed = new Promise((resolve) => {
      this.#socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      this.#socket.on('close', () => resolve(performance.now()));
    });
  }

  /** A connection that has had one answer. */
  static async greeted(web: Web, host?: string): Promise<Visit> {
    const visit = new Visit(web, host);
    await visit.greet();
    return visit;
  }

  send(text: string): void {
    this.#socket.write(text.replaceAll('\n', '\r\n'));
  }

  /** Asks for a greeting, and waits for it. */
  async greet(cookie = ''): Promise<string> {
    const before = this.received.length;
    this.send(greeting(cookie));
    await until('a greeting', () => /Hello #\d+\n$/.test(this.received.slice(before)));
    return this.received.slice(before);
  }

  end(): void {
    this.#socket.end();
  }
}

const UNFINISHED_POST = 'POST / HTTP/1.1\nHost: localhost\nContent-Length: 2\n\na';
const CLOSING = /^HTTP\/1.1 200 .*connection: close/is;

function greeting(cookie: string): string {
  return `GET / HTTP/1.1\nHost: localhost\nCookie: ${cookie}\n\n`;
}

/** Until the process has taken the signal and stopped listening. */
async function untilRefused({ port }: Web, host = '127.0.0.1'): Promise<void> {
  await until('a new connection is refused', async () => {
    const socket = createConnection(port, host);
    try {
      await once(socket, 'connect');
      return false;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ECONNREFUSED';
    } finally {
      socket.destroy();
    }
  });
}

/** An app that listens in this process, and its shutdown. */
async function listening(t: Test) {
  const app = fastify();
  const prepared = prepareShutdown(app);
  const shutDown = (): Promise<void> => prepared([app.server]);
  await app.ready();
  await once(app.server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(shutDown);
  const { port } = app.server.address() as AddressInfo;
  return { server: app.server, port, shutDown };
}

/** Makes each turn of the event loop last some milliseconds, until the function that it gives is called. */
function slowDown(milliseconds: number): () => void {
  let isSlow = true;
  const turn = (): void => {
    const began = performance.now();
    while (performance.now() - began < milliseconds);
    if (isSlow) setImmediate(turn);
  };
  turn();
  return () => (isSlow = false);
}

await test('a connection that has closed is not kept in memory', async (t) => {
  const { port } = await listening(t);
  const before = Number(queryObjects(Socket));
  for (let n = 0; n < 50; n++) {
    const socket = createConnection(port, '127.0.0.1', () => socket.end());
    await once(socket.resume(), 'close');
  }
  await until('they are forgotten', () => Number(queryObjects(Socket)) - before < 10);
});

await test('connections that are queued when listening is to end are accepted', async (t) => {
  const { server, port, shutDown } = await listening(t);
  const errors: Error[] = [];
  let accepted = 0;
  server.on('connection', () => (accepted += 1));
  // This continues in the middle of a turn of the event loop, as the handler of a signal does.
  await stat('.');
  for (let n = 0; n < 100; n++) {
    const socket = createConnection(port, '127.0.0.1', () => socket.end());
    socket.on('error', (error) => errors.push(error));
  }
  // They connect in the next tick, which would otherwise be part of the turn that is to be quiet.
  await new Promise((resolve) => process.nextTick(resolve));
  await shutDown();
  t.notOk(server.listening);
  t.equal(accepted, 100);
  t.strictSame(errors, []);
});

await test('listening does not end after a long turn of the event loop, in which a connection may have come', async (t) => {
  const { server, shutDown } = await listening(t);
  const speedUp = slowDown(5);
  const stopped = shutDown();
  for (let turn = 0; turn < 20; turn++) await nextTurn();
  t.ok(server.listening);
  speedUp();
  await stopped;
  t.notOk(server.listening);
});

await test('listening ends after a second, however busy the process is, and a second call waits for the same end', async (t) => {
  const { server, shutDown } = await listening(t);
  const speedUp = slowDown(5);
  const began = performance.now();
  const stopped = shutDown();
  t.equal(shutDown(), stopped);
  await stopped;
  speedUp();
  t.notOk(server.listening);
  t.ok(performance.now() - began >= 1000);
});

await test('a stopping process waits for what is on its way, and no longer', async (t) => {
  const web = await startWeb(t);
  const silent = new Visit(web);
  const greeted = await Promise.all([1, 2, 3, 4, 5].map(() => Visit.greeted(web)));
  const [idle, late, slow, endless, half] = greeted as [Visit, Visit, Visit, Visit, Visit];
  slow.send(UNFINISHED_POST);
  endless.send(UNFINISHED_POST);
  half.send('GET / HT');

  const signalled = performance.now();
  const status = web.stop();
  await untilRefused(web);
  web.child.kill('SIGTERM');

  /** Gives how long after the signal a connection was closed. */
  const closes = async (what: string, visit: Visit, least: number): Promise<number> => {
    const closed = await visit.closed;
    t.type(closed, 'number', `${what} is not reset`);
    const after = Number(closed) - signalled;
    t.ok(after >= least, `${what} is closed after ${least} ms at the earliest: ${after.toFixed()} ms`);
    return after;
  };
  t.match(await late.greet(), CLOSING, 'a request on an open connection is answered');
  const first = await closes('its connection', late, 0);
  const then = [await closes('one without any request', silent, 1500), await closes('an idle one', idle, 1500)];
  const before = slow.received.length;
  slow.send('b');
  then.push(await closes('one with a request under way', slow, 1500));
  t.match(slow.received.slice(before), /^HTTP\/1.1 303 .*connection: close/is, 'after its answer');
  const last = [await closes('an endless request', endless, 4000), await closes('an endless header', half, 4000)];
  t.ok(first < Math.min(...then) && Math.max(...then) < Math.min(...last), 'none waits for those that take longer');
  t.equal(await status, 0);
});

await test('a stopping process exits as soon as no connection is open', async (t) => {
  const web = await startWeb(t);
  const [visit, late] = await Promise.all([Visit.greeted(web), Visit.greeted(web)]);
  const status = web.stop('SIGINT');
  await untilRefused(web);
  for (const another of ['SIGTERM', 'SIGINT'] as const) web.child.kill(another);
  late.received = '';
  late.send('GET /% HTTP/1.1\nHost: a.example\n\n');
  t.type(await late.closed, 'number');
  t.match(late.received, /^HTTP\/1.1 404 .*\r\nconnection: close\r\n/is, 'though Fastify runs no hooks for this path');
  t.equal(web.child.exitCode, null);
  const ended = performance.now();
  visit.end();
  t.equal(await status, 0);
  t.ok(performance.now() - ended < 1000, 'before the time of an idle one is over');
});

await test('localhost is each of its addresses that the machine has: all answer and all drain', async (t) => {
  // As on a machine whose localhost is ::1, and twice 127.0.0.1, as glibc gives it, and has an address too many.
  const lookup = `import dns from 'node:dns/promises'; import { syncBuiltinESMExports } from 'node:module';
    dns.lookup = async () => ['::1', '2001:db8::1', '127.0.0.1', '127.0.0.1'].map((address) => ({ address }));
    syncBuiltinESMExports();`;
  const web = await startWeb(t, { HOST: 'localhost' }, preload(lookup));
  t.matchOnly(web.log, [/^Hello #N is at http:\/\/localhost:\d+\/, [^:]*$/]);
  const visits = await Promise.all(['::1', '127.0.0.1'].map((host) => Visit.greeted(web, host)));
  const idle = await Promise.all(['::1', '127.0.0.1'].map((host) => Visit.greeted(web, host)));
  const status = web.stop();
  for (const host of ['::1', '127.0.0.1']) await untilRefused(web, host);
  for (const visit of visits) {
    t.match(await visit.greet(), CLOSING);
    t.type(await visit.closed, 'number', 'it is not reset');
  }
  for (const visit of idle) t.type(await visit.closed, 'number', 'it is closed, not reset');
  t.equal(await status, 0);
});

await test('of pipelined requests a stopping process answers the first, and another continues the session', async (t) => {
  const memcached = await startMemcached(t);
  const [web, other] = await Promise.all([1, 2].map(() => startWeb(t, { MEMCACHE_SERVERS: memcached.address })));
  if (!web || !other) throw new Error('no process');
  const visit = new Visit(web);
  const [, cookie = ''] = /^set-cookie: ([^;]*)/im.exec(await visit.greet()) ?? [];
  const before = visit.received.length;
  await memcached.stall();
  visit.send(greeting(cookie).repeat(3));
  const status = web.stop();
  await untilRefused(web);
  memcached.resume();
  t.type(await visit.closed, 'number', 'the connection is not reset');
  t.match(visit.received.slice(before), /^HTTP\/1.1 200 .*connection: close.*Hello #2\n$/is);
  t.equal(await status, 0);
  const next = new Visit(other);
  // Those that got no answer may have counted.
  t.match(await next.greet(cookie), /Hello #[3-5]\n/);
  next.end();
});

for (const [when, patch] of [
  ['before it listens', 'process.kill(process.pid, "SIGTERM"); return listen.apply(this, all);'],
  ['in the moment it listens', 'listen.apply(this, all); process.kill(process.pid, "SIGTERM"); return this;'],
]) {
  await test(`SIGTERM ${when} ends the process with status 0`, async (t) => {
    const patched = `import { Server } from 'node:net'; const { listen } = Server.prototype;
      Server.prototype.listen = function (...all) { ${patch} };`;
    const web = await startWeb(t, {}, preload(patched));
    if (web.child.exitCode === null && web.child.signalCode === null) await once(web.child, 'exit');
    t.equal(web.child.exitCode, 0);
  });
}
