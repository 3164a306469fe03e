import { createHash } from 'node:crypto';
import { test, type Test } from 'tap';
import { until } from '../tools/processes.ts';
import { draw, openCounters, soon } from './support/counters.ts';
import { startMemcached, withLogin, type Memcached } from './support/memcached.ts';
import { failedOf, scene, suffer } from './support/scene.ts';
import { violations, Visitor, type Greeting } from './support/visitors.ts';
import { startWeb, UNCOVERED } from './support/web.ts';

const [INCREMENT, TOUCH] = [0x05, 0x1c];

await test('an unknown id takes two commands, and both together no more than a second', withLogin(), async (t) => {
  const it = await scene(t);
  it.proxy.delay.down = 300;
  const forger = new Visitor(it.web.url, 'sid=AAAAAAAAAAAAAAAAAAAAAAAA');
  const slow = await forger.ask();
  t.equal(slow.count, 1);
  t.ok(slow.took > 590);
});

await test('responses 300 ms late, on a connection already logged in', withLogin(), async (t) => {
  const it = await scene(t);
  const during = await suffer(t, it, {
    begin: () => (it.proxy.delay.down = 300),
    lasts: 1500,
    end: () => (it.proxy.delay.down = 0),
  });
  t.strictSame(failedOf(during), []);
  t.equal(it.web.log.length, 1);
});

await test('a request to the store leaves while earlier ones wait for their responses', async (t) => {
  const { proxy, visitors } = await scene(t, { login: false });
  const some = visitors.slice(0, 4);
  const held: Buffer[] = [];
  let responses = 0;
  proxy.tamper = (response) => {
    held.push(response);
    if (response[1] === INCREMENT) responses += 1;
    return responses < some.length ? [] : held.splice(0);
  };
  const greetings: Promise<Greeting>[] = [];
  for (const visitor of some) {
    greetings.push(visitor.ask());
    await until('memcached has responded', () => responses === greetings.length);
  }
  for (const { count } of await Promise.all(greetings)) t.equal(count, 2);
});

await test('responses in crumbs', async (t) => {
  const { proxy, web, visitors } = await scene(t, { login: false });
  await proxy.set('crumble');
  for (const count of [2, 3, 4]) {
    const greetings = await Promise.all(visitors.map((visitor) => visitor.ask()));
    t.strictSame(new Set(greetings.map((greeting) => greeting.count)), new Set([count]));
  }
  t.equal(web.log.length, 1, 'nobody notices');
});

await test('an error of the server: out of memory', async (t) => {
  const memcached = await startMemcached(t, { args: ['-M', '-m', '2'] });
  const web = await startWeb(t, { ...UNCOVERED, DYNO: 'web.1', MEMCACHE_SERVERS: memcached.address });
  const visitor = new Visitor(web.url);
  t.teardown(() => visitor.stop());
  t.equal((await visitor.ask()).count, 1);
  await fill(t, memcached);
  for (let time = 0; time < 3; time += 1) {
    const newcomer = new Visitor(web.url);
    t.equal((await newcomer.ask()).status, 503);
    await newcomer.stop();
  }
  await until('it is logged', () => web.log.length > 1);
  t.match(web.log[1], /refuses INCREMENT: "Out of memory/);
  t.equal(web.log.length, 2, 'it is logged once');
  t.equal((await visitor.ask()).count, 2, 'an existing session is still counted');
});

await test('an error of the server: no number under the key', async (t) => {
  const memcached = await startMemcached(t);
  const web = await startWeb(t, { ...UNCOVERED, DYNO: 'web.1', MEMCACHE_SERVERS: memcached.address });
  const visitor = new Visitor(web.url, 'sid=AAAAAAAAAAAAAAAAAAAAAAAA');
  t.teardown(() => visitor.stop());
  await memcached.ask(`set ${keyOf('AAAAAAAAAAAAAAAAAAAAAAAA')} 0 0 9\r\nno number`);
  const { status, body } = await visitor.ask();
  t.equal(status, 503);
  t.match(body, /^The session store .+\n$/);
  await until('it is logged', () => web.log.length > 1);
  t.match(web.log[1], /refuses INCREMENT: "Non-numeric/);
});

await test('a server that refuses TOUCH', async (t) => {
  const { proxy, web, visitors } = await scene(t, { login: false });
  proxy.tamper = (response) => [response[1] === TOUCH ? refusalOf(response) : response];
  for (const visitor of visitors) t.equal((await visitor.ask()).count, 2, 'greetings still count, without renewal');
  await until('it is logged', () => web.log.length > 1);
  t.match(web.log[1], /refuses TOUCH/);
  proxy.closeAll();
  await until('the connection is closed', () => proxy.open === 0);
  for (const visitor of visitors) t.equal((await visitor.ask()).count, 3);
  t.equal(web.log.length, 2, 'it is logged once, whatever becomes of the connection');
});

await test('a server that closes each connection at its first command', async (t) => {
  const { proxy, web, visitors } = await scene(t, { login: false });
  await proxy.set('finish');
  const [before, began] = [proxy.accepted, performance.now()];
  for (const visitor of visitors) visitor.walk(20);
  await until('ten attempts', () => proxy.accepted >= before + 10);
  t.ok(performance.now() - began >= 9 * 100, 'at least 100 ms pass between two attempts');
  t.equal(web.log.length, 2, 'it is logged once');
  await proxy.set('pass');
  await until('all are greeted', () => visitors.every(({ greetings }) => greetings.at(-1)?.status === 200));
  await Promise.all(visitors.map((visitor) => visitor.stop()));
  t.strictSame(visitors.flatMap(violations), []);
});

/** The response "Unknown command", status 0x81, in place of another. */
function refusalOf(response: Buffer): Buffer {
  const words = 'Unknown command';
  const header = Buffer.from(response.subarray(0, 24));
  header[4] = 0;
  header.writeUInt16BE(0x81, 6);
  header.writeUInt32BE(words.length, 8);
  return Buffer.concat([header, Buffer.from(words)]);
}

/** The key under which a session's count is kept. */
function keyOf(id: string): string {
  return createHash('sha256').update(id).digest('base64url').slice(0, 32);
}

/** Starts sessions until the server takes no more. */
async function fill(t: Test, { port }: Memcached): Promise<void> {
  const counters = openCounters(t, [port]);
  for (;;) {
    const started = await Promise.allSettled(Array.from({ length: 1000 }, () => counters.start(draw, soon())));
    if (started.some(({ status }) => status === 'rejected')) return;
  }
}
