import dns from 'node:dns';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { setImmediate } from 'node:timers/promises';
import { queryObjects } from 'node:v8';
import { test, type Test } from 'tap';
import { Client } from '../../src/memcached/client.ts';
import { Call, Connection } from '../../src/memcached/connection.ts';
import { create, increment, type Operation } from '../../src/memcached/protocol.ts';
import { realRuntime } from '../../src/memcached/runtime.ts';
import { readLines, start, until } from '../../tools/processes.ts';
import { randomFrom } from '../support/clock.ts';
import { NAME, Network, SERVER } from '../support/network.ts';
import { TOUCH } from '../support/packets.ts';
import { listening } from '../support/web.ts';

// SEED=7 SIMULATIONS=1 repeats the simulation with that seed, SIMULATIONS=100000 searches for longer.
const { SEED = String(Math.floor(Math.random() * 1e9)), SIMULATIONS = '0' } = process.env;

await test('whatever befalls the store, in whatever order', async (t) => {
  const script = fileURLToPath(new URL('../support/search.ts', import.meta.url));
  const search = start(process.execPath, [...process.execArgv, script, SEED, SIMULATIONS]);
  const lines: string[] = [];
  readLines(search, (line) => lines.push(line));
  await once(search, 'close');
  t.equal(search.exitCode, 0, lines.join('\n'));
  t.comment(lines.at(-1));
});

const KEY = 'k'.repeat(32);
const ADDRESSES = ['192.0.2.1', '192.0.2.2'];

interface Options {
  username?: string;
  password?: string;
  addresses?: string[];
  random?: number;
}

/** A client that is open, and a simulated network on which all is well. */
class Scene {
  readonly network: Network;
  readonly client: Client;
  readonly lines: string[] = [];
  /** How many TOUCHes were written. */
  touches = 0;
  /** When attempts began. */
  readonly attempts: number[] = [];

  constructor(t: Test, { username, password = 'secret', addresses, random = 0.5 }: Options = {}) {
    this.network = new Network(() => random, username && `\0${username}\0${password}`, addresses);
    this.network.observer = {
      attempted: () => this.attempts.push(this.network.clock.now),
      wrote: (_, requests) => (this.touches += requests.filter(({ opcode }) => opcode === TOUCH).length),
    };
    const server = { ...SERVER, ...(username ? { username, password } : {}) };
    this.client = new Client(server, this.network.runtime);
    this.open();
    t.teardown(() => this.client.close());
  }

  /** One in which there is a connection, if there can be. */
  static async ready(t: Test, options?: Options): Promise<Scene> {
    const scene = new Scene(t, options);
    await scene.run(100);
    return scene;
  }

  open(): void {
    this.client.open({ info: (line) => this.lines.push(line), warn: (line) => this.lines.push(line) });
  }

  run(milliseconds: number): Promise<void> {
    return this.network.clock.run(milliseconds);
  }

  /** Gives what a call gives or throws. */
  ask(operation: Operation = create(3600), key = KEY, patience = 1000): Promise<unknown> {
    return this.client.call(operation, key, this.network.clock.now + patience).catch((error: unknown) => error);
  }

  /** The same, within so many milliseconds. */
  async call(operation?: Operation, key?: string, within = 20): Promise<unknown> {
    const settled = this.ask(operation, key);
    await this.run(within);
    return Promise.race([settled, Promise.resolve('not settled')]);
  }
}

await test('a refused login is that of a new add-on for five minutes, if it has never worked', async (t) => {
  const scene = new Scene(t, { username: 'app' });
  const { network, lines } = scene;
  network.server.conditions.login = 'refused';
  await scene.run(5);
  t.match(await scene.call(), { code: 'WARMING_UP', message: `${NAME}: it refuses the login` });
  await scene.run(299_900);
  t.match(await scene.call(), { code: 'WARMING_UP' });
  await scene.run(5100);
  t.match(await scene.call(), { code: 'LOGIN_REFUSED' });
  const refused = `${NAME} is not available: it refuses the login: "Auth failure", status 0x20. `;
  t.match(lines[0], `${refused}The login of a new add-on takes up to three minutes to work`);
  t.match(lines[1], `${refused}Check its username and password. MemCachier disables`);
  t.match(lines[1], /until "heroku addons:open memcachier" enables it again$/);
  t.equal(lines.length, 2, 'one line for each code');
});

await test('a refused login is told of at once, whatever other addresses the name has', async (t) => {
  const scene = new Scene(t, { username: 'app', addresses: [...ADDRESSES, '192.0.2.3', '192.0.2.4'] });
  scene.network.server.conditions.login = 'refused';
  t.match(await scene.call(), { code: 'WARMING_UP' });
  t.matchOnly(scene.lines, [/ is not available: it refuses the login: /]);
});

await test('a login that has worked is not warming up when it is refused', async (t) => {
  const scene = await Scene.ready(t, { username: 'app' });
  t.equal(await scene.call(), 1);
  scene.network.server.conditions.login = 'revoked';
  t.match(await scene.call(increment(60)), { code: 'LOGIN_REFUSED' });
  t.matchOnly(scene.lines, [/is not available: it refuses the login/], 'which is logged, though nobody else waits');
  scene.network.server.conditions.login = 'well';
  await scene.run(300);
  t.equal(await scene.call(increment(60)), 2);
  t.matchOnly(scene.lines.slice(1), [/is available again$/]);
  scene.network.server.conditions.login = 'revoked';
  scene.network.open[0]?.on('data', () => scene.client.close());
  t.match(await scene.call(increment(60)), { code: 'LOGIN_REFUSED' }, 'also if the client is closed in the same turn');
});

await test('a server that refuses is tried ever less often between the calls of those who ask', async (t) => {
  const scene = new Scene(t, { username: 'app' });
  const { conditions } = scene.network.server;
  for (const [code, refusal] of [
    ['WARMING_UP', { login: 'refused' }],
    ['LOGIN_REFUSED', { login: 'refused' }],
    ['LOGIN_UNSUPPORTED', { login: 'unknown' }],
    ['NOT_MEMCACHED', { speaks: 'too many' }],
  ] as const) {
    Object.assign(conditions, refusal);
    for (let n = 0; n < 20; n += 1) t.match(await scene.call(create(60), KEY, 2500), { code });
    const { length } = scene.attempts.splice(0);
    t.ok(length >= 40 && length <= 80, `${length} attempts in 50 s`);
    await scene.run(300_000);
    scene.attempts.length = 0;
  }
});

await test('attempts begin every 200 ms, half of it more or less, while somebody asks', async (t) => {
  for (const random of [0, 0.5, 0.999]) {
    const scene = new Scene(t, { random });
    scene.network.reach().connect = 'silent';
    for (let n = 0; n < 40; n += 1) await scene.call(create(60), KEY, 50);
    const pauses = scene.attempts.slice(1).map((at, n) => at - (scene.attempts[n] ?? 0));
    // No second attempt begins before the first has been silent for 200 ms.
    t.strictSame(new Set(pauses), new Set([random > 0.5 ? 300 : 200]));
  }
});

await test('attempts that fail at once', async (t) => {
  const scene = new Scene(t, { random: 0 });
  scene.network.reach().connect = 'refuse';
  for (let n = 0; n < 20; n += 1) await scene.call(create(60), KEY, 50);
  t.strictSame(scene.attempts, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]);

  const slow = new Scene(t, { random: 0.999 });
  slow.network.reach().connect = 'refuse';
  t.match(await slow.call(), { code: 'UNAVAILABLE' });
  slow.network.heal();
  await slow.run(180);
  t.equal(await slow.call(), 1, 'a call makes one at once, 200 ms after the last');

  const alone = new Scene(t);
  alone.network.reach().connect = 'refuse';
  await alone.run(60_000);
  t.ok(alone.attempts.length < 20, `${alone.attempts.length} attempts in a minute while nobody has ever asked`);
});

await test('while nobody asks, each address of a name is tried before attempts become rare', async (t) => {
  const scene = new Scene(t, { addresses: [...ADDRESSES, '192.0.2.3'] });
  for (const address of ADDRESSES) scene.network.reach(address).connect = 'refuse';
  await scene.run(2000);
  t.strictSame(scene.attempts, [0, 200, 400]);
});

await test('who opens a client again does not wait for the end of a long pause', async (t) => {
  // 4 s and 50 ms after the last attempt.
  for (const milliseconds of [60_000, 61_050]) {
    const scene = new Scene(t);
    scene.network.reach().connect = 'refuse';
    await scene.run(milliseconds);
    scene.client.close();
    scene.network.heal();
    scene.attempts.length = 0;
    scene.open();
    await scene.run(200);
    t.equal(scene.attempts.length, 1);
  }
});

await test('a store at a distance is connected to once', async (t) => {
  const scene = new Scene(t, { username: 'app' });
  Object.assign(scene.network.conditions, { up: 75, down: 75 });
  t.equal(await scene.call(create(60), KEY, 600), 1);
  t.strictSame(scene.attempts, [0]);
});

await test('a call that was not written yet goes out on the next connection', async (t) => {
  const scene = new Scene(t);
  await scene.run(5);
  const called = scene.ask();
  scene.network.open[0]?.break('read ECONNRESET');
  await scene.run(250);
  t.equal(await called, 1);
  t.strictSame(scene.lines, [], 'nobody was owed a response');
  t.equal(scene.attempts.length, 2);
});

await test('who comes after a connection was lost waits for the next one', async (t) => {
  const scene = new Scene(t);
  Object.assign(scene.network.conditions, { up: 50, down: 50 });
  t.equal(await scene.call(create(60), KEY, 400), 1);
  const lost = scene.call(increment(60), KEY, 20);
  await scene.run(10);
  scene.network.open[0]?.break('read ECONNRESET');
  t.match(await lost, { code: 'UNAVAILABLE', message: /: read ECONNRESET$/ });
  await scene.run(40);
  t.ok(Number(await scene.call(increment(60), KEY, 400)) > 1);
  t.matchOnly(scene.lines, [/is not available: read ECONNRESET$/, /is available again$/]);
});

await test('a response that was not asked for costs the connection, and is told', async (t) => {
  const scene = await Scene.ready(t);
  scene.network.server.tampering = 'double';
  const other = scene.ask(create(60), 'o'.repeat(32));
  const told = /it sent a response to INCREMENT with opaque 3339, which was not due$/;
  t.match(await scene.call(), { code: 'UNAVAILABLE', message: told });
  t.equal(await other, 1, 'what came before it counts');
  t.matchOnly(scene.lines, [told]);
});

await test('a response that came just before the connection was lost does not make the server available again', async (t) => {
  const scene = await Scene.ready(t);
  const first = scene.ask(create(60), 'f'.repeat(32));
  const [socket] = scene.network.open;
  socket?.on('data', () => socket.break('read ECONNRESET'));
  t.match(await scene.call(), { code: 'UNAVAILABLE' });
  t.equal(await first, 1);
  t.matchOnly(scene.lines, [/is not available: read ECONNRESET$/]);
});

await test('an attempt that is lost just after the response to its probe does not become ready', async (t) => {
  const scene = new Scene(t);
  const [socket] = scene.network.open;
  socket?.on('data', () => socket.break('read ECONNRESET'));
  await scene.run(300);
  t.equal(await scene.call(create(60)), 1);
  t.matchOnly(scene.lines, [/is not available: read ECONNRESET$/, /is available again$/]);
});

await test('a login in quotes is named when it is refused', async (t) => {
  const quoted = /status 0x20\. The username or the password is in quotes, which are sent as a part of it$/;
  for (const [username, password, advice] of [
    ['"app"', 'secret', quoted],
    ['app', "'secret'", quoted],
    ['app', '"s"ecret', /The login of a new add-on/],
    ['app', 'secre"t"', /The login of a new add-on/],
  ] as const) {
    const scene = new Scene(t, { username, password });
    scene.network.server.conditions.login = 'refused';
    await scene.run(100);
    t.matchOnly(scene.lines, [advice], `${username} ${password}`);
  }
});

await test('half a login is none', async (t) => {
  const scene = await Scene.ready(t, { username: 'app', password: '' });
  t.matchOnly(scene.lines, [/requires a login, and none is set/]);
});

for (const [username, change, code, words] of [
  [undefined, { isLoginRequired: true }, 'LOGIN_REQUIRED', /none is set: "Auth failure", status 0x20$/],
  ['app', { login: 'unknown' }, 'LOGIN_UNSUPPORTED', /has no logins, but one is set: "Unknown command", status 0x81$/],
  ['app', { login: 'incomplete' }, 'UNAVAILABLE', /does not complete the login: "Continue", status 0x21$/],
  [undefined, { speaks: 'too many' }, 'NOT_MEMCACHED', /it sent "ERROR Too many open connections\\r\\n"$/],
  [undefined, { speaks: 'text' }, 'NOT_MEMCACHED', /it sent "ERROR\\r\\n"$/],
  ['app', { speaks: 'text' }, 'NOT_MEMCACHED', /it sent "ERROR\\r\\n"$/],
  [undefined, { speaks: 'tls' }, 'NOT_MEMCACHED', /it sent "\\u0015\\u0003\\u0003\\u0000/],
] as const) {
  const login = username ? 'a login' : 'no login';
  await test(`what the server is like is told at once: ${login}, ${JSON.stringify(change)}`, async (t) => {
    const scene = new Scene(t, username ? { username } : {});
    Object.assign(scene.network.server.conditions, change);
    t.match(await scene.call(), { code, message: words });
    t.matchOnly(scene.lines, [words]);
  });
}

await test('refusals are logged by their kind, once a minute, and those of TOUCH once', async (t) => {
  const scene = await Scene.ready(t);
  const { conditions } = scene.network.server;
  t.equal(await scene.call(), 1);
  conditions.store = 'full';
  for (let n = 0; n < 10; n += 1) {
    const message = `${NAME}: it refuses INCREMENT: "Out of memory", status 0x82`;
    t.match(await scene.call(create(60), `${n}`.padEnd(32, '-')), { code: 'COMMAND_REFUSED', message });
  }
  t.strictSame(scene.lines.splice(0), [`${NAME} refuses INCREMENT: "Out of memory", status 0x82`]);
  conditions.touch = 'refused';
  t.equal(await scene.call(increment(3600)), 2, 'the greeting is counted');
  t.matchOnly(scene.lines.splice(0), [
    /refuses TOUCH: "Unknown command", status 0x81\. Sessions in use no longer outlive/,
  ]);
  scene.network.server.items.set('n'.repeat(32), { value: 'text', expires: Infinity });
  await scene.call(increment(60), 'n'.repeat(32));
  t.matchOnly(scene.lines.splice(0), [/refuses INCREMENT: "Non-numeric .*", status 0x6$/], 'another kind at once');
  await scene.run(60_000);
  scene.client.close();
  scene.open();
  await scene.run(300);
  t.equal(await scene.call(increment(60)), 3);
  await scene.call(create(60), 'another'.padEnd(32, '-'));
  t.matchOnly(scene.lines, [/refuses INCREMENT: "Out of memory"/], 'not TOUCH again, though it was closed and opened');
  conditions.touch = 'hangs up';
  for (let n = 0; n < 3; n += 1) {
    t.equal(await scene.call(increment(60)), 4 + n);
    await scene.run(300);
  }
  t.equal(scene.lines.length, 1, 'nor is a hang-up');
  t.equal(scene.touches, 6, 'it is sent each time, since it was answered once');
});

await test('a refusal of TOUCH is logged whatever its status', async (t) => {
  const scene = new Scene(t);
  t.equal(await scene.call(), 1);
  scene.network.server.conditions.store = 'busy';
  t.match(await scene.call(increment(60)), { code: 'COMMAND_REFUSED' });
  t.matchOnly(scene.lines, [/refuses INCREMENT: .*, status 0x85$/, /refuses TOUCH: .*, status 0x85\. Sessions in use/]);
});

for (const [touch, pause] of [
  ['hangs up', 0],
  ['silent', 1030],
] as const) {
  await test(`TOUCH is no longer sent to a server that ${touch === 'silent' ? 'is silent' : touch} at it twice`, async (t) => {
    const scene = await Scene.ready(t);
    t.equal(await scene.call(), 1);
    scene.network.server.conditions.touch = touch;
    for (let n = 0; n < 5; n += 1) {
      t.equal(await scene.call(increment(60)), 2 + n, 'greetings are still counted');
      await scene.run(pause);
    }
    t.equal(scene.touches, 2);
    const line = `${NAME} does not answer TOUCH. Sessions in use no longer outlive`;
    t.matchOnly(scene.lines, [line], 'nobody was owed a response');
  });
}

await test('nor to one that answers only what comes after it', async (t) => {
  const scene = await Scene.ready(t);
  t.equal(await scene.call(), 1);
  scene.network.server.conditions.touch = 'silent';
  const failed: number[] = [];
  for (let n = 0; n < 20; n += 1) {
    if ((await scene.call(increment(60))) instanceof Error) failed.push(n);
    await scene.run(300);
  }
  t.strictSame(failed, [1, 3], 'a greeting behind an unanswered TOUCH fails, twice');
  t.equal(scene.touches, 4);
  t.matchOnly(
    scene.lines.filter((line) => line.includes('TOUCH')),
    [/does not answer TOUCH\. Sessions in use/],
  );
});

await test('a close of our own is no failure at TOUCH', async (t) => {
  const scene = await Scene.ready(t);
  t.equal(await scene.call(), 1);
  scene.network.server.conditions.touch = 'silent';
  for (let n = 0; n < 3; n += 1) {
    t.equal(await scene.call(increment(3600)), 2 + n);
    scene.client.close();
    scene.open();
    await scene.run(300);
  }
  t.equal(scene.touches, 3);
  t.strictSame(scene.lines, []);
});

await test('a name whose address is another is logged', async (t) => {
  const scene = await Scene.ready(t, { addresses: ADDRESSES });
  t.equal(await scene.call(), 1);
  scene.network.reach('192.0.2.1').connect = 'refuse';
  for (const socket of scene.network.open) socket.break('read ECONNRESET');
  t.equal(await scene.call(increment(60), KEY, 400), 2, 'nobody notices');
  t.strictSame(scene.lines, [`${NAME} is at 192.0.2.2 now, and was at 192.0.2.1`]);
});

await test('calls wait for a slow attempt, although the one beside it fails', async (t) => {
  const scene = new Scene(t, { addresses: ADDRESSES });
  scene.network.reach('192.0.2.1').slow = 300;
  scene.network.reach('192.0.2.2').connect = 'refuse';
  t.equal(await scene.call(create(60), KEY, 950), 1);
  t.strictSame(scene.lines, []);

  const dead = new Scene(t, { addresses: ADDRESSES });
  dead.network.reach('192.0.2.1').connect = 'silent';
  dead.network.reach('192.0.2.2').connect = 'refuse';
  t.match(await dead.call(create(60), KEY, 990), 'not settled');
  t.match(await dead.call(create(60), KEY, 40), { code: 'UNAVAILABLE' }, 'but no longer than a second');
});

await test('an address that the name no longer has is not tried', async (t) => {
  const scene = await Scene.ready(t, { addresses: ADDRESSES });
  for (const address of ADDRESSES) scene.network.reach(address).connect = 'refuse';
  for (const socket of scene.network.open) socket.break('read ECONNRESET');
  t.match(await scene.call(create(60), KEY, 400), { code: 'UNAVAILABLE' });
  scene.network.addresses.delete('192.0.2.1');
  scene.network.heal();
  const picked: unknown[] = [];
  scene.network.observer = { picked: ({ address }) => picked.push(address) };
  await scene.run(400);
  t.strictSame(picked, ['192.0.2.2']);
  t.equal(await scene.call(), 1);
});

await test('what the log says of a server that is silent', async (t) => {
  const scene = await Scene.ready(t);
  scene.network.conditions.stalled = 'down';
  const late = scene.ask(create(60), KEY, 300);
  await scene.run(330);
  t.match(await late, { code: 'UNAVAILABLE', message: /: no response in time$/ });
  t.strictSame(scene.lines, [], 'a late call fails alone');
  await scene.run(700);
  t.matchOnly(scene.lines, [/is not available: no response within a second$/]);
  t.match(await scene.call(), { message: /: no response within a second$/ }, 'it fails at once');
  t.equal(scene.client.failingFor(), 50);
  scene.network.heal();
  await scene.run(500);
  t.equal(await scene.call(), 2, 'the late one was counted');
  t.equal(scene.client.failingFor(), 0);
});

await test('a response counts, whatever becomes of its connection', async (t) => {
  const scene = await Scene.ready(t);
  scene.network.server.tampering = 'double';
  t.equal(await scene.call(), 1);
  t.equal(await scene.call(increment(60), KEY, 400), 2);
  t.strictSame(scene.lines, [], 'nobody was owed a response');
  await scene.run(50);
  t.equal(scene.network.clock.pending, 0, 'a client that has nothing to do sets no timer');
  scene.network.open[0]?.on('data', () => scene.client.close());
  t.equal(await scene.call(increment(60)), 3, 'so it does if the client is closed in the same turn');
  await scene.run(25);
  t.equal(scene.network.clock.pending, 0, 'nor does one that is closed');
  scene.client.close();
  t.match(await scene.call(), { code: 'UNAVAILABLE', message: /: its client is closed$/ });
});

await test('who comes after a quiet time is served, though an attempt from before the return is silent', async (t) => {
  for (const { calls, after, way } of [
    { calls: 1, after: 250, way: 1 },
    { calls: 2, after: 250, way: 1 },
    { calls: 1, after: 900, way: 40 },
  ]) {
    const scene = new Scene(t);
    scene.network.reach().connect = 'silent';
    await scene.run(20_000);
    const { length } = scene.attempts;
    while (scene.attempts.length === length) await scene.run(10);
    scene.network.heal();
    Object.assign(scene.network.conditions, { up: way, down: way });
    if (calls > 1) t.match(await scene.call(), { code: 'UNAVAILABLE' }, 'just after the attempt began, a call fails');
    await scene.run(after - scene.network.clock.now + (scene.attempts.at(-1) ?? 0));
    t.equal(await scene.call(create(60), KEY, 20 + 6 * way), 1);
  }
});

await test('who comes after a quiet time waits for an attempt that is making progress', async (t) => {
  const scene = new Scene(t);
  scene.network.reach().connect = 'silent';
  await scene.run(20_000);
  scene.network.heal();
  Object.assign(scene.network.conditions, { up: 75, down: 75 });
  const { length } = scene.attempts;
  while (scene.attempts.length === length) await scene.run(10);
  // It has connected by then, and asked about a key.
  await scene.run(240);
  t.equal(await scene.call(create(60), KEY, 220), 1);
  t.equal(scene.attempts.length, length + 1);
});

await test('a name that is not looked up in time', async (t) => {
  const scene = new Scene(t, { addresses: ADDRESSES });
  scene.network.conditions.dns = 'hangs';
  const called = scene.ask(create(60), KEY, 300);
  await scene.run(1030);
  t.match(await called, { code: 'UNAVAILABLE', message: /: no connection in time$/ });
  t.matchOnly(scene.lines, [/is not available: no connection within a second$/]);
  scene.network.heal();
  await scene.run(100);
  t.equal(await scene.call(), 1, 'the first address is tried first, whatever became of earlier look-ups');
  t.equal(scene.network.open[0]?.address, '192.0.2.1');
});

await test('at a distance, no response waits for another, and calls of one turn are one packet', async (t) => {
  const scene = new Scene(t);
  const { clock, conditions } = scene.network;
  Object.assign(conditions, { up: 5, down: 5 });
  const random = randomFrom(1);
  const took: number[] = [];
  await scene.run(100);
  // 400 a second, at random moments.
  for (let at = clock.now; took.length < 1000; at += -Math.log(1 - random()) / 0.4) {
    await scene.run(Math.max(0, at - clock.now));
    const asked = clock.now;
    void scene.client.call(increment(60), KEY, asked + 1000).then(() => took.push(clock.now - asked));
  }
  await scene.run(20);
  t.ok(Math.max(...took) <= 10.001, `${Math.max(...took)} ms, where a round trip takes 10`);
  const packets: number[] = [];
  scene.network.observer = { wrote: (_, requests) => packets.push(requests.length) };
  for (let n = 0; n < 20; n += 1) void scene.client.call(increment(60), KEY, clock.now + 1000);
  await scene.run(20);
  t.strictSame(packets, [40]);
});

await test('hundreds of faults leave nothing behind in memory', async (t) => {
  const kept = (): number => Number(queryObjects(Connection)) + Number(queryObjects(Call));
  const scene = await Scene.ready(t);
  const before = kept();
  const outcomes = new Set<unknown>();
  for (let fault = 0; fault < 100; fault += 1) {
    // A response has 32 bytes.
    for (const socket of scene.network.open) socket.breakAfter('down', fault % 32);
    outcomes.add(((await scene.call()) as { code?: string }).code);
    await scene.run(300);
    outcomes.add(typeof (await scene.call()));
  }
  t.strictSame(outcomes, new Set(['UNAVAILABLE', 'number']));
  t.ok(kept() - before < 10, `${kept()} connections and calls, ${before} before`);
});

/** The first line that the log of a real client says. */
async function firstLine(t: Test, host: string, port = 11_211): Promise<string> {
  const client = new Client({ host, port });
  t.teardown(() => client.close());
  const lines: string[] = [];
  client.open({ info: (line) => lines.push(line), warn: (line) => lines.push(line) });
  await until('the log says something', () => lines.length > 0);
  return String(lines[0]);
}

await test('a real server is reached by its name, at one address at a time', async (t) => {
  const server = createServer((socket: Socket) => socket.end('ERROR Too many open connections\r\n'));
  const port = await listening(t, server);
  const addresses = ['127.0.0.2', '127.0.0.1'].map((address) => ({ address, family: 4 }));
  t.intercept(dns.promises, 'lookup', { value: () => Promise.resolve(addresses) });
  const line = await firstLine(t, 'store.example', port);
  t.equal(line, `Memcached at store.example:${port} is not available: it sent "ERROR Too many open connections\\r\\n"`);
});

await test('a look-up that DNS does not answer is made once, and is not left behind by many', async (t) => {
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<never>((_resolve, fail) => (reject = fail));
  const lookUps = t.captureFn(() => promise);
  t.intercept(dns.promises, 'lookup', { value: lookUps });
  t.match(await firstLine(t, 'store.example'), /no connection within a second$/);
  t.equal(lookUps.calls.length, 1);
  reject(new Error('queryA ETIMEOUT store.example'));
});

await test('a look-up that ends after its socket was destroyed picks no address', async (t) => {
  const found = Promise.resolve([{ address: '127.0.0.1', family: 4 }]);
  t.intercept(dns.promises, 'lookup', { value: () => found });
  const pick = t.captureFn(() => '127.0.0.1');
  realRuntime('store.example', 1).connect(pick).destroy();
  await setImmediate();
  t.strictSame(pick.calls, []);
});

await test('what the log says of a host that cannot be reached', async (t) => {
  const value = (): Promise<never> => Promise.reject(new Error('getaddrinfo ENOTFOUND store.example'));
  t.intercept(dns.promises, 'lookup', { value });
  t.match(await firstLine(t, 'store.example'), /ENOTFOUND store\.example$/);
  t.match(await firstLine(t, '127.0.0.1', 1), /^Memcached at 127\.0\.0\.1:1 is not available: connect ECONNREFUSED/);
  t.match(await firstLine(t, '::1', 1), /^Memcached at \[::1\]:1 is not available: connect E/, 'with brackets');
});

await test('a fault of its own is not taken for a trouble of the server', async (t) => {
  const { runtime } = new Network(() => 0.5);
  const now = (): number => {
    throw new Error('a fault');
  };
  const client = new Client(SERVER, { ...runtime, now });
  await t.rejects(client.call(increment(60), KEY, 1000), { name: 'Error', message: /^a fault$/ });
});
